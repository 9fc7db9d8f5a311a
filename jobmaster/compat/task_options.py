"""What `@app.task(...)` may be told: which options there are, and which are refused or have no effect."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import timedelta
from typing import Any, Final

from jobmaster.compat.exceptions import NoEffectWarning
from jobmaster.errors import ConfigurationError
from jobmaster.options import read_exceptions

DEFAULT_RETRIES: Final = 3
DEFAULT_RETRY_DELAY: Final = 180
LONGEST_BACKOFF: Final = 600

# Options whose absence would change what a task does: refused, with what to do instead.
REFUSED: Final = {
    "abstract": "Base classes of tasks are not supported yet.",
    "base": "Base classes of tasks are not supported yet; put what they share into a function.",
    "pydantic": "Annotate the parameters with the models: arguments are restored from the annotations.",
    "rate_limit": "Rate limits are not supported yet; the task would run without one.",
    "acks_on_failure_or_timeout": "A failed task is final here; raise Reject(requeue=True) in it to run it again.",
    "exchange": "There are lanes and no exchanges: give queue=...",
    "routing_key": "There are lanes and no exchanges: give queue=...",
}
# Options with one value that describes how JobMaster works anyway.
ALWAYS_SO: Final[dict[str, object]] = {
    "acks_on_failure_or_timeout": True,
    "pydantic": False,
    "serializer": "json",
    "shared": True,
    "store_errors_even_if_ignored": True,
    "track_started": True,
    "typing": True,
}
NO_EFFECT: Final = frozenset(
    {"compression", "lazy", "reject_on_worker_lost", "resultrepr_maxsize", "send_events", "throws", "trail"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskOptions:
    """The options of one task, checked. None: as the app's settings say.

    `max_retries`: retries that `self.retry()` allows, None for any number; `default_retry_delay`: seconds between
    them. `autoretry_for`: exception types after which the task is retried by itself; `dont_autoretry_for`: those
    among them after which it is not; `retry_backoff`: seconds before the first such retry, doubled for each further
    one (True: 1), up to `retry_backoff_max`, and drawn below that with `retry_jitter`; `retry_kwargs`: `max_retries`
    and `countdown` of such retries. `acks_late`: run again when a worker dies; False: at most once. `time_limit`,
    `soft_time_limit`: limits of one run in seconds. `ignore_result`: what the task returns is not kept. `expires`:
    seconds, or a moment, after which it does not start.
    """

    name: str | None = None
    queue: object | None = None
    priority: int | None = None
    max_retries: int | None = DEFAULT_RETRIES
    default_retry_delay: float = DEFAULT_RETRY_DELAY
    autoretry_for: tuple[type[BaseException], ...] = ()
    dont_autoretry_for: tuple[type[BaseException], ...] = ()
    retry_backoff: float = 0
    retry_backoff_max: float = LONGEST_BACKOFF
    retry_jitter: bool = True
    retry_kwargs: Mapping[str, Any] = field(default_factory=dict)
    acks_late: bool | None = None
    time_limit: float | None = None
    soft_time_limit: float | None = None
    ignore_result: bool | None = None
    expires: Any = None


_KNOWN: Final = tuple(option.name for option in fields(TaskOptions))


def read_task_options(options: Mapping[str, Any], function: str) -> TaskOptions:
    """The options of `@app.task(...)`, checked.

    Raises:
        ConfigurationError: an option that there is not, or one whose absence would change what the task does.
    """
    given: dict[str, Any] = {}
    for name, value in options.items():
        if name in _KNOWN:
            given[name] = value
        elif value is not None and not _is_always_so(name, value):
            _tell(name, value, function)
    for name in ("autoretry_for", "dont_autoretry_for"):
        if name in given:
            given[name] = read_exceptions(given[name], name)
    for name in ("default_retry_delay", "time_limit", "soft_time_limit"):
        if isinstance(given.get(name), timedelta):
            given[name] = given[name].total_seconds()
    _check_retries(given.get("max_retries", 0), function)
    return TaskOptions(**given)


def _check_retries(value: object, function: str) -> None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
        raise ConfigurationError(
            f"Task {function!r}: max_retries is {value!r}, but it is a whole number from 0, or None for any number."
        )


def _is_always_so(name: str, value: object) -> bool:
    return name in ALWAYS_SO and value == ALWAYS_SO[name]


def _tell(name: str, value: object, function: str) -> None:
    what = f"Task {function!r}: the option {name}={value!r}"
    if name in REFUSED:
        raise ConfigurationError(f"{what} is not supported. {REFUSED[name]}")
    if name in NO_EFFECT or name in ALWAYS_SO:
        so = f": JobMaster always works as with {ALWAYS_SO[name]!r}" if name in ALWAYS_SO else ""
        warnings.warn(f"{what} has no effect{so}. Leave it out.", NoEffectWarning, stacklevel=5)
        return
    close = difflib.get_close_matches(name, (*_KNOWN, "bind"), n=1)
    hint = f"Did you mean {close[0]!r}?" if close else "See docs/migration.md for the options that there are."
    raise ConfigurationError(f"Task {function!r} has no option {name!r}. {hint}")
