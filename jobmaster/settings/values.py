"""The settings of a cluster: their types, defaults, limits and reasons. docs/settings.md is generated from here."""

# Annotations are read at run time here (the rule of each setting stands in its type): no `from __future__`.

from enum import Enum
from typing import Annotated, get_args

import msgspec

from jobmaster.model.backoff import Backoff
from jobmaster.model.states import ClusterMode, Priority
from jobmaster.settings import readers
from jobmaster.settings.declarations import MOST_BUCKETS, Agent, Worker
from jobmaster.settings.dsn import Dsn
from jobmaster.settings.rule import Rule, choice_rule, count_rule, duration_rule


class Durability(Enum):
    """What must have stored a job before its acceptance is reported."""

    AGENT = "agent"
    MASTER = "master"


class Survives(Enum):
    """What the app expects an acceptance to survive: the end of the store's process, or of its host."""

    PROCESS = "process"
    HOST = "host"


_DAY = 86_400
_YEAR = 365 * _DAY
_MIB = 1024 * 1024


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of one cluster in this process, complete and checked. Durations are seconds.

    Made by `resolve()`. `agents` is empty for a standalone cluster: the master is its own agent then.
    """

    cluster_id: str
    master: Dsn
    agents: tuple[Agent, ...] = ()
    workers: tuple[Worker, ...] = ()

    cluster_mode: Annotated[
        ClusterMode,
        choice_rule(
            ClusterMode,
            "active; passive: accepts work and runs nothing; archived: can only be read",
        ),
    ] = ClusterMode.ACTIVE
    transient_threshold: Annotated[
        float,
        duration_rule(
            "jobs due sooner are accepted by an agent, later ones are held on the master "
            "(by NATS: only jobs due within the onboarding window)",
            10,
            86_400,
            "below that nearly every job would be held on the master, above it an agent would hold work for days",
        ),
    ] = 600.0
    onboarding_window: Annotated[
        float,
        duration_rule(
            "how long before its due time a job may be in a worker's memory "
            "(a message of a standalone cluster: at most 15 s, until then a cancel of it is certain)",
            0.25,
            30,
            "a shorter window makes jobs late, a longer one loses more time when a worker dies",
        ),
    ] = 15.0
    buffer_per_bucket: Annotated[
        int,
        count_rule(
            "how many waiting jobs of one bucket a worker keeps in memory",
            1,
            100_000,
            "they are memory of the worker, and are read again when it dies",
            unit="jobs",
        ),
    ] = 2_000
    buckets: dict[Priority, int] = {}
    default_timeout: Annotated[
        float | None,
        duration_rule(
            "hard limit of a run, for async tasks and in the pool `processes`; in threads the soft limit only",
            0.001,
            _YEAR,
            "a run without time cannot work",
            none="no limit",
        ),
    ] = 300.0
    default_max_retries: Annotated[
        int,
        count_rule("further attempts after the first one fails", 0, 1_000, "a job that never gives up hides its fault"),
    ] = 3
    retry: Backoff = Backoff()
    max_message_bytes: Annotated[
        int,
        count_rule(
            "largest payload of a job", 1_024, 64 * _MIB, "payloads pass through every store whole", unit="bytes"
        ),
    ] = 128 * 1024
    max_result_bytes: Annotated[
        int,
        count_rule("largest result of a job", 1_024, 64 * _MIB, "results pass through the master whole", unit="bytes"),
    ] = _MIB
    accept_timeout: Annotated[
        float,
        duration_rule(
            "how long `delay()` waits for a store before StoreUnavailable or OutcomeUnknown",
            0.1,
            300,
            "a shorter wait gives up in any pause of a server, a longer one holds up the caller",
        ),
    ] = 5.0
    finish_flush: Annotated[
        int,
        count_rule(
            "most outcomes in one transaction", 1, 10_000, "a longer transaction delays every other", unit="jobs"
        ),
    ] = 1_000
    early_row_after: Annotated[
        float,
        duration_rule(
            "a job that waits or runs longer than this gets its row in the master before it ends",
            0,
            3_600,
            "until then people cannot see it in a list",
        ),
    ] = 1.0
    early_rows_per_second: Annotated[
        int,
        count_rule(
            "most of these rows per second, with separate agents", 1, 1_000_000, "they load the master", unit="/s"
        ),
    ] = 5_000
    lease: Annotated[
        float,
        duration_rule(
            "a worker that has not renewed for this long is taken for dead",
            0.5,
            3_600,
            "a shorter lease is lost in any pause of the machine, a longer one keeps a dead worker's jobs waiting",
            agreed=True,
        ),
    ] = 10.0
    renew_every: Annotated[
        float,
        duration_rule(
            "how often the lease is renewed; less than half of the lease",
            0.05,
            1_800,
            "each renewal is a write in the master",
            agreed=True,
        ),
    ] = 3.0
    max_block: Annotated[
        float,
        duration_rule(
            "an engine whose event loop stands still for this long is replaced",
            1,
            86_400,
            "a shorter one would end engines that only compute",
        ),
    ] = 60.0
    max_recoveries: Annotated[
        int,
        count_rule(
            "how often a job may have been running when its process died, before it is quarantined",
            0,
            100,
            "every further try may take a process down again",
        ),
    ] = 3
    max_tasks_per_child: Annotated[
        int | None,
        count_rule(
            "a process of `jobmaster worker` is replaced after so many runs: each child of the pool `processes`; an "
            "engine process for what runs in itself (it is looked at once a second, so it runs some more)",
            1,
            1_000_000_000,
            "a process that runs nothing is of no use",
            unit="runs",
            none="never",
        ),
    ] = None
    max_memory_per_child: Annotated[
        int | None,
        count_rule(
            "such a process is replaced when it holds more, after what runs in it; at twice as much at once (Linux)",
            16,
            _MIB,
            "Python itself needs so much",
            unit="MiB",
            none="no limit",
        ),
    ] = None
    grace: Annotated[
        float,
        duration_rule("how long running jobs may go on after SIGTERM", 0, 86_400, "a stop must end some day"),
    ] = 25.0
    claims_per_second: Annotated[
        int,
        count_rule(
            "most polls for held jobs by all workers together (fallback; wake-ups come first)",
            1,
            10_000,
            "each is a query on the master",
            unit="/s",
        ),
    ] = 50
    time_zone: Annotated[
        str, Rule(readers.read_time_zone, "IANA name; for schedules that name no zone", agreed=True)
    ] = "UTC"
    retention: Annotated[
        float | None,
        duration_rule(
            "how long ended jobs are kept",
            600,
            100 * _YEAR,
            "a shorter one deletes results before their callers have read them",
            none="for ever",
            agreed=True,
        ),
    ] = 30.0 * _DAY
    keep_result: Annotated[
        float | None,
        duration_rule(
            "how long a result is kept, where that is shorter",
            0,
            100 * _YEAR,
            "a result goes with its job at the latest",
            none="as `retention`",
        ),
    ] = None
    archive_to: Annotated[
        str | None,
        Rule(
            readers.read_cluster_id,
            "id of an archived cluster of the same program; aged jobs are moved there instead of deleted",
            none="they are deleted",
        ),
    ] = None
    protect_agents: Annotated[
        bool,
        Rule(
            readers.read_flag,
            "agents that may hold messages are not left behind: other stores under their names, or none, are refused",
        ),
    ] = True
    durability: Annotated[
        Durability,
        choice_rule(Durability, "what must have stored a job before its acceptance is reported"),
    ] = Durability.AGENT
    survives: Annotated[
        Survives,
        choice_rule(
            Survives,
            "what an acceptance is expected to survive; a store whose own settings promise less is named at start-up",
        ),
    ] = Survives.HOST
    auto_provision: Annotated[
        bool, Rule(readers.read_flag, "create and upgrade the schema at start-up; else `jobmaster db upgrade` does it")
    ] = True
    debug_log: Annotated[
        str | None,
        Rule(readers.read_path, "folder for a JSON-lines file of every event", none="no such file"),
    ] = None
    allow_pickle: Annotated[
        bool, Rule(readers.read_flag, "accept pickled payloads; whoever can write to a store can then run code here")
    ] = False
    include: Annotated[
        tuple[str, ...], Rule(readers.read_modules, "modules to import, so that their tasks are known")
    ] = ()

    @property
    def is_standalone(self) -> bool:
        """True where the master is its own agent."""
        return not self.agents

    def agent(self, name: str) -> Agent:
        """The declared agent `name`.

        Raises:
            KeyError: there is none.
        """
        for agent in self.agents:
            if agent.name == name:
                return agent
        raise KeyError(name)

    def buckets_of(self, worker: Worker) -> dict[Priority, int]:
        """How many buckets `worker` opens for each priority."""
        default = {priority: self.buckets.get(priority, 1) for priority in Priority}
        return default | worker.buckets

    def is_disabled(self, priority: Priority) -> bool:
        """True where no job of this priority may be enqueued in the cluster."""
        return self.buckets.get(priority) == 0


def _rules() -> dict[str, Rule]:
    """The rule of every setting that is one value, by its dotted name."""
    found = {"master": Rule(readers.read_text, "where the cluster's database is: sqlite, postgresql, mysql or mssql")}
    for name, annotation in Settings.__annotations__.items():
        rule = next((part for part in get_args(annotation) if isinstance(part, Rule)), None)
        if rule is not None:
            found[name] = rule
    for priority in Priority:
        found[f"buckets.{priority.name.lower()}"] = Rule(
            readers.read_count,
            "buckets that each worker opens"
            + ("" if priority is Priority.MEDIUM else "; 0 switches the priority off: enqueueing at it is an error"),
            unit="buckets",
            least=1 if priority is Priority.MEDIUM else 0,
            most=MOST_BUCKETS,
            why="jobs without a priority are medium" if priority is Priority.MEDIUM else "each is read by itself",
        )
    wait = ("added to a moment that the database must be able to store",)
    found["retry.base"] = duration_rule("wait after the first failure", 0, _YEAR, *wait)
    found["retry.factor"] = Rule(
        readers.read_number,
        "what each further failure multiplies the wait by",
        least=1,
        most=100,
        why="a smaller one would retry faster the longer a fault lasts",
    )
    found["retry.cap"] = duration_rule("longest wait", 0, _YEAR, *wait)
    found["retry.jitter"] = Rule(readers.read_flag, "draw each wait between zero and the time computed")
    return found


RULES: dict[str, Rule] = _rules()
"""By dotted name: `lease`, `retry.cap`, `buckets.low`. Agents and workers are read by their own rules."""
