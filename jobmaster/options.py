"""What a call and a task may be told besides arguments: the options, their limits, and a frozen value of each."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal, TypedDict

import msgspec

from jobmaster.errors import ConfigurationError
from jobmaster.model.backoff import Backoff
from jobmaster.model.durations import as_timedelta, as_us
from jobmaster.model.ids import JobKey, parse_key
from jobmaster.model.states import Priority
from jobmaster.rules.storable import LATEST_US
from jobmaster.settings.names import check_cluster_id, check_lane

Duration = float | timedelta

LONGEST = timedelta(days=36_500)
MOST_RETRIES: Final = 1_000
LONGEST_JOB_ID: Final = 255
DURABILITIES: Final = ("agent", "master")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EARLIEST_US: Final = as_us(datetime(1, 1, 2, tzinfo=UTC) - _EPOCH)
"""Shown in any zone, it is a datetime still."""
_ALIASES: Final = {"countdown": "delay", "eta": "at", "queue": "lane"}


class CallOptions(TypedDict, total=False):
    """Options of one call: `hello.options(...)`, `hello.apply_async(...)`, `jm.scheduler.once_*`.

    `delay`: start at the earliest after this time (seconds or timedelta, by the store's clock); `at`: at this moment
    (aware datetime). `expires`: a job that has not started by then (seconds from now, timedelta, or a moment) fails
    with the reason "expired". `timeout`, `soft_timeout`: limits of one run. `metadata`: plain data kept beside the
    job. `job_id`: an id that the caller chose; the same id means the same job, so a repeat is safe.
    `durability="master"`: accepted only when the master database has it. `cluster`: the id of another cluster that
    this program has an app of; the job goes there. `transaction`: the job becomes part of this transaction of the
    caller's on the master's database, and exists only if it commits: a psycopg connection, a SQLAlchemy Connection or
    Session, `db.session` of Flask-SQLAlchemy (with `adelay` their async kinds). `countdown`, `eta` and `queue` are
    other spellings of `delay`, `at` and `lane`.
    """

    delay: Duration
    at: datetime
    lane: str
    priority: Priority | int | str
    metadata: Mapping[str, object]
    expires: Duration | datetime
    timeout: Duration
    soft_timeout: Duration
    max_retries: int
    job_id: str
    durability: Literal["agent", "master"]
    cluster: str
    transaction: object
    countdown: Duration
    eta: datetime
    queue: str


class TaskDefaults(TypedDict, total=False):
    """Options of `@jm.task(...)` and `@jm.handler(...)`: what all jobs of the task have, unless a call says otherwise.

    `retry`: how long to wait between attempts. `retry_on`: only these exception types are tried again;
    `give_up_on`: these never are. `timeout` and `soft_timeout`: limits of one run, seconds or timedelta, None for no
    limit. `acks_late=False`: at most once - the job is noted as started before it starts, and a lost worker fails it.
    `keep_result`: how long the result is kept, where that is shorter than the cluster's retention.
    """

    lane: str
    priority: Priority | int | str
    max_retries: int
    retry: Backoff
    retry_on: tuple[type[BaseException], ...]
    give_up_on: tuple[type[BaseException], ...]
    timeout: Duration | None
    soft_timeout: Duration | None
    metadata: Mapping[str, object]
    acks_late: bool
    keep_result: Duration | None
    durability: Literal["agent", "master"]


class TaskOptions(TaskDefaults, total=False):
    """`TaskDefaults`, and `name`: under which the task's jobs travel; `module.function` if not given."""

    name: str


_CALL_NAMES: Final = tuple(CallOptions.__annotations__)
_TASK_NAMES: Final = ("name", *TaskDefaults.__annotations__)


class CallPlan(msgspec.Struct, frozen=True):
    """The options of one call, checked. None means: as the task says.

    Either `due_us` is given or the store adds `delay_us` to its own clock; the same holds for `expires_us` and
    `expires_after_us`.
    """

    delay_us: int = 0
    due_us: int | None = None
    lane: str | None = None
    priority: int | None = None
    metadata: dict[str, object] | None = None
    expires_us: int | None = None
    expires_after_us: int | None = None
    timeout: float | None = None
    soft_timeout: float | None = None
    max_retries: int | None = None
    key: JobKey | None = None
    custom_id: str | None = None
    durability: str | None = None
    cluster: str | None = None
    transaction: object = None


PLAIN = CallPlan()
"""A call without options."""


def plan_call(options: Mapping[str, Any]) -> CallPlan:
    """The options of one call, checked and in the units of the engine.

    Raises:
        ConfigurationError: an option does not exist, contradicts another one or is out of its limits.
    """
    if not options:
        return PLAIN
    given = _known(options, _CALL_NAMES, "A call")
    if "delay" in given and "at" in given:
        raise ConfigurationError("A call has both delay and at (countdown, eta), and both say when. Give one of them.")
    plan: dict[str, Any] = {}
    for name, value in given.items():
        plan.update(_CALL_READERS[name](value))
    check_limits(plan.get("timeout"), plan.get("soft_timeout"), "A call")
    return CallPlan(**plan)


def known_task_options(options: Mapping[str, Any], what: str) -> dict[str, Any]:
    """The options of a task under their own names, without the aliases.

    Raises:
        ConfigurationError: an option does not exist or is given twice.
    """
    return _known(options, _TASK_NAMES, what)


def read_lane(value: object) -> str:
    """The lane as it is stored: the default lane is the empty string."""
    return check_lane(value)


def read_priority(value: object) -> int:
    """The number of a priority, given as Priority, number 1 to 5, or name.

    Raises:
        ConfigurationError: it is none of them.
    """
    if isinstance(value, str) and value.strip().upper().replace("-", "_") in Priority.__members__:
        return int(Priority[value.strip().upper().replace("-", "_")])
    if isinstance(value, int) and not isinstance(value, bool) and value in Priority._value2member_map_:
        return int(value)
    names = ", ".join(f"Priority.{priority.name}" for priority in Priority)
    raise ConfigurationError(f"priority is {value!r}, but there are only {names}. Give one of them.")


def read_limit(value: object, name: str) -> float | None:
    """A limit of a run in seconds; None: no limit.

    Raises:
        ConfigurationError: it is no duration, or not above zero.
    """
    if value is None:
        return None
    limit = as_timedelta(value, name)  # type: ignore[arg-type] # it checks the type itself
    if not timedelta(0) < limit <= LONGEST:
        raise ConfigurationError(
            f"{name} is {limit.total_seconds():g} s, but a run needs some time to run in. "
            "Give more than 0, or leave it out for the task's own limit."
        )
    return limit.total_seconds()


def read_retries(value: object) -> int:
    """How many further attempts there may be.

    Raises:
        ConfigurationError: it is no whole number from 0 to 1,000.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MOST_RETRIES:
        raise ConfigurationError(f"max_retries is {value!r}, but it must be a whole number from 0 to {MOST_RETRIES}.")
    return value


def read_metadata(value: object) -> dict[str, object]:
    """Metadata: a dict with text keys and plain values, or a `Metadata` bag.

    Raises:
        ConfigurationError: it is something else.
    """
    if not isinstance(value, dict) and callable(as_json := getattr(value, "to_json", None)):
        value = as_json()
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise ConfigurationError(f"metadata is {value!r}, but must be a dict with text as keys, like {{'tenant': 1}}.")
    try:
        plain: dict[str, object] = msgspec.msgpack.decode(msgspec.msgpack.encode(dict(value)))
        # What JSON would change (NaN, bytes, moments) is refused, because people and programs read it as JSON.
        fault = "" if msgspec.json.decode(msgspec.json.encode(plain)) == plain else "it is more than JSON can say"
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        plain, fault = {}, str(error)
    if fault:
        raise ConfigurationError(
            f"metadata cannot be stored ({fault}). It holds text, finite numbers, booleans, None, lists and dicts of "
            "them; other data belongs to the arguments."
        )
    return plain


def read_durability(value: object) -> str:
    """`"agent"` or `"master"`.

    Raises:
        ConfigurationError: it is none of them.
    """
    text = getattr(value, "value", value)
    if text not in DURABILITIES:
        raise ConfigurationError(
            f"durability is {value!r}, but a job is accepted by its 'agent' or only by the 'master'. Give one of them."
        )
    return str(text)


def read_kept(value: object) -> float | None:
    """How long a result is kept, in seconds; None: as long as its job.

    Raises:
        ConfigurationError: it is no duration, or below zero.
    """
    if value is None:
        return None
    kept = as_timedelta(value, "keep_result")  # type: ignore[arg-type] # it checks the type itself
    if not timedelta(0) <= kept <= LONGEST:
        raise ConfigurationError(f"keep_result is {kept.total_seconds():g} s, but a result is kept for 0 s or longer.")
    return kept.total_seconds()


def read_exceptions(value: object, name: str) -> tuple[type[BaseException], ...]:
    """Exception types: one, or several of them.

    Raises:
        ConfigurationError: something in it is no exception type.
    """
    types = value if isinstance(value, Iterable) and not isinstance(value, (str, bytes)) else (value,)
    found = tuple(types)
    if not all(isinstance(kind, type) and issubclass(kind, BaseException) for kind in found):
        raise ConfigurationError(f"{name} is {value!r}, but it holds exception types, such as ({name}=(OSError,)).")
    return found


def moment_us(value: object, name: str) -> int:
    """Microseconds since the epoch of an aware datetime.

    Raises:
        ConfigurationError: it is no datetime, has no time zone, or lies in no year of UTC.
    """
    if not isinstance(value, datetime):
        raise ConfigurationError(f"{name} is {value!r}, but it is a moment: an aware datetime.")
    if value.tzinfo is None or value.utcoffset() is None:
        raise ConfigurationError(
            f"{name} is {value.isoformat()}, which has no time zone, so that it means another moment on every machine. "
            "Write datetime(..., tzinfo=timezone.utc) or datetime.now(ZoneInfo('Europe/Berlin')) + ..."
        )
    micros = as_us(value - _EPOCH)
    if not _EARLIEST_US <= micros <= LATEST_US:
        raise ConfigurationError(
            f"{name} is {value.isoformat()}, which lies outside of the years 1 to 9999 of UTC. Give another moment."
        )
    return micros


def as_moment(micros: int) -> datetime:
    """The aware datetime (UTC) of microseconds since the epoch."""
    return _EPOCH + timedelta(microseconds=micros)


def _known(options: Mapping[str, Any], names: tuple[str, ...], what: str) -> dict[str, Any]:
    given: dict[str, Any] = {}
    for spelled, value in options.items():
        name = _ALIASES.get(spelled, spelled) if spelled in names or names is _CALL_NAMES else spelled
        if name not in names:
            close = difflib.get_close_matches(spelled, names, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else f" There are {', '.join(names)}."
            raise ConfigurationError(f"{what} has no option {spelled!r}.{hint}")
        if name in given:
            raise ConfigurationError(f"{what} has the option {name!r} twice, under two spellings. Give one of them.")
        given[name] = value
    return given


def check_limits(hard: float | None, soft: float | None, what: str) -> None:
    """A soft limit comes before the hard one.

    Raises:
        ConfigurationError: it does not.
    """
    if hard is not None and soft is not None and soft >= hard:
        raise ConfigurationError(
            f"{what} has soft_timeout={soft:g} s and timeout={hard:g} s: the soft limit would come too late to be of "
            "use. Make it shorter than the hard one."
        )


def _delay(value: object) -> dict[str, object]:
    delay = as_timedelta(value, "delay")  # type: ignore[arg-type] # it checks the type itself
    if delay > LONGEST:
        raise ConfigurationError(f"delay is {delay.days} days, which no database can add to now. Give a shorter one.")
    return {"delay_us": max(0, as_us(delay))}


def _expires(value: object) -> dict[str, object]:
    if isinstance(value, datetime):
        return {"expires_us": moment_us(value, "expires")}
    wait = as_timedelta(value, "expires")  # type: ignore[arg-type] # it checks the type itself
    if not timedelta(0) < wait <= LONGEST:
        raise ConfigurationError(
            f"expires is {wait.total_seconds():g} s from now, so the job could never start. Give a later moment."
        )
    return {"expires_after_us": as_us(wait)}


def _job_id(value: object) -> dict[str, object]:
    if not isinstance(value, str) or not value or len(value) > LONGEST_JOB_ID or "\x00" in value:
        raise ConfigurationError(
            f"job_id is {value!r:.80}, but it is text of 1 to {LONGEST_JOB_ID} characters without NUL. "
            "Leave it out, and the job gets an id of its own."
        )
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ConfigurationError(f"job_id {value!r:.80} holds half of a character pair. Give valid text.") from None
    key, custom = parse_key(value)
    return {"key": key, "custom_id": custom}


def _transaction(value: object) -> dict[str, object]:
    if value is None:
        return {}
    from jobmaster.transactional import check_transaction

    return {"transaction": check_transaction(value)}


_CALL_READERS: Final[dict[str, Callable[[object], dict[str, object]]]] = {
    "delay": _delay,
    "at": lambda value: {"due_us": moment_us(value, "at")},
    "lane": lambda value: {"lane": read_lane(value)},
    "priority": lambda value: {"priority": read_priority(value)},
    "metadata": lambda value: {"metadata": read_metadata(value)},
    "expires": _expires,
    "timeout": lambda value: {"timeout": read_limit(value, "timeout")},
    "soft_timeout": lambda value: {"soft_timeout": read_limit(value, "soft_timeout")},
    "max_retries": lambda value: {"max_retries": read_retries(value)},
    "job_id": _job_id,
    "durability": lambda value: {"durability": read_durability(value)},
    "cluster": lambda value: {"cluster": check_cluster_id(value)},
    "transaction": _transaction,
}
