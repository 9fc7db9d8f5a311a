"""The tasks and handlers that an app has: what each runs, under which name, with which defaults."""

from __future__ import annotations

import inspect
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from jobmaster import options as read
from jobmaster.errors import ConfigurationError, NotRegistered
from jobmaster.model.backoff import Backoff
from jobmaster.model.definition import Definition
from jobmaster.model.policy import TaskPolicy
from jobmaster.model.states import Priority
from jobmaster.parameters import Parameters, refusal

if TYPE_CHECKING:
    from jobmaster.settings import Settings
    from jobmaster.wire.hints import CallHints

LONGEST_NAME: Final = 200
LONGEST_SOURCE: Final = 16_384


class Target(msgspec.Struct, frozen=True):
    """What an enqueuing program must know of a task: its name, where its jobs go, and what they carry."""

    name: str
    lane: str = ""
    priority: int = int(Priority.MEDIUM)
    at_most_once: bool = False
    is_data: bool = False
    metadata: dict[str, object] = {}
    keep_result: float | None = None
    durability: str | None = None


class Limits(msgspec.Struct, frozen=True):
    """Limits and retries as the task was given them; a name that is not in `given` follows the cluster's settings."""

    given: frozenset[str] = frozenset()
    timeout: float | None = None
    soft_timeout: float | None = None
    max_retries: int = 0
    backoff: Backoff = Backoff()
    retry_on: tuple[type[BaseException], ...] = (Exception,)
    give_up_on: tuple[type[BaseException], ...] = ()


