"""What `apply_async` may be told, as the options of a JobMaster call."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, Final, cast

from jobmaster.compat.exceptions import NoEffectWarning
from jobmaster.compat.routing import lane_of, priority_of
from jobmaster.errors import ConfigurationError
from jobmaster.options import CallOptions

_WORKFLOW: Final = "Workflows (link, chain, group, chord) are not supported yet."
REFUSED: Final = {
    "link": _WORKFLOW,
    "link_error": _WORKFLOW,
    "chain": _WORKFLOW,
    "chord": _WORKFLOW,
    "group_id": _WORKFLOW,
    "exchange": "There are lanes and no exchanges: give queue=...",
    "routing_key": "There are lanes and no exchanges: give queue=...",
    "headers": "Give what the task needs as an argument.",
    "ignore_result": "Give ignore_result to the task: @app.task(ignore_result=True).",
}
ALWAYS_SO: Final[dict[str, object]] = {"add_to_parent": True, "retry": True, "serializer": "json"}
NO_EFFECT: Final = frozenset(
    {"add_to_parent", "argsrepr", "compression", "connection", "kwargsrepr", "producer", "retry", "retry_policy"}
    | {"serializer", "shadow", "timeout"}
)
_READ: Final = ("countdown", "eta", "expires", "priority", "queue", "soft_time_limit", "task_id", "time_limit")


def call_options(options: Mapping[str, Any], *, default_queue: str, zone: tzinfo) -> CallOptions:
    """The options of one `apply_async`. Moments without a time zone are meant in `zone`.

    Raises:
        ConfigurationError: an option that there is not or that is not supported; the text says what to do instead.
    """
    for name, value in options.items():
        if name not in _READ:
            _tell(name, value)
    readers: dict[str, Callable[[Any], tuple[str, object]]] = {
        "countdown": lambda value: ("delay", value),
        "eta": lambda value: ("at", moment_of(value, "eta", zone)),
        "expires": lambda value: ("expires", _expiry(value, zone)),
        "priority": lambda value: ("priority", priority_of(value)),
        "queue": lambda value: ("lane", lane_of(value, default_queue)),
        "soft_time_limit": lambda value: ("soft_timeout", value),
        "task_id": lambda value: ("job_id", value),
        "time_limit": lambda value: ("timeout", value),
    }
    given = [(name, value) for name, value in options.items() if name in readers and value is not None]
    return cast("CallOptions", dict(readers[name](value) for name, value in given))


def moment_of(value: object, name: str, zone: tzinfo) -> datetime:
    """An aware datetime, from a datetime or ISO text; without a time zone it is meant in `zone`.

    Raises:
        ConfigurationError: it is neither.
    """
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            raise ConfigurationError(f"{name} is {value!r:.60}, which is no moment. Give a datetime.") from None
    if not isinstance(value, datetime):
        raise ConfigurationError(f"{name} is {value!r:.60}, but it is a moment: a datetime.")
    return value if value.tzinfo is not None else value.replace(tzinfo=zone)


def _expiry(value: object, zone: tzinfo) -> datetime | float | timedelta:
    """Seconds from now, or a moment. One that is over stays so: the task never starts, as in Celery."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        value = timedelta(seconds=value)
    if isinstance(value, timedelta):
        return value if value > timedelta(0) else datetime.now(UTC) + value
    return moment_of(value, "expires", zone)


def _tell(name: str, value: object) -> None:
    if name in REFUSED:
        raise ConfigurationError(f"apply_async({name}=...) is not supported. {REFUSED[name]}")
    if name in NO_EFFECT:
        if name not in ALWAYS_SO or value != ALWAYS_SO[name]:
            warnings.warn(f"apply_async: the option {name}={value!r} has no effect.", NoEffectWarning, stacklevel=5)
        return
    close = difflib.get_close_matches(name, _READ, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else f" There are {', '.join(_READ)}."
    raise ConfigurationError(f"apply_async has no option {name!r}.{hint}")
