"""Tasks: functions that can be enqueued as jobs, typed so that `delay` takes what the function takes."""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar, Unpack, cast, overload

from jobmaster.options import PLAIN, CallOptions, CallPlan, plan_call

if TYPE_CHECKING:
    from jobmaster.app import JobMaster
    from jobmaster.context import JobContext
    from jobmaster.registry import TaskDefinition
    from jobmaster.result import Result

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
T_co = TypeVar("T_co", covariant=True)


class Job(Generic[R_co]):
    """A call that is not enqueued yet: what `enqueue_many` takes. Made by `task.job(...)`."""

    __slots__ = ("args", "definition", "kwargs", "plan")

    def __init__(
        self, definition: TaskDefinition, *, plan: CallPlan, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> None:
        self.definition = definition
        self.plan = plan
        self.args = tuple(args)
        self.kwargs = dict(kwargs)

    def __repr__(self) -> str:
        return f"<Job of {self.definition.name}>"


class Call(Generic[P, T_co]):
    """A task with the options of a call: `hello.options(delay=10)`. It can be used for any number of calls."""

    def __init__(self, app: JobMaster, definition: TaskDefinition, plan: CallPlan = PLAIN) -> None:
        self._app = app
        self._definition = definition
        self._plan = plan

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._definition.name}>"

    @overload
    def delay(self: Call[P, Coroutine[Any, Any, R]], *args: P.args, **kwargs: P.kwargs) -> Result[R]: ...
    @overload
    def delay(self: Call[P, R], *args: P.args, **kwargs: P.kwargs) -> Result[R]: ...
    def delay(self, *args: Any, **kwargs: Any) -> Result[Any]:
        """Enqueue a job that calls the task with these arguments, and return when a store has it.

        Raises:
            TypeError: the task cannot take these arguments.
            SerializationError, MessageTooLarge: they cannot travel. Nothing was stored.
            StoreUnavailable: no store answered in time. Nothing was stored.
            OutcomeUnknown: a store may have it; repeat with `options(job_id=error.job_id)`.
            ClusterArchived: the cluster takes no work.
        """
        return self._app.enqueuer.call(self._definition, args, kwargs, self._plan)

    @overload
    async def adelay(self: Call[P, Coroutine[Any, Any, R]], *args: P.args, **kwargs: P.kwargs) -> Result[R]: ...
    @overload
    async def adelay(self: Call[P, R], *args: P.args, **kwargs: P.kwargs) -> Result[R]: ...
    async def adelay(self, *args: Any, **kwargs: Any) -> Result[Any]:
        """`delay` for a running event loop: same arguments, result and errors."""
        return await self._app.enqueuer.acall(self._definition, args, kwargs, self._plan)

    @overload
    def job(self: Call[P, Coroutine[Any, Any, R]], *args: P.args, **kwargs: P.kwargs) -> Job[R]: ...
    @overload
    def job(self: Call[P, R], *args: P.args, **kwargs: P.kwargs) -> Job[R]: ...
    def job(self, *args: Any, **kwargs: Any) -> Job[Any]:
        """The call, not enqueued yet, for `jm.enqueue_many([...])`.

        Raises:
            TypeError: the task cannot take these arguments.
        """
        self._definition.check_call(args, kwargs)
        return Job(self._definition, plan=self._plan, args=args, kwargs=kwargs)


class Task(Call[P, T_co]):
    """A registered task. Calling it calls the function; `delay` enqueues a job that does.

    Attributes:
        name: the name under which its jobs travel, `module.function` if none was given.
    """

    def __init__(self, app: JobMaster, definition: TaskDefinition, function: Callable[P, T_co]) -> None:
        super().__init__(app, definition)
        self._function = function
        functools.update_wrapper(cast("Callable[..., Any]", self), definition.function)
        self.name: str = definition.name

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T_co:
        """Call the function here and now, as if it were no task. A bound one gets a detached context."""
        return self._function(*args, **kwargs)

    @property
    def definition(self) -> TaskDefinition:
        """What is registered under the task's name."""
        return self._definition

    def options(self, **options: Unpack[CallOptions]) -> Call[P, T_co]:
        """The task with options for its next calls; see `CallOptions` for each.

        Raises:
            ConfigurationError: an option does not exist, contradicts another one or is out of its limits.
        """
        return Call(self._app, self._definition, plan_call(options))

    @overload
    def apply_async(
        self: Task[..., Coroutine[Any, Any, R]],
        args: Sequence[Any] = ...,
        kwargs: Mapping[str, Any] | None = ...,
        **options: Unpack[CallOptions],
    ) -> Result[R]: ...
    @overload
    def apply_async(
        self: Task[..., R],
        args: Sequence[Any] = ...,
        kwargs: Mapping[str, Any] | None = ...,
        **options: Unpack[CallOptions],
    ) -> Result[R]: ...
    def apply_async(
        self, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None, **options: Unpack[CallOptions]
    ) -> Result[Any]:
        """Celery's spelling of `options(...).delay(*args, **kwargs)`: same options, result and errors.

        Args:
            args: positional arguments of the call.
            kwargs: arguments by name.
            options: those of `options`, `countdown`, `eta` and `queue` among them.
        """
        return self._app.enqueuer.call(self._definition, tuple(args), dict(kwargs or {}), plan_call(options))


class TaskDecorator(Protocol):
    """What `@jm.task(...)` returns."""

    def __call__(self, function: Callable[P, T_co], /) -> Task[P, T_co]:
        """Register the function."""
        ...


class BoundTaskDecorator(Protocol):
    """What `@jm.task(bind=True, ...)` returns: the function takes the context first, callers don't pass it."""

    def __call__(self, function: Callable[Concatenate[JobContext, P], T_co], /) -> Task[P, T_co]:
        """Register the function."""
        ...


def detached(definition: TaskDefinition) -> Callable[..., Any]:
    """The function of a bound task for plain calls: each gets a context that belongs to no job."""

    @functools.wraps(definition.function)
    def call(*args: Any, **kwargs: Any) -> Any:
        from jobmaster.context import detached_context

        return definition.function(detached_context(definition, args, kwargs), *args, **kwargs)

    return call