class TaskDefinition:
    """One registered task or handler.

    Attributes:
        target: what its jobs carry.
        limits: how its runs are limited and repeated.
        function: what a run calls; of a handler its `handle` method, unbound.
        handler: the handler's class, or None for a task.
        bound: the context is the function's first argument.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        target: Target,
        limits: Limits,
        bound: bool = False,
        handler: type | None = None,
    ) -> None:
        self.function = function
        self.target = target
        self.limits = limits
        self.bound = bound
        self.handler = handler
        plain = inspect.unwrap(function)
        self.is_async = inspect.iscoroutinefunction(plain) or inspect.iscoroutinefunction(type(plain).__call__)

    @property
    def name(self) -> str:
        """The name under which its jobs travel."""
        return self.target.name

    @cached_property
    def signature(self) -> inspect.Signature | None:
        """The parameters that a call gives, without the context; None where Python can't tell them."""
        if self.handler is not None:
            return None
        try:
            signature = inspect.signature(self.function)
        except (TypeError, ValueError):
            return None
        parameters = list(signature.parameters.values())
        return signature.replace(parameters=parameters[1:]) if self.bound else signature

    @cached_property
    def _parameters(self) -> Parameters | None:
        signature = self.signature
        return None if signature is None else Parameters.of(signature)

    @cached_property
    def hints(self) -> CallHints:
        """What the annotations restore in a payload."""
        from jobmaster.wire.hints import call_hints

        return call_hints(self.function, bound=self.bound)

    @cached_property
    def returns(self) -> object:
        """The annotation of the result, or None."""
        from jobmaster.wire.hints import annotations_of

        return annotations_of(inspect.unwrap(self.function)).get("return")

    def check_call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Refuse arguments that the function cannot take, before a worker has to find out.

        Raises:
            TypeError: as the call itself would raise it.
        """
        if self._parameters is not None and self._parameters.take(args, kwargs):
            return
        if self.signature is None:
            return
        why = refusal(self.signature, args, kwargs)
        if why is not None:
            raise TypeError(f"{self.name}: {why}")

    def policy(self, settings: Settings, *, in_threads: bool = False) -> TaskPolicy:
        """Its limits, with the cluster's settings where it has none of its own.

        Args:
            settings: the cluster's.
            in_threads: sync tasks run in threads: there the cluster's default is the soft limit only, because a hard
                one costs the whole process where a thread does not listen.
        """
        limits, given = self.limits, self.limits.given
        timeout, soft_timeout = limits.timeout, limits.soft_timeout
        if "timeout" not in given:
            timeout = settings.default_timeout
            if in_threads and not self.is_async:
                timeout, soft_timeout = None, soft_timeout or settings.default_timeout
        return TaskPolicy(
            name=self.name,
            is_async=self.is_async,
            timeout=timeout,
            soft_timeout=soft_timeout,
            max_retries=limits.max_retries if "max_retries" in given else settings.default_max_retries,
            backoff=limits.backoff if "retry" in given else settings.retry,
            at_most_once=self.target.at_most_once,
        )

    def stored(self, settings: Settings) -> Definition:
        """It as the master keeps it, for people and for programs that send by name."""
        policy = self.policy(settings)
        defaults = {
            "timeout": policy.timeout,
            "soft_timeout": policy.soft_timeout,
            "max_retries": policy.max_retries,
            "keep_result": self.target.keep_result,
            "durability": self.target.durability,
            "metadata": self.target.metadata,
            "is_data": self.target.is_data,
        }
        return Definition(
            name=self.name,
            lane=self.target.lane,
            priority=self.target.priority,
            at_most_once=self.target.at_most_once,
            signature="" if self.signature is None else str(self.signature),
            source=_source(self.handler or self.function),
            defaults=msgspec.json.encode(defaults),
        )


def target_of(definition: Definition) -> Target:
    """What an enqueuing program must know of a task that only the master knows."""
    defaults: dict[str, Any] = msgspec.json.decode(definition.defaults)
    return Target(
        name=definition.name,
        lane=definition.lane,
        priority=definition.priority,
        at_most_once=definition.at_most_once,
        is_data=bool(defaults.get("is_data")),
        metadata=defaults.get("metadata") or {},
        keep_result=defaults.get("keep_result"),
        durability=defaults.get("durability"),
    )


def define(
    function: Callable[..., Any],
    options: Mapping[str, Any],
    *,
    name: str,
    bound: bool = False,
    handler: type | None = None,
) -> TaskDefinition:
    """A definition from what a decorator was given.

    Raises:
        ConfigurationError: an option does not exist or is out of its limits; the text names the task.
    """
    what = f"{'Handler' if handler else 'Task'} {name!r}"
    given = read.known_task_options(options, what)
    given.pop("name", None)
    try:
        target = _target(name, given, is_data=handler is not None)
        limits = _limits(given)
        read.check_limits(limits.timeout, limits.soft_timeout, "It")
    except ConfigurationError as error:
        raise ConfigurationError(f"{what}: {error}") from None
    return TaskDefinition(function, target=target, limits=limits, bound=bound, handler=handler)


def check_task_name(name: object) -> str:
    """`name`, when a task may have it.

    Raises:
        ConfigurationError: it is no text, empty, too long, or holds control characters.
    """
    if not isinstance(name, str) or not name.strip() or len(name) > LONGEST_NAME or not name.isprintable():
        raise ConfigurationError(
            f"A task's name is {name!r:.80}, but it is text of 1 to {LONGEST_NAME} printable characters, such as "
            "'shop.tasks.receipt'."
        )
    return name


def task_name(function: Any) -> str:
    """`module.function`; of a program run as a script the module's importable name."""
    module = getattr(function, "__module__", None) or "__main__"
    if module == "__main__":
        module = main_module_name()
    return f"{module}.{function.__name__}"


def main_module_name() -> str:
    """Under which name the running script can be imported: `python -m shop.tasks`, `python shop/tasks.py` agree."""
    main = sys.modules.get("__main__")
    spec = getattr(main, "__spec__", None)
    if spec is not None:
        return str(spec.name).removesuffix(".__main__")
    file = getattr(main, "__file__", None)
    if not file:
        return "__main__"
    path = Path(file).absolute()
    parts = [path.stem] if path.stem not in {"__init__", "__main__"} else []
    folder = path.parent
    while (folder / "__init__.py").exists():
        parts.insert(0, folder.name)
        folder = folder.parent
    return ".".join(parts) or "__main__"


