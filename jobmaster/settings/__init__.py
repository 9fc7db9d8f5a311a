"""Settings of a cluster: what they are, where they may be written, and what is refused.

`resolve()` reads all sources and returns `ResolvedSettings`: the checked `Settings`, and the origin of each value.
A name's module is imported when the name is first used: a producer pays for what it uses.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    # The same names once more, for type checkers; a test compares the two lists.
    from jobmaster.settings.agreement import AGREED as AGREED
    from jobmaster.settings.arguments import Duration as Duration
    from jobmaster.settings.arguments import SettingArguments as SettingArguments
    from jobmaster.settings.declarations import Agent as Agent
    from jobmaster.settings.declarations import Worker as Worker
    from jobmaster.settings.dsn import Dsn as Dsn
    from jobmaster.settings.dsn import parse_dsn as parse_dsn
    from jobmaster.settings.dsn import redacted as redacted
    from jobmaster.settings.dsn import require_driver as require_driver
    from jobmaster.settings.dsn import require_store as require_store
    from jobmaster.settings.files import app_in_files as app_in_files
    from jobmaster.settings.names import DEFAULT_LANE as DEFAULT_LANE
    from jobmaster.settings.names import STANDALONE_AGENT as STANDALONE_AGENT
    from jobmaster.settings.names import check_cluster_id as check_cluster_id
    from jobmaster.settings.names import check_lane as check_lane
    from jobmaster.settings.names import check_worker_name as check_worker_name
    from jobmaster.settings.resolution import ResolvedSettings as ResolvedSettings
    from jobmaster.settings.resolution import resolve as resolve
    from jobmaster.settings.validation import archive_faults as archive_faults
    from jobmaster.settings.values import Durability as Durability
    from jobmaster.settings.values import Settings as Settings
    from jobmaster.settings.values import Survives as Survives

_NAMES_BY_MODULE: dict[str, tuple[str, ...]] = {
    "agreement": ("AGREED",),
    "arguments": ("Duration", "SettingArguments"),
    "declarations": ("Agent", "Worker"),
    "dsn": ("Dsn", "parse_dsn", "redacted", "require_driver", "require_store"),
    "files": ("app_in_files",),
    "names": ("DEFAULT_LANE", "STANDALONE_AGENT", "check_cluster_id", "check_lane", "check_worker_name"),
    "resolution": ("ResolvedSettings", "resolve"),
    "validation": ("archive_faults",),
    "values": ("Durability", "Settings", "Survives"),
}
_MODULE_OF = {name: module for module, names in _NAMES_BY_MODULE.items() for name in names}

if not TYPE_CHECKING:  # a type checker that saw `__getattr__` would take any misspelt name for a good one
    __all__ = [*_MODULE_OF]  # noqa: PLE0604 - the table above holds only strings

    def __getattr__(name: str) -> object:
        module = _MODULE_OF.get(name)
        if module is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(f"{__name__}.{module}"), name)
        globals()[name] = value
        return value
