"""Where settings may be written: the app object, two files, the environment, the command line.

Every source gives layers: named values with the place that each came from. `resolution.py` puts the layers on top of
each other. Unknown keys in a file are refused; unknown variables are reported only, because a host may set some that
are not ours (Kubernetes sets JOBMASTER_PORT beside a service called jobmaster).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from jobmaster.errors import ConfigurationError
from jobmaster.model.backoff import Backoff
from jobmaster.settings.declarations import Agent
from jobmaster.settings.names import folded
from jobmaster.settings.values import RULES

PREFIX = "JOBMASTER_"
CLUSTERS = "clusters"
SCHEDULES = "schedules"
"""Tables of files that are no settings: recurring schedules by name (`jobmaster.schedule_files` reads them)."""
NESTED = ("agents", "buckets", "retry")
"""Settings that hold further names."""
NOT_SETTINGS = (
    "JOBMASTER_APP",
    "JOBMASTER_CONFIG",
    "JOBMASTER_CRASH_FOLDER",
    "JOBMASTER_CRASH_POINTS",
    "JOBMASTER_EVENT_LOOP",
)
"""Variables that other parts of JobMaster read."""


class Given(NamedTuple):
    """A value as somebody wrote it, and where."""

    value: object
    origin: str


class Layer:
    """What one source says. Later ones lie below: the first layer that names a setting decides it.

    `values` are by dotted setting name. `agents` are by name; `loose` agents came from variables, where `nats-1` can
    only be written `NATS_1`, and are matched accordingly. `schedules` are by name, as the file has them. `unknown` are
    the names that no setting has.
    """

    __slots__ = ("agents", "loose", "schedules", "unknown", "values")

    def __init__(self) -> None:
        self.values: dict[str, Given] = {}
        self.agents: dict[str, Given] = {}
        self.loose: dict[str, Given] = {}
        self.schedules: dict[str, Given] = {}
        self.unknown: list[Given] = []

    def put(self, path: tuple[str, ...], value: object, origin: str) -> None:
        """Sort one value in; `path` is its name in parts."""
        dotted = ".".join(path)
        match path:
            case ("agents", name) | ("agents", name, "url"):
                self.agents[name] = Given(value, origin)
            case _ if dotted in RULES or dotted == "workers":
                self.values[dotted] = Given(value, origin)
            case _:
                self.unknown.append(Given(dotted, origin))


def app_layer(given: Mapping[str, object]) -> Layer:
    """What was given to `JobMaster(...)`.

    Raises:
        ConfigurationError: there is no setting of such a name.
    """
    layer = Layer()
    settings = dict(given)
    if "mode" in settings:
        if "cluster_mode" in settings:
            raise ConfigurationError(
                "JobMaster has both mode= and cluster_mode=, which are the same. Give one of them."
            )
        settings["cluster_mode"] = settings.pop("mode")
    for name, value in settings.items():
        put_value(layer, name, value, "app")
    return _without_unknown(layer)


def command_line_layer(given: Mapping[str, object]) -> Layer:
    """Settings that were given as options of a command, by the setting's dotted name."""
    layer = Layer()
    for name, value in given.items():
        put_value(layer, name, value, f"command line --{name.replace('_', '-')}")
    return _without_unknown(layer)


def put_value(layer: Layer, name: str, value: object, origin: str) -> None:
    """Sort the value of one whole setting in, taking nested ones apart.

    Raises:
        ConfigurationError: a setting with several values was given as one.
    """
    if name == "agents":
        for agent, url in _agents(value, origin):
            layer.put(("agents", agent), url, _inner(origin, agent))
    elif isinstance(value, Backoff) and name == "retry":
        for part in ("base", "factor", "cap", "jitter"):
            layer.put((name, part), getattr(value, part), origin)
    elif isinstance(value, Mapping) and name in NESTED:
        for part, inner in value.items():
            # A Priority has a name, a key of a file is one.
            key = str(getattr(part, "name", part)).lower()
            layer.put((name, key), inner, _inner(origin, key))
    elif name in NESTED:
        raise ConfigurationError(
            f"{name} ({origin}) is of the type {type(value).__name__}, but holds several values. "
            f"Give {'Backoff(base=5, cap=60)' if name == 'retry' else '{Priority.LOW: 0}'}, or a table of them."
        )
    else:
        layer.put((name,), value, origin)


def table_layers(table: Mapping[str, object], place: str, *, cluster_id: str, is_default: bool) -> list[Layer]:
    """What a file says to this cluster: its own part (`[clusters.ID]`) first, then what is said to the default app.

    Args:
        table: the file's content.
        place: the file's name, for people.
        cluster_id: the cluster that is asked for.
        is_default: whether it is the process's default app.

    Raises:
        ConfigurationError: a key that no setting has, whichever cluster it is meant for.
    """
    general = Layer()
    layers = [general] if is_default else []
    for key, value in table.items():
        if key == CLUSTERS:
            for name, layer in _cluster_tables(value, place):
                if folded(name) == folded(cluster_id):
                    layers.insert(0, layer)
        elif key == SCHEDULES:
            _put_schedules(general, value, place, SCHEDULES)
        elif key != "app":
            put_value(general, key.replace("-", "_"), value, f"{place}: {key}")
    _without_unknown(general)
    return layers


