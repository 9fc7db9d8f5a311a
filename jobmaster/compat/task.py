"""Tasks with Celery's methods: `delay`, `apply_async`, `self.request`, `self.retry`."""

from __future__ import annotations

import functools
import inspect
import random
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar

from jobmaster.compat.call_options import call_options, moment_of
from jobmaster.compat.exceptions import Ignore, MaxRetriesExceededError, OperationalError, Retry
from jobmaster.compat.request import Context, context_of, running
from jobmaster.compat.result import AsyncResult
from jobmaster.compat.retrying import backoff_seconds, may_retry
from jobmaster.context import current_job
from jobmaster.errors import ConfigurationError, JobCancelled
from jobmaster.errors import Reject as NativeReject
from jobmaster.errors import Retry as NativeRetry

if TYPE_CHECKING:
    from jobmaster.compat.app import Celery
    from jobmaster.compat.task_options import TaskOptions
    from jobmaster.task import Task as NativeTask

P = ParamSpec("P")
R_co = TypeVar("R_co", covariant=True)

_NEVER_RETRIED = (Ignore, NativeReject, NativeRetry, JobCancelled)


class Task(Generic[P, R_co]):
    """A task of a Celery app. Calling it calls the function; `delay` sends it to a worker.

    Attributes:
        app: the app.
        name: under which it is sent.
        max_retries: how many retries `self.retry()` allows; None: any number. May be changed.
        default_retry_delay: seconds until a retry that says nothing else. May be changed.
    """

    MaxRetriesExceededError = MaxRetriesExceededError
    OperationalError = OperationalError

    def __init__(
        self, app: Celery, function: Callable[..., Any], options: TaskOptions, *, name: str, bind: bool
    ) -> None:
        functools.update_wrapper(self, function)
        self.app = app
        self.name = name
        self.options = options
        self.bind = bind
        self.max_retries = options.max_retries
        self.default_retry_delay = options.default_retry_delay
        self._function = function

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Call the function here and now. A retry then raises its reason."""
        token = running.set((self.name, Context(args=args, kwargs=dict(kwargs))))
        try:
            value: R_co = self.run(*args, **kwargs)
            return value
        finally:
            running.reset(token)

    def run(self, *args: Any, **kwargs: Any) -> Any:
        """The function itself."""
        return self._function(self, *args, **kwargs) if self.bind else self._function(*args, **kwargs)

    @property
    def request(self) -> Context:
        """The run of this task that goes on here; an empty one with `called_directly` outside of a run."""
        current = running.get()
        return current[1] if current is not None and current[0] == self.name else Context()

    @property
    def _jobmaster_task(self) -> NativeTask[..., Any]:
        """The JobMaster task behind it: with it this task can be put into schedules and `jm.scheduler`."""
        return self.app.native_task(self)

    def delay(self, *args: P.args, **kwargs: P.kwargs) -> AsyncResult[R_co]:
        """Send the task with these arguments.

        Raises:
            TypeError: the function cannot take them.
            OperationalError: no store answered; nothing was sent.
        """
        return self.apply_async(args, kwargs)

    def apply_async(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        task_id: str | None = None,
        **options: Any,
    ) -> AsyncResult[R_co]:
        """Send the task.

        Args:
            args: positional arguments.
            kwargs: arguments by name.
            task_id: an id of the caller's own; the same id is the same task.
            options: `countdown` (seconds), `eta` (moment), `expires` (seconds or moment), `queue`, `priority` (0 to 9,
                9 first), `time_limit` and `soft_time_limit` (seconds).

        Raises:
            As `delay`; and ConfigurationError for an option that is not supported.
        """
        if args is not None and not isinstance(args, (list, tuple)):
            raise TypeError(f"task args must be a list or tuple, not {type(args).__name__}")
        if kwargs is not None and not isinstance(kwargs, Mapping):
            raise TypeError(f"task kwargs must be a mapping, not {type(kwargs).__name__}")
        native = self.app.native_task(self)
        given = {"expires": self.options.expires, "task_id": task_id, **options}
        call = call_options(given, default_queue=self.app.conf.task_default_queue, zone=self.app.timezone)
        sent = native.apply_async(args or (), kwargs, **call)
        return AsyncResult(sent.id, app=self.app, native=sent)

    def AsyncResult(self, task_id: str) -> AsyncResult[R_co]:  # noqa: N802 - Celery's name
        """The result of a run of this task, by its id."""
        return AsyncResult(task_id, app=self.app)

    def retry(  # noqa: PLR0917 - Celery's signature
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        exc: BaseException | None = None,
        throw: bool = True,  # noqa: FBT001, FBT002 - Celery's signature
        eta: datetime | str | None = None,
        countdown: float | None = None,
        max_retries: int | None = None,
    ) -> Retry:
        """End this run and ask for another one: `raise self.retry(exc=exc, countdown=10)`.

        Args:
            args: only the arguments that the task has already; others cannot be given to a retry.
            kwargs: as `args`.
            exc: the reason; raised when no retry is left.
            throw: must be True: nothing is stored before the run ends.
            eta: moment of the next run.
            countdown: seconds until it, `default_retry_delay` if neither is given.
            max_retries: overrides the task's limit.

        Raises:
            Retry: always, where another run may follow.
            MaxRetriesExceededError: no retry is left, and no `exc` was given.
        """
        request = self.request
        if request.called_directly:
            raise exc or Retry("Task can be retried")
        self._check_retry(request, args, kwargs, throw=throw)
        if not may_retry(request.retries, self.max_retries if max_retries is None else max_retries):
            if exc is not None:
                raise exc
            raise MaxRetriesExceededError(
                f"Can't retry {self.name}[{request.id}] args:{request.args!r} kwargs:{request.kwargs!r}",
                task_args=request.args,
                task_kwargs=request.kwargs,
            )
        raise self._retry(request, exc, when=self._when(eta, countdown)) from exc

    def function_for_worker(self) -> Callable[..., Any]:
        """What JobMaster registers: the function within `self.request`, automatic retries and `ignore_result`."""
        if inspect.iscoroutinefunction(self._function):

            async def arun(*args: Any, **kwargs: Any) -> Any:
                with self._as_job():
                    return self._kept(await self._function(*self._arguments(args), **kwargs))

            return functools.wraps(self._function)(arun)

        def run(*args: Any, **kwargs: Any) -> Any:
            with self._as_job():
                return self._kept(self._function(*self._arguments(args), **kwargs))

        return functools.wraps(self._function)(run)

    def __repr__(self) -> str:
        return f"<@task: {self.name} of {self.app.main or '__main__'}>"

    def _arguments(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """A bound task gets itself where JobMaster gives the job's context."""
        return (self, *args[1:]) if self.bind else args

    def _kept(self, value: Any) -> Any:
        return None if self.app.ignores_result(self.options) else value

    @contextmanager
    def _as_job(self) -> Generator[None]:
        """Around a run by a worker: its request, and the retry that an exception may ask for."""
        request = context_of(current_job())
        token = running.set((self.name, request))
        try:
            yield
        except _NEVER_RETRIED:
            raise
        except Exception as error:
            again = self._automatic_retry(request, error)
            if again is None:
                raise
            raise again from error
        finally:
            running.reset(token)

    def _automatic_retry(self, request: Context, error: Exception) -> Retry | None:
        options = self.options
        if isinstance(error, options.dont_autoretry_for) or not isinstance(error, options.autoretry_for):
            return None
        limit = options.retry_kwargs.get("max_retries", self.max_retries)
        if not may_retry(request.retries, limit):
            return None
        if options.retry_backoff:
            when: float | datetime = backoff_seconds(
                options.retry_backoff,
                retries=request.retries,
                maximum=options.retry_backoff_max,
                jitter=options.retry_jitter,
                draw=random.randrange,
            )
        else:
            when = self._when(None, options.retry_kwargs.get("countdown"))
        return self._retry(request, error, when=when)

    def _when(self, eta: datetime | str | None, countdown: float | None) -> float | datetime:
        if eta is not None:
            return moment_of(eta, "eta", self.app.timezone)
        return self.default_retry_delay if countdown is None else countdown

    def _retry(self, request: Context, exc: BaseException | None, *, when: float | datetime) -> Retry:
        # The limit was decided here; JobMaster is told that this one retry is allowed.
        return Retry(str(exc or ""), exc, when, max_retries=request.retries + 1)

    def _check_retry(
        self, request: Context, args: Sequence[Any] | None, kwargs: Mapping[str, Any] | None, *, throw: bool
    ) -> None:
        if not throw:
            raise ConfigurationError(
                "retry(throw=False) is not supported: a retry is stored with the end of this run. "
                "Write: raise self.retry(...)"
            )
        same_args = args is None or tuple(args) == tuple(request.args)
        same_kwargs = kwargs is None or dict(kwargs) == request.kwargs
        if not (same_args and same_kwargs):
            raise ConfigurationError(
                f"{self.name}: a retry runs with the arguments of the task, others cannot be given to it. Send a new "
                "task with apply_async() instead."
            )
