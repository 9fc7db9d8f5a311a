"""A later release of JobMaster, as far as the schema goes: three more migrations.

Its processes are those of today's code, started with `environment()`: `sitecustomize` then says that they know more.
"""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent
VERSIONS = FOLDER / "versions"

EXPANDED, CONTRACTED = "0004", "0005"
"""The schema after all that older code survives, and after the rest."""


def environment(path: str) -> dict[str, str]:
    """What a process of the later release has in its environment, besides. `path`: its PYTHONPATH otherwise."""
    return {"PYTHONPATH": f"{FOLDER}:{path}"}
