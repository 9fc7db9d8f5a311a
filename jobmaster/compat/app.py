"""`Celery`: an app with Celery's methods, on a JobMaster cluster."""

from __future__ import annotations

import importlib.util
import re
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import tzinfo
from pathlib import Path
from typing import Any, Concatenate, Literal, ParamSpec, Protocol, TypeVar, overload
from zoneinfo import ZoneInfo

from jobmaster.app import JobMaster
from jobmaster.compat.addresses import no_master, stores_of, workers_of
from jobmaster.compat.conf import Conf, mebibytes_of, seconds_of, settings_of
from jobmaster.compat.current import set_current
from jobmaster.compat.result import AsyncResult
from jobmaster.compat.routing import CELERYS_DEFAULT, lane_of, priority_of, routed_queue
from jobmaster.compat.task import Task
from jobmaster.compat.task_options import TaskOptions, read_task_options
from jobmaster.errors import ConfigurationError
from jobmaster.task import Task as NativeTask

P = ParamSpec("P")
R = TypeVar("R")


class TaskDecorator(Protocol):
    """What `@app.task(...)` returns."""

    def __call__(self, function: Callable[P, R], /) -> Task[P, R]:
        """Register the function."""
        ...


class BoundTaskDecorator(Protocol):
    """What `@app.task(bind=True, ...)` returns: the function takes the task first, callers don't pass it."""

    def __call__(self, function: Callable[Concatenate[Any, P], R], /) -> Task[P, R]:
        """Register the function."""
        ...