def environment_layers(
    environ: Mapping[str, str], *, cluster_id: str, is_default: bool
) -> tuple[list[Layer], list[str]]:
    """What the environment says to this cluster, and a warning for each variable that nothing reads."""
    own_prefix = f"{PREFIX}{CLUSTERS.upper()}__{folded(cluster_id).upper()}__"
    own, general = Layer(), Layer()
    for variable, text in sorted(environ.items()):
        if variable.startswith(own_prefix):
            _put_variable(own, variable.removeprefix(own_prefix), text, variable)
        elif is_default and variable.startswith(PREFIX) and not _is_no_setting(variable):
            _put_variable(general, variable.removeprefix(PREFIX), text, variable)
    warnings = [
        f"{given.origin.partition(' ')[2]} is set, but there is no setting {given.value!r}: it has no effect."
        f"{did_you_mean(str(given.value), spell=_variable_of)}"
        for given in own.unknown + general.unknown
    ]
    return [own, general], warnings


def did_you_mean(name: str, *, spell: Callable[[str], str] = repr) -> str:
    """A hint for a mistaken setting, with a blank before it, or nothing. `spell` writes the name."""
    known = [*RULES, "agents", "workers"]
    ends = [candidate for candidate in known if name and candidate.endswith((f"_{name}", f".{name}"))]
    if not ends:
        import difflib

        ends = difflib.get_close_matches(name, known, n=1)
    return f" Did you mean {spell(ends[0])}?" if ends else ""


def _variable_of(setting: str) -> str:
    return PREFIX + setting.upper().replace(".", "__")


def _inner(origin: str, part: str) -> str:
    """The place of a part of a nested setting: files name it, a variable holds all of them in one text."""
    return f"{origin}.{part}" if ": " in origin else origin


def _is_no_setting(variable: str) -> bool:
    return variable in NOT_SETTINGS or variable.startswith(f"{PREFIX}{CLUSTERS.upper()}__")


def _put_variable(layer: Layer, name: str, text: str, variable: str) -> None:
    origin = f"environment {variable}"
    path = tuple(name.lower().split("__"))
    if path in {("agents",), ("buckets",), ("retry",), ("workers",)}:
        put_value(layer, path[0], _json(text, variable), origin)
    elif path[0] == "agents" and len(path) in {2, 3} and path[-1]:
        if len(path) == 2 or path[2] == "url":  # noqa: PLR2004 - agents, NAME, field
            layer.loose[path[1]] = Given(text, origin)
        else:
            layer.unknown.append(Given(".".join(path), origin))
    else:
        layer.put(path, text, origin)


def _json(text: str, variable: str) -> object:
    import msgspec

    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        raise ConfigurationError(
            f"{variable} is no JSON, but this setting holds several values. Write for example "
            """JOBMASTER_AGENTS='{"nats-1": "nats://host"}' or JOBMASTER_RETRY__CAP=60."""
        ) from None


def _cluster_tables(value: object, place: str) -> Iterable[tuple[str, Layer]]:
    if not isinstance(value, Mapping):
        raise ConfigurationError(f"{place}: clusters is no table. Write [clusters.ID] and settings below it.")
    for name, table in value.items():
        if not isinstance(table, Mapping):
            raise ConfigurationError(f"{place}: clusters.{name} is no table. Write settings below [clusters.{name}].")
        layer = Layer()
        for key, inner in table.items():
            if key == SCHEDULES:
                _put_schedules(layer, inner, place, f"{CLUSTERS}.{name}.{SCHEDULES}")
            else:
                put_value(layer, key.replace("-", "_"), inner, f"{place}: clusters.{name}.{key}")
        yield name, _without_unknown(layer)


def _put_schedules(layer: Layer, value: object, place: str, path: str) -> None:
    if not isinstance(value, Mapping):
        raise ConfigurationError(f"{place}: {path} is no table. Write [{path}.NAME], and task and every below it.")
    for name, table in value.items():
        layer.schedules[str(name)] = Given(table, f"{place}: {path}.{name}")


def _agents(value: object, origin: str) -> Iterable[tuple[str, object]]:
    """Names and addresses of agents, however they were listed."""
    entries: list[tuple[str, object]] = []
    if isinstance(value, Mapping):
        for name, inner in value.items():
            entries.append((name, _agent_fields(inner, origin).get("url") if isinstance(inner, Mapping) else inner))
    elif isinstance(value, Iterable) and not isinstance(value, (str, bytes)):
        for agent in value:
            if isinstance(agent, Agent):
                entries.append((agent.name, agent.url))
            elif isinstance(agent, Mapping):
                fields = _agent_fields(agent, origin)
                entries.append((str(fields.get("name", "")), fields.get("url")))
            else:
                raise ConfigurationError(f"agents ({origin}) holds a {type(agent).__name__}. Give Agent(name, url).")
    else:
        raise ConfigurationError(f"agents ({origin}) is a {type(value).__name__}. Give a list of Agent(name, url).")
    return _without_twins(entries, origin)


def _agent_fields(table: Mapping[str, object], origin: str) -> Mapping[str, object]:
    unknown = sorted(set(table) - {"name", "url"})
    if unknown:
        raise ConfigurationError(f"agents ({origin}): an agent has a name and a url, but no {unknown[0]!r}. Remove it.")
    return table


def _without_twins(entries: list[tuple[str, object]], origin: str) -> list[tuple[str, object]]:
    seen: dict[str, str] = {}
    for name, _ in entries:
        if folded(name) in seen:
            raise ConfigurationError(
                f"agents ({origin}) has the names {seen[folded(name)]!r} and {name!r}, but an agent's name is unique "
                "in its cluster, also when it is written as in JOBMASTER_AGENTS__NAME. Rename one of them."
            )
        seen[folded(name)] = name
    return entries


def _without_unknown(layer: Layer) -> Layer:
    for given in layer.unknown:
        name = str(given.value)
        hint = did_you_mean(name)
        if name == "cluster_id":
            hint = " A cluster's id is given to JobMaster(...) only: it says which cluster the rest is meant for."
        raise ConfigurationError(
            f"There is no setting {name!r} ({given.origin}), so that it would have no effect.{hint} "
            "`docs/settings.md` lists them all."
        )
    return layer
