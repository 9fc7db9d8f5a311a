"""Put the layers on top of each other and make one checked `Settings`, with the origin of each value."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from jobmaster.errors import ConfigurationError
from jobmaster.model.backoff import Backoff
from jobmaster.model.states import Priority
from jobmaster.settings.declarations import Agent, Worker, read_buckets
from jobmaster.settings.dsn import Dsn, parse_dsn, redacted
from jobmaster.settings.files import read_files
from jobmaster.settings.names import check_agent_name, check_cluster_id, folded
from jobmaster.settings.rule import Rule
from jobmaster.settings.sources import (
    Given,
    Layer,
    app_layer,
    command_line_layer,
    environment_layers,
    table_layers,
)
from jobmaster.settings.validation import contradictions
from jobmaster.settings.values import RULES, Settings

DEFAULT_MASTER = "sqlite:///jobmaster.db"
DEFAULT = "default"
LONGEST_SHOWN = 80

_WORKER_KEYS = {"agent", "lane", "lanes", "name", "mode", "parallelism", "concurrency", "buckets"}


class ResolvedSettings(msgspec.Struct, frozen=True):
    """Settings, and where each came from.

    `origins` is by dotted name (`lease`, `retry.cap`, `agents.nats-1`): "command line --grace",
    "environment JOBMASTER_LEASE", "/srv/shop/jobmaster.toml: lease", "app" or "default". `warnings` are sentences
    about variables that have no effect. `schedules` are the tables `[schedules.NAME]` of files, unread.
    """

    settings: Settings
    origins: dict[str, str]
    warnings: tuple[str, ...] = ()
    schedules: dict[str, Given] = {}

    def rows(self) -> list[tuple[str, str, str]]:
        """Name, value and origin of every setting, for people: passwords are hidden."""
        settings = self.settings
        rows = [("cluster_id", settings.cluster_id, "app")]
        for name, origin in self.origins.items():
            rows.append((name, self._shown(name), origin))
        return rows

    def _shown(self, name: str) -> str:
        head, _, tail = name.partition(".")
        if head == "agents":
            return redacted(self.settings.agent(tail).url)
        if head == "workers":
            return "; ".join(repr(worker) for worker in self.settings.workers) or "none declared"
        if head == "buckets":
            return str(self.settings.buckets.get(Priority[tail.upper()], 1))
        value = getattr(self.settings, head)
        rule = RULES[name]
        text = rule.shown(getattr(value, tail) if tail else value)
        return f"none ({rule.none})" if rule.none and value is None else text


def resolve(
    cluster_id: str,
    given: Mapping[str, object] | None = None,
    *,
    folder: str | None = None,
    is_default: bool = True,
    command_line: Mapping[str, object] | None = None,
    environ: Mapping[str, str] | None = None,
) -> ResolvedSettings:
    """The settings of a cluster. The command line decides first, then environment, files, app, defaults.

    Args:
        cluster_id: the id that the app has.
        given: what the app object was given (names of `SettingArguments`).
        folder: the folder of the file that makes the app; None: the current one.
        is_default: whether it is the process's default app, to which environment and files speak without its id.
        command_line: settings given as options, by dotted name.
        environ: the environment; None: that of the process.

    Raises:
        ConfigurationError: what was given cannot work. The text names every fault: what, why, what to do.
    """
    check_cluster_id(cluster_id)
    environ = os.environ if environ is None else environ
    place = str(Path(folder or ".").absolute())
    layers = [command_line_layer(command_line or {})]
    of_environment, warnings = environment_layers(environ, cluster_id=cluster_id, is_default=is_default)
    layers += of_environment
    for file, table in read_files(place, config=environ.get("JOBMASTER_CONFIG")):
        layers += table_layers(table, file, cluster_id=cluster_id, is_default=is_default)
    layers.append(app_layer(given or {}))
    settings, origins = _Resolution(layers, place).settings(cluster_id)
    schedules: dict[str, Given] = {}
    for layer in reversed(layers):
        schedules |= layer.schedules
    return ResolvedSettings(settings, origins, tuple(warnings), schedules)


class _Resolution:
    """One run over the layers. Faults are collected, so that all of them are told at once."""

    def __init__(self, layers: Sequence[Layer], folder: str) -> None:
        self._layers = layers
        self._folder = folder
        self._faults: list[str] = []
        self._origins: dict[str, str] = {}

    def settings(self, cluster_id: str) -> tuple[Settings, dict[str, str]]:
        """The settings and their origins, or ConfigurationError with every fault."""
        values: dict[str, object] = {"cluster_id": cluster_id, "master": self._master()}
        values["agents"] = self._agents()
        values["workers"] = self._workers()
        values |= self._rest()
        self._raise_faults()
        settings = Settings(**values)  # type: ignore[arg-type] # each was read by the rule of its type
        self._faults = contradictions(settings, self._origins)
        self._raise_faults()
        return settings, self._origins

    def _master(self) -> Dsn | None:
        given = self._pick("master") or Given(DEFAULT_MASTER, DEFAULT)
        if given.value is None:
            # Jobs would silently go to a local file where somebody forgot to set a variable.
            self._faults.append(
                f"master is None ({given.origin}), which says nothing. Give an address, or leave it out for the file "
                "jobmaster.db beside the app."
            )
            return None
        try:
            return parse_dsn(given.value, folder=self._folder, name=f"master ({given.origin})")
        except ConfigurationError as error:
            self._faults.append(str(error))
            return None

    def _agents(self) -> tuple[Agent, ...]:
        """Agents by name; each layer, from the lowest up, adds some or moves some to another address."""
        urls: dict[str, Given] = {}
        for layer in reversed(self._layers):
            urls |= layer.agents
            for name, given in layer.loose.items():
                urls[self._spelled(name, urls, given)] = given
        agents: list[Agent] = []
        for name, given in urls.items():
            self._origins[f"agents.{name}"] = given.origin
            with self._telling():
                agents.append(_agent(name, given, self._folder))
        return tuple(agents)

    def _spelled(self, name: str, known: Iterable[str], given: Given) -> str:
        """The agent that a variable means: `nats_1` is `nats-1`, or `nats.1` where that is declared."""
        meant = [candidate for candidate in known if folded(candidate) == name]
        if len(meant) > 1:
            self._faults.append(
                f"{given.origin} may mean each of the agents {' and '.join(meant)}. Rename one of them, or give "
                """JOBMASTER_AGENTS='{"NAME": "URL"}', where the name stands as it is."""
            )
        return meant[0] if meant else name.replace("_", "-")

    def _workers(self) -> tuple[Worker, ...]:
        given = self._pick("workers")
        if given is None:
            return ()
        if not isinstance(given.value, Iterable) or isinstance(given.value, (str, bytes, Mapping)):
            self._faults.append(f"workers ({given.origin}) is no list. Give [Worker(...)], or [[workers]] tables.")
            return ()
        workers: list[Worker] = []
        for declared in given.value:
            with self._telling():
                workers.append(_worker(declared, given.origin))
        return tuple(workers)

    def _rest(self) -> dict[str, object]:
        """Every setting that is one value; those of one name, such as `retry.*`, put together."""
        values: dict[str, object] = {}
        nested: dict[str, dict[str, object]] = {"retry": {}, "buckets": {}}
        for name in (name for name in RULES if name != "master"):
            given = self._pick(name)
            head, _, part = name.partition(".")
            with self._telling():
                if given is not None:
                    (nested[head] if part else values)[part or head] = _read(name, RULES[name], given)
        with self._telling():
            values["retry"] = Backoff(**nested["retry"])  # type: ignore[arg-type] # read by the rules of its parts
        with self._telling():
            values["buckets"] = read_buckets(nested["buckets"], owner="settings")
        if values.get("debug_log"):
            values["debug_log"] = str(Path(self._folder, str(values["debug_log"])).absolute())
        return values

    def _pick(self, name: str) -> Given | None:
        """What the first layer that names it says, and remember where that was."""
        given = next((layer.values[name] for layer in self._layers if name in layer.values), None)
        self._origins[name] = given.origin if given else DEFAULT
        return given

    @contextmanager
    def _telling(self) -> Iterator[None]:
        """Remember a fault instead of raising it."""
        try:
            yield
        except ConfigurationError as error:
            self._faults.append(str(error))

    def _raise_faults(self) -> None:
        if len(self._faults) == 1:
            raise ConfigurationError(self._faults[0])
        if self._faults:
            raise ConfigurationError("\n- ".join([f"{len(self._faults)} settings cannot work:", *self._faults]))


def _agent(name: str, given: Given, folder: str) -> Agent:
    try:
        check_agent_name(name)
    except ConfigurationError as error:
        raise ConfigurationError(f"agents ({given.origin}): {error}") from None
    dsn = parse_dsn(given.value, folder=folder, name=f"the address of agent {name!r} ({given.origin})")
    return Agent(name, dsn.url)


def _worker(declared: object, origin: str) -> Worker:
    if isinstance(declared, Worker):
        return declared
    if not isinstance(declared, Mapping):
        raise ConfigurationError(f"workers ({origin}) holds a {type(declared).__name__}. Give Worker(...) or a table.")
    unknown = sorted(set(map(str, declared)) - _WORKER_KEYS)
    if unknown:
        raise ConfigurationError(
            f"workers ({origin}) has a worker with {unknown[0]!r}, which no worker has. "
            f"Known are {', '.join(sorted(_WORKER_KEYS))}."
        )
    try:
        return Worker(**declared)
    except ConfigurationError as error:
        raise ConfigurationError(f"workers ({origin}): {error}") from None


def _read(name: str, rule: Rule, given: Given) -> object:
    """The value of one setting, inside its limits."""
    value = given.value
    if isinstance(value, str) and value.strip().lower() == "none" and rule.none:
        value = None
    if value is None:
        if rule.none:
            return None
        raise ConfigurationError(f"{name} is None ({given.origin}), which says nothing. Give a value or leave it out.")
    try:
        read = rule.read(value)
    except ValueError as error:
        raise ConfigurationError(
            f"{name} is {_shown_input(value)} ({given.origin}), but must be {error}. Change it there."
        ) from None
    too_low = rule.least is not None and read < rule.least  # type: ignore[operator] # limits have the value's type
    too_high = rule.most is not None and read > rule.most  # type: ignore[operator] # same
    if too_low or too_high:
        raise ConfigurationError(
            f"{name} is {rule.shown(read)} ({given.origin}), but must be {rule.limits}, "
            f"because {rule.why}. Change it there."
        )
    return read


def _shown_input(value: object) -> str:
    try:
        text = repr(value)
    except ValueError:  # an int of thousands of digits
        return f"a huge {type(value).__name__}"
    return text if len(text) <= LONGEST_SHOWN else text[:LONGEST_SHOWN] + "…"