class Celery:
    """A Celery app that runs on JobMaster.

    Args:
        main: the project's name; names the cluster, and stands for `__main__` in the names of tasks.
        broker: where the jobs are: `postgresql://`, `mysql://`, `mssql://`, `sqlite:///`, `nats://`. With any other
            URL, or none, JOBMASTER_MASTER names the master database.
        backend: the master database, where that is another one than the broker.
        include: modules with tasks that a worker imports.
        config_source: settings, as for `config_from_object`.
        set_as_current: `AsyncResult("id")` without an app means this one from now on.
        settings: settings by their names, as in `app.conf`.

    The cluster is opened when the app is used for the first time, so that `app.conf` can be filled before.
    """

    def __init__(
        self,
        main: str | None = None,
        *,
        broker: str | None = None,
        backend: str | None = None,
        include: Iterable[str] | None = None,
        config_source: object = None,
        set_as_current: bool = True,
        **settings: Any,
    ) -> None:
        self.main = main
        self.conf = Conf()
        self._folder = _folder_of(sys._getframe(1).f_code.co_filename)  # noqa: SLF001 - relative paths begin there
        self._tasks: dict[str, Task[..., Any]] = {}
        self._native: dict[str, NativeTask[..., Any]] = {}
        self._jobmaster: JobMaster | None = None
        self._discover: list[str] = []
        self._lock = threading.RLock()
        if config_source is not None:
            self.config_from_object(config_source)
        for name, value in (("broker_url", broker), ("result_backend", backend), ("include", include)):
            if value is not None:
                self.conf[name] = value
        self.conf.update(settings)
        if set_as_current:
            set_current(self)

    # -- tasks

    @overload
    def task(self, function: Callable[P, R], /) -> Task[P, R]: ...
    @overload
    def task(self, *, bind: Literal[True], **options: Any) -> BoundTaskDecorator: ...
    @overload
    def task(self, *, bind: Literal[False] = ..., **options: Any) -> TaskDecorator: ...
    def task(self, *function: Callable[..., Any], bind: bool = False, **options: Any) -> Any:
        """Register a function as a task: `@app.task` or `@app.task(bind=True, max_retries=5, ...)`.

        Args:
            function: the function; `async def` works, too.
            bind: it takes the task first (`self`), for `self.request` and `self.retry`.
            options: see `TaskOptions`.

        Raises:
            ConfigurationError: an option that there is not, or that is not supported; the text says what to do instead.
        """
        if function:
            return self._add(function[0], options, bind=bind)
        return lambda given: self._add(given, options, bind=bind)

    @property
    def tasks(self) -> Mapping[str, Task[..., Any]]:
        """The tasks of this app by name."""
        return dict(self._tasks)

    def send_task(
        self,
        name: str,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> AsyncResult[Any]:
        """Send a task by its name. Options need its code in this process; without it the master must know the name.

        Raises:
            NotRegistered: nobody knows the name.
            ConfigurationError: options for a task whose code is elsewhere.
        """
        known = self._tasks.get(name)
        if known is not None:
            return known.apply_async(args, kwargs, **options)
        if options:
            raise ConfigurationError(
                f"send_task({name!r}) has options ({', '.join(options)}), but the task's code is not in this process. "
                "Import its module, or leave the options out."
            )
        sent = self.jobmaster.send(name, *(args or ()), **(kwargs or {}))
        return AsyncResult(sent.id, app=self, native=sent)

    def AsyncResult(self, id: str) -> AsyncResult[Any]:  # noqa: N802 - Celery's name
        """The result of a task of this app, by its id."""
        return AsyncResult(id, app=self)

    # -- settings

    def config_from_object(self, source: object, *, namespace: str | None = None) -> None:
        """Take settings from a mapping, a module or its name (`"proj.settings"`), or an object's attributes.

        Args:
            source: where they are.
            namespace: take only names that begin with it: `CELERY_TASK_ACKS_LATE` with `"CELERY"`.

        Raises:
            ConfigurationError: the module cannot be imported.
        """
        self.conf.update(settings_of(source, namespace))

    def autodiscover_tasks(self, packages: Iterable[str] | None = None, related_name: str = "tasks") -> None:
        """Have workers import the module `related_name` of each package, where it has one.

        Raises:
            ConfigurationError: no packages are named.
        """
        if packages is None:
            raise ConfigurationError("autodiscover_tasks() needs the packages: autodiscover_tasks(['proj', 'shop']).")
        self._discover += [f"{package}.{related_name}" for package in packages]

    @property
    def timezone(self) -> tzinfo:
        """The zone of moments without one: the setting `timezone`, else UTC."""
        return ZoneInfo(self.conf.timezone or "UTC")

    # -- the cluster

    @property
    def jobmaster(self) -> JobMaster:
        """The JobMaster app behind this one, made on first use: `jobmaster worker -A proj` finds it here.

        Raises:
            ConfigurationError: the settings name no master database, or cannot work.
        """
        with self._lock:
            if self._jobmaster is None:
                self._jobmaster = self._open()
                self.conf.freeze()
                for task in self._tasks.values():
                    self._register(task)
            return self._jobmaster

    def native_task(self, task: Task[..., Any]) -> NativeTask[..., Any]:
        """The JobMaster task behind a task of this app."""
        self.jobmaster  # noqa: B018 - makes and registers what is not yet
        return self._native[task.name]

    def ignores_result(self, options: TaskOptions) -> bool:
        """Whether what a task with these options returns is dropped."""
        ignored = self.conf.task_ignore_result if options.ignore_result is None else options.ignore_result
        return bool(ignored)

    def close(self) -> None:
        """Close the connections of this process. The app can be used again."""
        if self._jobmaster is not None:
            self._jobmaster.close()

    def __repr__(self) -> str:
        return f"<Celery {self.main or '__main__'}>"

    def _add(self, function: Callable[..., Any], options: Mapping[str, Any], *, bind: bool) -> Task[..., Any]:
        if isinstance(function, Task):
            raise ConfigurationError(f"{function.name!r} is a task already. Put one @app.task on a function.")
        read = read_task_options(options, function.__qualname__)
        task: Task[..., Any] = Task(self, function, read, name=read.name or self._name_of(function), bind=bind)
        with self._lock:
            self._tasks[task.name] = task
            if self._jobmaster is not None:
                self._register(task)
        return task

    def _name_of(self, function: Callable[..., Any]) -> str:
        module = function.__module__
        if module == "__main__":
            module = self.main or Path(getattr(sys.modules["__main__"], "__file__", None) or module).stem
        return f"{module}.{function.__name__}"

    def _open(self) -> JobMaster:
        conf = self.conf
        stores = stores_of(conf.broker_url, conf.result_backend)
        settings: dict[str, Any] = {
            "time_zone": conf.timezone or "UTC",
            "include": (*conf.imports, *conf.include, *filter(_exists, self._discover)),
            "master": stores.master,
            "agents": stores.agents,
            "workers": workers_of(stores, conf.worker_concurrency),
            "max_tasks_per_child": conf.worker_max_tasks_per_child,
            "max_memory_per_child": mebibytes_of(conf.worker_max_memory_per_child, "worker_max_memory_per_child"),
        }
        given = {name: value for name, value in settings.items() if value}
        given["retention"] = seconds_of(conf.result_expires, "result_expires")
        app = JobMaster(cluster_id_of(self.main), folder=self._folder, **given)
        if stores.master is None and app.resolved.origins["master"] == "default":
            raise no_master(conf.broker_url, app.cluster_id)
        return app

    def _register(self, task: Task[..., Any]) -> None:
        if self._jobmaster is None or task.name in self._native:
            return
        register: Any = self._jobmaster.task
        options = self._native_options(task)
        self._native[task.name] = register(bind=task.bind, name=task.name, **options)(task.function_for_worker())

    def _native_options(self, task: Task[..., Any]) -> dict[str, Any]:
        options, conf = task.options, self.conf
        limits = {
            "timeout": options.time_limit or conf.task_time_limit,
            "soft_timeout": options.soft_time_limit or conf.task_soft_time_limit,
        }
        # What is retried, and how often, is decided by Celery's rules in the task itself.
        native = {"max_retries": 0, "retry_on": (), **limits}
        native["acks_late"] = bool(conf.task_acks_late if options.acks_late is None else options.acks_late)
        queue = options.queue or routed_queue(task.name, conf.task_routes) or conf.task_default_queue
        native["lane"] = lane_of(queue, conf.task_default_queue or CELERYS_DEFAULT)
        priority = conf.task_default_priority if options.priority is None else options.priority
        if priority is not None:
            native["priority"] = priority_of(priority)
        return native


def cluster_id_of(main: str | None) -> str:
    """The id of the cluster of an app of this name: what an id cannot hold becomes a dash."""
    words = re.findall(r"[A-Za-z0-9]+(?:[_-][A-Za-z0-9]+)*", main or "")
    return "-".join(words)[:50].rstrip("-_") or "celery"


def _exists(module: str) -> bool:
    """Whether a module to discover is there. A package that is missing itself is an error, as in Celery."""
    return importlib.util.find_spec(module) is not None


def _folder_of(file: str) -> str | None:
    return str(Path(file).absolute().parent) if Path(file).exists() else None
