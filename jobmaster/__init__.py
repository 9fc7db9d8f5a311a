"""Distributed background jobs: one master database as the truth, any number of fast agents, exact about what happened.

Everything that users need is a name of this package. A name's module is imported when the name is first used, so that
`import jobmaster` costs next to nothing in a program that only might enqueue a job.
"""

from __future__ import annotations

from importlib import import_module
from sys import modules
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    # The same names once more, for type checkers and editors; a test compares the two lists.
    from jobmaster.app import JobMaster as JobMaster
    from jobmaster.context import JobContext as JobContext
    from jobmaster.context import current_job as current_job
    from jobmaster.errors import ClusterArchived as ClusterArchived
    from jobmaster.errors import ClusterMismatch as ClusterMismatch
    from jobmaster.errors import ConfigurationError as ConfigurationError
    from jobmaster.errors import DuplicateJob as DuplicateJob
    from jobmaster.errors import Ignore as Ignore
    from jobmaster.errors import JobCancelled as JobCancelled
    from jobmaster.errors import JobFailed as JobFailed
    from jobmaster.errors import JobMasterError as JobMasterError
    from jobmaster.errors import MessageTooLarge as MessageTooLarge
    from jobmaster.errors import NotRegistered as NotRegistered
    from jobmaster.errors import OutcomeUnknown as OutcomeUnknown
    from jobmaster.errors import Reject as Reject
    from jobmaster.errors import ResultExpired as ResultExpired
    from jobmaster.errors import ResultTimeout as ResultTimeout
    from jobmaster.errors import Retry as Retry
    from jobmaster.errors import ScheduleConflict as ScheduleConflict
    from jobmaster.errors import ScheduleSyntaxError as ScheduleSyntaxError
    from jobmaster.errors import SchemaError as SchemaError
    from jobmaster.errors import SerializationError as SerializationError
    from jobmaster.errors import SoftTimeLimitExceeded as SoftTimeLimitExceeded
    from jobmaster.errors import StoreUnavailable as StoreUnavailable
    from jobmaster.errors import TimeLimitExceeded as TimeLimitExceeded
    from jobmaster.errors import WorkerLostError as WorkerLostError
    from jobmaster.model.backoff import Backoff as Backoff
    from jobmaster.model.message_data import MessageData as MessageData
    from jobmaster.model.message_data import Metadata as Metadata
    from jobmaster.model.states import CancelOutcome as CancelOutcome
    from jobmaster.model.states import JobStatus as JobStatus
    from jobmaster.model.states import Priority as Priority
    from jobmaster.profiles import ScheduleProfile as ScheduleProfile
    from jobmaster.result import Result as Result
    from jobmaster.settings.declarations import Agent as Agent
    from jobmaster.settings.declarations import Worker as Worker
    from jobmaster.task import Job as Job
    from jobmaster.task import Task as Task
    from jobmaster.views import JobQuery as JobQuery
    from jobmaster.views import ScheduleQuery as ScheduleQuery
    from jobmaster.views import ScheduleState as ScheduleState

__version__ = "0.1.0"

_NAMES_BY_MODULE: dict[str, tuple[str, ...]] = {
    "app": ("JobMaster",),
    "settings.declarations": ("Agent", "Worker"),
    "context": ("JobContext", "current_job"),
    "result": ("Result",),
    "task": ("Job", "Task"),
    "views": ("JobQuery", "ScheduleQuery", "ScheduleState"),
    "profiles": ("ScheduleProfile",),
    "model.message_data": ("MessageData", "Metadata"),
    "model.backoff": ("Backoff",),
    "model.states": ("CancelOutcome", "JobStatus", "Priority"),
    "errors": (
        "ClusterArchived",
        "ClusterMismatch",
        "ConfigurationError",
        "DuplicateJob",
        "Ignore",
        "JobCancelled",
        "JobFailed",
        "JobMasterError",
        "MessageTooLarge",
        "NotRegistered",
        "OutcomeUnknown",
        "Reject",
        "ResultExpired",
        "ResultTimeout",
        "Retry",
        "ScheduleConflict",
        "ScheduleSyntaxError",
        "SchemaError",
        "SerializationError",
        "SoftTimeLimitExceeded",
        "StoreUnavailable",
        "TimeLimitExceeded",
        "WorkerLostError",
    ),
}
_MODULE_OF = {name: module for module, names in _NAMES_BY_MODULE.items() for name in names}

if not TYPE_CHECKING:  # a type checker that saw `__getattr__` would take any misspelt name for a good one
    __all__ = ["__version__", *_MODULE_OF]  # noqa: PLE0604 - the table above holds only strings

    def __getattr__(name: str) -> object:
        module = _MODULE_OF.get(name)
        if module is None:
            # Python itself then says what was probably meant.
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name, obj=modules[__name__])
        value = getattr(import_module(f"{__name__}.{module}"), name)
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
