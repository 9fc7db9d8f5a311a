"""Agents and workers as an app declares them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from jobmaster.errors import ConfigurationError
from jobmaster.model.states import Priority, WorkerMode
from jobmaster.settings.dsn import Dsn, parse_dsn, redacted
from jobmaster.settings.names import check_agent_name, check_lane, check_worker_name
from jobmaster.settings.readers import choice_of, read_count

SLOTS = 20
"""Slots of a worker whose parallelism is 1."""
MOST_BUCKETS = 64
MOST_SLOTS = 10_000

_read_mode = choice_of(WorkerMode)
_read_priority = choice_of(Priority)


@dataclass(frozen=True, slots=True)
class Agent:
    """A named transport store of the cluster.

    Args:
        name: letters, digits, `_`, `-`, `.`; immutable and unique in the cluster.
        url: where the store is, such as `postgresql://host/db` or `nats://host:4222`. `repr()` hides its password.

    Raises:
        ConfigurationError: the name or the address cannot work; the text says why.
    """

    name: str
    url: str

    def __post_init__(self) -> None:
        check_agent_name(self.name)
        parse_dsn(self.url, name=f"the address of agent {self.name!r}")

    def __repr__(self) -> str:
        return f"Agent({self.name!r}, {redacted(self.url)!r})"

    @property
    def dsn(self) -> Dsn:
        """The address in its parts. Of an agent in resolved settings: with the full path."""
        return parse_dsn(self.url)


@dataclass(frozen=True, slots=True, init=False)
class Worker:
    """A worker that the app declares: one engine on one agent.

    Args:
        agent: name of its agent; None where there is only one (or none: standalone).
        lane: the lane that it serves; `"default"` is the lane of jobs that name none.
        lanes: several of them, instead of `lane`. Neither: the default lane and every lane that a task names.
        name: its name; None: made from the host's name.
        mode: which duties it has (`"full"`, `"execution"`, `"drain"`, `"coordinator"` or the enum).
        parallelism: 1.0 gives 20 slots, 2.0 gives 40, and so on.
        concurrency: its slots, said directly, instead of by `parallelism`.
        buckets: how many buckets it opens per priority (`{Priority.LOW: 0}` switches low off); the cluster's setting
            counts for priorities that are not named.

    Raises:
        ConfigurationError: a value cannot work; the text says which and why.
    """

    agent: str | None
    lanes: tuple[str, ...]
    name: str | None
    mode: WorkerMode
    parallelism: float
    concurrency: int | None
    buckets: dict[Priority, int]

    def __init__(
        self,
        agent: str | None = None,
        lane: str | None = None,
        *,
        lanes: Iterable[str] | None = None,
        name: str | None = None,
        mode: WorkerMode | str = WorkerMode.FULL,
        parallelism: float = 1.0,
        concurrency: int | None = None,
        buckets: Mapping[Priority, int] | Mapping[str, int] | None = None,
    ) -> None:
        # A frozen dataclass refuses plain assignment, in its own __init__ too.
        set_field = object.__setattr__
        set_field(self, "agent", None if agent is None else check_agent_name(agent))
        set_field(self, "lanes", _lanes(lane, lanes))
        set_field(self, "name", None if name is None else check_worker_name(name))
        set_field(self, "mode", _mode(mode))
        set_field(self, "parallelism", _parallelism(parallelism))
        set_field(self, "concurrency", _concurrency(concurrency, parallelism))
        set_field(self, "buckets", read_buckets(buckets or {}, owner="Worker"))
        self._check_coordinator()

    @property
    def slots(self) -> int:
        """How many jobs it runs at once, in each of its engine processes."""
        return self.concurrency or max(1, round(SLOTS * self.parallelism))

    def _check_coordinator(self) -> None:
        if self.mode is not WorkerMode.COORDINATOR:
            return
        useless = [name for name in ("agent", "lanes", "buckets", "concurrency") if getattr(self, name)]
        if useless:
            raise ConfigurationError(
                f"Worker(mode='coordinator') has {' and '.join(useless)}, but a coordinator runs no jobs: it has no "
                "lane, no bucket and no agent of its own. Leave that out, or choose the mode 'full'."
            )


def read_buckets(buckets: object, *, owner: str) -> dict[Priority, int]:
    """How many buckets per priority, as far as `buckets` says.

    Raises:
        ConfigurationError: an unknown priority, a number out of its limits, or medium switched off.
    """
    if not isinstance(buckets, Mapping):
        raise ConfigurationError(
            f"{owner}: buckets is {buckets!r}; give a number per priority, such as {{Priority.LOW: 0}}."
        )
    counts: dict[Priority, int] = {}
    for key, given in buckets.items():
        try:
            priority = _read_priority(key)
        except ValueError as error:
            raise ConfigurationError(f"{owner}: buckets names the priority {key!r}; it must be {error}.") from None
        counts[priority] = _bucket_count(given, priority, owner=owner)
    return counts


def _bucket_count(given: object, priority: Priority, *, owner: str) -> int:
    name = priority.name.lower()
    try:
        count = read_count(given)
    except ValueError:
        count = -1
    if not 0 <= count <= MOST_BUCKETS:
        raise ConfigurationError(
            f"{owner}: buckets of priority {name} is {given!r}; it must be a whole number from 0 (the priority is off) "
            f"to {MOST_BUCKETS}, because each bucket is read and renewed by itself."
        )
    if count == 0 and priority is Priority.MEDIUM:
        raise ConfigurationError(
            f"{owner}: the priority medium cannot be switched off, because jobs without a priority have it. "
            "Give at least 1 bucket, or leave medium out."
        )
    return count


def _lanes(lane: str | None, lanes: Iterable[str] | None) -> tuple[str, ...]:
    if lane is not None and lanes is not None:
        raise ConfigurationError("Worker has both lane= and lanes=, which may contradict each other. Give one of them.")
    if isinstance(lanes, str):
        raise ConfigurationError(
            f"Worker(lanes={lanes!r}): lanes is a list. Write lane={lanes!r} or lanes=[{lanes!r}]."
        )
    given = [lane] if lane is not None else list(lanes or ())
    return tuple(dict.fromkeys(check_lane(name) for name in given))


def _mode(mode: object) -> WorkerMode:
    try:
        return _read_mode(mode)
    except ValueError as error:
        raise ConfigurationError(f"Worker(mode={mode!r}): the mode of a worker must be {error}.") from None


def _parallelism(value: object) -> float:
    fits = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if not (fits and 0 < value <= MOST_SLOTS / SLOTS):  # type: ignore[operator] # `fits` says that it is a number
        raise ConfigurationError(
            f"Worker(parallelism={value!r}): it must be a number above 0 and at most {MOST_SLOTS // SLOTS}; "
            f"1.0 is {SLOTS} slots."
        )
    return float(value)  # type: ignore[arg-type]


def _concurrency(value: object, parallelism: float) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MOST_SLOTS:
        raise ConfigurationError(f"Worker(concurrency={value!r}): slots are a whole number from 1 to {MOST_SLOTS}.")
    if parallelism != 1.0:
        raise ConfigurationError(
            "Worker has both concurrency= and parallelism=, and both say how many slots it has. Give one of them."
        )
    return value