class Registry:
    """An app's definitions by name. Safe to use from several threads."""

    def __init__(self) -> None:
        self._definitions: dict[str, TaskDefinition] = {}
        self._lock = threading.Lock()

    def add(self, definition: TaskDefinition) -> None:
        """Register it. The same function may come again (its module was imported twice); another one may not.

        Raises:
            ConfigurationError: the name belongs to another function.
        """
        with self._lock:
            known = self._definitions.get(definition.name)
            if known is not None and _origin(known) != _origin(definition):
                raise ConfigurationError(
                    f"The task name {definition.name!r} is taken by {_origin(known)}, so {_origin(definition)} cannot "
                    "have it: a worker could not tell whose job it has. Give one of them name='...'."
                )
            self._definitions[definition.name] = definition

    def find(self, name: str) -> TaskDefinition | None:
        """The definition of this name, or None."""
        return self._definitions.get(name)

    def get(self, name: str) -> TaskDefinition:
        """The definition of this name.

        Raises:
            NotRegistered: there is none in this process.
        """
        found = self._definitions.get(name)
        if found is None:
            raise unknown_task(name, self._definitions)
        return found

    def lanes(self) -> set[str]:
        """Every lane that a definition names, as stored."""
        return {definition.target.lane for definition in self}

    def __iter__(self) -> Iterator[TaskDefinition]:
        return iter(list(self._definitions.values()))

    def __len__(self) -> int:
        return len(self._definitions)


def unknown_task(name: str, known: Mapping[str, object]) -> NotRegistered:
    """The error for a name that nobody registered, with the nearest one that somebody did."""
    import difflib

    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"Did you mean {close[0]!r}?" if close else "Import its module, or start a worker that has it."
    return NotRegistered(f"No task or handler is registered as {name!r}. {hint}")


def _target(name: str, given: Mapping[str, Any], *, is_data: bool) -> Target:
    values: dict[str, Any] = {"name": name, "is_data": is_data}
    if "lane" in given:
        values["lane"] = read.read_lane(given["lane"])
    if "priority" in given:
        values["priority"] = read.read_priority(given["priority"])
    if "metadata" in given:
        values["metadata"] = read.read_metadata(given["metadata"])
    if "keep_result" in given:
        values["keep_result"] = read.read_kept(given["keep_result"])
    if "durability" in given:
        values["durability"] = read.read_durability(given["durability"])
    if "acks_late" in given:
        if not isinstance(given["acks_late"], bool):
            raise ConfigurationError(f"acks_late is {given['acks_late']!r}, but it is True or False.")
        values["at_most_once"] = not given["acks_late"]
    return Target(**values)


def _limits(given: Mapping[str, Any]) -> Limits:
    values: dict[str, Any] = {"given": frozenset(given)}
    for name in ("timeout", "soft_timeout"):
        if name in given:
            values[name] = read.read_limit(given[name], name)
    if "max_retries" in given:
        values["max_retries"] = read.read_retries(given["max_retries"])
    if "retry" in given:
        if not isinstance(given["retry"], Backoff):
            raise ConfigurationError(f"retry is {given['retry']!r}, but must be a Backoff, such as Backoff(base=2).")
        values["backoff"] = given["retry"]
    for name in ("retry_on", "give_up_on"):
        if name in given:
            values[name] = read.read_exceptions(given[name], name)
    return Limits(**values)


def _origin(definition: TaskDefinition) -> str:
    thing = definition.handler or inspect.unwrap(definition.function)
    module = getattr(thing, "__module__", None)
    if module == "__main__":
        module = main_module_name()
    return f"{module}.{getattr(thing, '__qualname__', repr(thing))}"


def _source(thing: Any) -> str:
    """The source text, for people; empty where Python can't find it."""
    try:
        return inspect.getsource(inspect.unwrap(thing))[:LONGEST_SOURCE]
    except (OSError, TypeError):
        return ""
