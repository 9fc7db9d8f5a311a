"""The app: one object that names a cluster, registers tasks, enqueues jobs and, if asked to, runs them."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping
from contextlib import asynccontextmanager
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack, overload

from jobmaster import crash_points
from jobmaster.apps import apps
from jobmaster.declaring import SchedulesInCode
from jobmaster.discovery import import_included, import_tasks
from jobmaster.errors import ConfigurationError
from jobmaster.model.ids import parse_key
from jobmaster.registering import TasksInCode
from jobmaster.result import Result
from jobmaster.settings import ResolvedSettings, SettingArguments, Settings, resolve
from jobmaster.task import Job, Task

if TYPE_CHECKING:
    from jobmaster.client import Client
    from jobmaster.enqueuing import Enqueuer
    from jobmaster.in_process import InProcessWorkers
    from jobmaster.questions import Buckets, Jobs, Workers
    from jobmaster.schedule_questions import Schedules
    from jobmaster.scheduler import Scheduler
    from jobmaster.wire.codec import Codec

R = TypeVar("R")
C = TypeVar("C", bound=type)


class JobMaster(TasksInCode, SchedulesInCode):
    """A cluster, as this program takes part in it.

    Args:
        cluster_id: names the cluster; all programs that share its jobs use the same id.
        default: this app is the one that environment variables and files speak to; else the first one made is.
        folder: where relative paths begin and files with settings are looked for; the folder of the calling file if
            not given.
        testing: the app exists for tests: its processes heed JOBMASTER_CRASH_POINTS (`jobmaster.crash_points`), which
            every other app refuses.
        settings: see `SettingArguments` and docs/settings.md; `master="postgresql://..."` and the like. Without any,
            the cluster lives in the file jobmaster.db beside the module that makes the app.

    Raises:
        ConfigurationError: a setting cannot work. The text names every fault: what, why, what to do.
    """

    def __init__(
        self,
        cluster_id: str,
        *,
        default: bool = False,
        folder: str | None = None,
        testing: bool = False,
        **settings: Unpack[SettingArguments],
    ) -> None:
        crash_points.arm(os.environ, testing=testing, app=cluster_id)
        self.cluster_id = cluster_id
        self.testing = testing
        self._given: Mapping[str, object] = dict(settings)
        self._command_line: Mapping[str, object] = {}
        self._folder = folder or _folder_of_caller()
        super().__init__()
        self._lock = threading.RLock()
        # Not the one above: what starts in another thread may ask for the client before it runs.
        self._starting = threading.Lock()
        self._workers: InProcessWorkers | None = None
        self._client: Client | None = None
        apps.join(self, wants_default=default)
        self._resolved: ResolvedSettings | None = None
        self.resolved  # noqa: B018 - settings that cannot work are told here, where they were written

    # -- settings

    @property
    def resolved(self) -> ResolvedSettings:
        """The settings with the origin of each value."""
        if self._resolved is None:
            self._resolved = resolve(
                self.cluster_id,
                self._given,
                folder=self._folder,
                is_default=apps.default() is self,
                command_line=self._command_line,
            )
        return self._resolved

    @property
    def settings(self) -> Settings:
        """The settings of the cluster in this process."""
        return self.resolved.settings

    def resolve_again(self) -> None:
        """Read the settings anew when they are next asked for: another app became the default one."""
        self._resolved = None

    def configure(self, command_line: Mapping[str, object]) -> None:
        """Put settings of the command line, by dotted name, above all others. Before the app is used.

        Raises:
            ConfigurationError: as for the app itself, or the app has opened its stores already.
        """
        if self._client is not None:
            raise ConfigurationError(f"App {self.cluster_id!r} is in use; its settings cannot change any more.")
        self._command_line = dict(command_line)
        self._resolved = None
        self.resolved  # noqa: B018 - as above

    @cached_property
    def codec(self) -> Codec:
        """Writes and reads what jobs carry."""
        from jobmaster.wire.codec import Codec
        from jobmaster.wire.types import TypeRegistry

        return Codec(types=TypeRegistry(), allow_pickle=self.settings.allow_pickle)

    def register_type(
        self,
        cls: C,
        name: str | None = None,
        *,
        dump: Callable[[Any], object] | None = None,
        load: Callable[[Any], object] | None = None,
    ) -> C:
        """Let instances of `cls` travel and be restored without an annotation; also a decorator.

        Args:
            cls: a dataclass, enum, msgspec Struct, pydantic or attrs class, or any class with `dump` and `load`.
            name: label in messages; `module.QualName` if not given.
            dump: makes a plain value of an instance.
            load: the inverse of `dump`.

        Raises:
            ConfigurationError: the class cannot be taken apart, or the name belongs to another one.
        """
        return self.codec.types.register(cls, name, dump=dump, load=load)

    # -- modules with tasks

    def autodiscover(self, *packages: str) -> list[str]:
        """Import `tasks` of each package and of all packages below it, so that their tasks are registered.

        Returns:
            The names of the modules that were imported.

        Raises:
            ImportError: a package, or one of its `tasks`, cannot be imported.
        """
        return import_tasks(packages)

    def load_tasks(self) -> None:
        """Import the modules of the setting `include`. Workers do this before they start.

        Raises:
            ConfigurationError: one of them cannot be imported.
        """
        import_included(self.settings.include)

    # -- jobs

    def enqueue_many(self, jobs: Iterable[Job[R]]) -> list[Result[R]]:
        """Enqueue jobs made by `task.job(...)`: one round trip per batch of up to 1,000 of one lane and priority.

        Returns:
            The results, in the order of `jobs`.

        Raises:
            As `task.delay`. A batch is stored as a whole or not at all; of several batches some may be.
        """
        return self.enqueuer.many(list(jobs))

    async def aenqueue_many(self, jobs: Iterable[Job[R]]) -> list[Result[R]]:
        """`enqueue_many` for a running event loop."""
        return await self.enqueuer.amany(list(jobs))

    def send(self, name: str, /, *args: Any, **kwargs: Any) -> Result[Any]:
        """Enqueue a job by the task's name. The code may be elsewhere: lane and defaults are looked up in the master.

        Raises:
            NotRegistered: neither this process nor the master knows the name.
        """
        return self.enqueuer.by_name(name, args, kwargs)

    async def asend(self, name: str, /, *args: Any, **kwargs: Any) -> Result[Any]:
        """`send` for a running event loop."""
        return await self.enqueuer.aby_name(name, args, kwargs)

    @overload
    def result(self, job_id: str) -> Result[Any]: ...
    @overload
    def result(self, job_id: str, task: Task[..., Coroutine[Any, Any, R]]) -> Result[R]: ...
    @overload
    def result(self, job_id: str, task: Task[..., R]) -> Result[R]: ...
    def result(self, job_id: str, task: Task[..., Any] | None = None) -> Result[Any]:
        """The Result of a job by its id. Asks nobody: `.status` is None for an id that nobody knows.

        Args:
            job_id: the id.
            task: the job's task, whose return annotation restores the result's type.
        """
        returns = None if task is None else task.definition.returns
        return Result(self.client, parse_key(job_id)[0], job_id, returns=returns, accepted=False)

    @cached_property
    def scheduler(self) -> Scheduler:
        """Jobs for now, for a moment, or for later."""
        from jobmaster.scheduler import Scheduler

        return Scheduler(self)

    @cached_property
    def jobs(self) -> Jobs:
        """Questions about jobs."""
        from jobmaster.questions import Jobs

        return Jobs(self.client)

    @cached_property
    def schedules(self) -> Schedules:
        """Recurring schedules: questions, and what people do with them."""
        from jobmaster.schedule_questions import Schedules

        return Schedules(self)

    @cached_property
    def workers(self) -> Workers:
        """Questions and orders to workers."""
        from jobmaster.questions import Workers

        return Workers(self.client)

    @cached_property
    def buckets(self) -> Buckets:
        """Questions about buckets."""
        from jobmaster.questions import Buckets

        return Buckets(self.client)

    # -- life

    def cluster(self, cluster_id: str) -> JobMaster:
        """The app of another cluster that this program has made.

        Raises:
            ConfigurationError: there is none of this id.
        """
        return apps.of_cluster(cluster_id)

    @cached_property
    def enqueuer(self) -> Enqueuer:
        """From a call to a stored job."""
        from jobmaster.enqueuing import Enqueuer

        return Enqueuer(self)

    @property
    def client(self) -> Client:
        """Stores jobs and asks about them."""
        if self._client is not None:
            return self._client
        with self._lock:  # two threads may come here for the first time
            if self._client is None:
                self._client = self._make_client()
            return self._client

    def _make_client(self) -> Client:
        from jobmaster.client import Client
        from jobmaster.runtime import open_connections

        return Client(lambda: self.settings, codec=self.codec, opener=lambda: open_connections(self.settings))

    def start(self) -> None:
        """Run the declared workers in this process (one full worker if none is declared). Returns when they run.

        Raises:
            ConfigurationError: no task is known, the settings contradict those of the cluster, ...
            StoreUnavailable: the master cannot be reached.
        """
        from jobmaster.in_process import InProcessWorkers

        with self._starting:
            if self._workers is not None and self._workers.running():
                raise ConfigurationError(f"The workers of app {self.cluster_id!r} run already. Call stop() first.")
            workers = InProcessWorkers(self)
            workers.start()
            self._workers = workers

    def stop(self) -> None:
        """Stop the workers of this process gracefully, within the setting `grace`; does nothing where none run."""
        with self._starting:
            workers, self._workers = self._workers, None
        if workers is not None:
            workers.stop()

    def close(self) -> None:
        """Stop what runs in this process, and close its connections. The app can be used again."""
        self.stop()
        if self._client is not None:
            self._client.close()

    async def aclose(self) -> None:
        """`close` for a running event loop; closes that loop's connections, too."""
        import asyncio

        await asyncio.to_thread(self.stop)
        if self._client is not None:
            await self._client.aclose()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        import asyncio

        await asyncio.to_thread(self.start)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    @asynccontextmanager
    async def lifespan(self, app: object = None) -> AsyncIterator[None]:
        """For ASGI frameworks: `FastAPI(lifespan=jm.lifespan)` runs the workers while the application runs."""
        async with self:
            yield

    def __repr__(self) -> str:
        return f"<JobMaster {self.cluster_id!r}>"


def _folder_of_caller() -> str | None:
    """The folder of the file that makes the app; None for code that has no file."""
    frame = sys._getframe(2)  # noqa: SLF001 - the one way to know who calls
    file = frame.f_code.co_filename
    return str(Path(file).absolute().parent) if Path(file).exists() else None
