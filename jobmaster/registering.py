"""What an app's code says of tasks and handlers: `@jm.task`, `@jm.handler`, and the services of handlers."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar, Unpack, cast, overload

from jobmaster.errors import ConfigurationError
from jobmaster.options import TaskDefaults, TaskOptions
from jobmaster.registry import Registry, check_task_name, define, task_name
from jobmaster.task import BoundTaskDecorator, Task, TaskDecorator, detached

if TYPE_CHECKING:
    import svcs

    from jobmaster.app import JobMaster
    from jobmaster.handler import HandlerDecorator, Injector

P = ParamSpec("P")
T = TypeVar("T")


class TasksInCode:
    """The part of an app that its tasks and handlers are declared with."""

    def __init__(self) -> None:
        self._registry = Registry()
        self._services: svcs.Registry | None = None
        self._first_service = threading.Lock()

    @overload
    def task(self, function: Callable[P, T], /) -> Task[P, T]: ...
    @overload
    def task(self, *, bind: Literal[True], **options: Unpack[TaskOptions]) -> BoundTaskDecorator: ...
    @overload
    def task(self, *, bind: Literal[False] = ..., **options: Unpack[TaskOptions]) -> TaskDecorator: ...
    def task(self, *function: Callable[..., Any], **options: Any) -> Any:
        """Register a function as a task: `@jm.task` or `@jm.task(lane="mail", max_retries=5, ...)`.

        Args:
            function: a sync or async function.
            options: `bind=True`: the function takes the `JobContext` first, callers don't pass it; see `TaskOptions`.

        Raises:
            ConfigurationError: an option cannot be, or the task's name is taken.
        """
        bind = options.pop("bind", False)
        if not isinstance(bind, bool):
            raise ConfigurationError(f"bind is {bind!r}, but it is True or False.")
        if function:
            return self._register(function[0], bind=bind, options=options)
        return lambda given: self._register(given, bind=bind, options=options)

    def handler(self, name: str | None = None, **options: Unpack[TaskDefaults]) -> HandlerDecorator:
        """Register a class with `handle(self, job)` that is made anew for each job, with services from `jm.services`.

        Args:
            name: the name of its jobs; `module.Class` if not given.
            options: see `TaskOptions`.

        Raises:
            ConfigurationError: the class has no `handle`, an option cannot be, or the name is taken.
        """
        from jobmaster.handler import check_handler

        def register(cls: Any) -> Any:
            handle = check_handler(cls)
            known_as = check_task_name(name or task_name(cls))
            self._registry.add(define(handle, options, name=known_as, handler=cls))
            return cls

        return register

    @property
    def services(self) -> svcs.Registry:
        """What constructors of handlers are given: register factories and values here."""
        with self._first_service:
            if self._services is None:
                import svcs

                self._services = svcs.Registry()
            return self._services

    @property
    def injector(self) -> Injector:
        """Makes handlers with their services."""
        from jobmaster.handler import Injector

        return Injector(lambda: self.services)

    @property
    def registry(self) -> Registry:
        """The tasks and handlers that this process has."""
        return self._registry

    def _register(self, function: Callable[..., Any], *, bind: bool, options: Mapping[str, Any]) -> Task[..., Any]:
        if isinstance(function, Task):
            raise ConfigurationError(
                f"{function.name!r} is a task already. Put one @jm.task on a function, below its @jm.every."
            )
        if inspect.isclass(function) or not callable(function):
            raise ConfigurationError(
                f"@jm.task was put on {function!r}, which is no function. For a class with handle() use @jm.handler."
            )
        if "name" not in options and not hasattr(function, "__name__"):
            raise ConfigurationError(f"@jm.task was put on {function!r}, which has no name. Give it name='...'.")
        name = check_task_name(options["name"] if "name" in options else task_name(function))
        definition = define(function, options, name=name, bound=bind)
        self._registry.add(definition)
        return Task(cast("JobMaster", self), definition, detached(definition) if bind else function)
