"""Seeds that have failed once. Each is (seed, configuration, what was wrong and who was to blame)."""

from __future__ import annotations

REGRESSIONS: list[tuple[int, str, str]] = []
