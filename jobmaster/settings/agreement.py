"""Which settings all processes of a cluster must share. What is done about it: `jobmaster.agreement`."""

from __future__ import annotations

from jobmaster.settings.values import RULES

AGREED = tuple(name for name, rule in RULES.items() if rule.agreed)
