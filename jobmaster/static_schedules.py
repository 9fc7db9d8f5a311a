"""Schedules that stand in code or in files: `@jm.every`, profiles, `[schedules.NAME]`."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar, overload

import msgspec

from jobmaster.errors import ConfigurationError, JobMasterError
from jobmaster.model.schedule import Schedule, ScheduleKind, static_key
from jobmaster.model.states import ClusterMode
from jobmaster.profiles import ScheduleCollection
from jobmaster.recurring import never_fires
from jobmaster.registry import unknown_task
from jobmaster.rules.compiling import compiled
from jobmaster.schedule_files import declared_in_files
from jobmaster.schedule_making import ScheduleMaker
from jobmaster.task import Task

if TYPE_CHECKING:
    from typing import ParamSpec

    from jobmaster.app import JobMaster
    from jobmaster.enqueuing import Data, What
    from jobmaster.handler import Handler
    from jobmaster.recurring import When
    from jobmaster.registry import TaskDefinition

    P = ParamSpec("P")

T = TypeVar("T")
H = TypeVar("H", bound="type[Handler]")

DECORATED: Final = "every"
"""The profile of `@jm.every`."""


class EveryDecorator(Protocol):
    """What `@jm.every(...)` returns: it takes a task, a handler's class, or a function, which becomes a task."""

    @overload
    def __call__(self, target: H, /) -> H: ...  # type: ignore[overload-overlap] # a class can be called, too
    @overload
    def __call__(self, target: Callable[P, T], /) -> Task[P, T]: ...


class Declaration(msgspec.Struct, frozen=True):
    """One static schedule as it was written. `profile` and `definition` name it; `source` is where it stands."""

    profile: str
    what: Any
    when: Any
    data: Any
    options: dict[str, Any]
    source: str

    @property
    def task(self) -> str:
        """The task's name, as far as it can be told."""
        return self.what.name if isinstance(self.what, Task) else str(self.what)


class Built(msgspec.Struct, frozen=True):
    """What became of all declarations: schedules, faults of those that cannot work, and warnings about others."""

    schedules: tuple[Schedule, ...]
    faults: tuple[str, ...]
    warnings: tuple[str, ...]


class StaticSchedules:
    """An app's static schedules, as they were declared."""

    def __init__(self, app: JobMaster, folder: str | None) -> None:
        self._app = app
        self._folder = Path(folder or ".").absolute()
        self._lock = threading.Lock()
        self._declared: dict[tuple[str, ...], Declaration] = {}
        self._profiles: dict[str, type] = {}
        self._built: Built | None = None

    def declare(self, what: What, when: When, data: Data, options: dict[str, Any], *, file: str, line: int) -> None:
        """Remember what `@jm.every` says.

        The same line may come again: its module was imported twice, or it stands in a loop and says something else.
        """
        declared = Declaration(DECORATED, what, when, data, options, self._source(file, line))
        said = declared.task, repr(when), repr(data), repr(options), declared.source
        with self._lock:
            self._declared[said] = declared
            self._built = None

    def task_of(self, function: Callable[..., Any]) -> Task[..., Any]:
        """The task that a plain function becomes."""
        return self._app.task(function)

    def lanes(self) -> set[str]:
        """Every lane that a task or a schedule names, as stored."""
        return self._app.registry.lanes() | {schedule.lane for schedule in self.build().schedules}

    def add_profile(self, profile: type) -> None:
        """Remember a profile.

        Raises:
            ConfigurationError: it is no class with `configure`, or its id is taken by another one.
        """
        given: object = profile  # whatever the decorator was put on
        if not isinstance(given, type) or not callable(getattr(given, "configure", None)):
            raise ConfigurationError(
                f"@jm.profile was put on {profile!r}, which is no class with configure(self, schedules). Derive it "
                "from jobmaster.ScheduleProfile."
            )
        name = getattr(profile, "profile_id", "") or f"{profile.__module__}.{profile.__qualname__}"
        with self._lock:
            known = self._profiles.get(name)
            if known is not None and known.__qualname__ != profile.__qualname__:
                raise ConfigurationError(
                    f"The profile id {name!r} is taken by {known.__qualname__}, so {profile.__qualname__} cannot have "
                    "it. Give one of them another profile_id."
                )
            self._profiles[name] = profile
            self._built = None

    def schedules(self) -> Sequence[Schedule]:
        """All of them, ready for the master.

        Raises:
            ConfigurationError: some cannot work; the text lists every one, with its line.
        """
        built = self.build()
        if not built.faults:
            return built.schedules
        one = len(built.faults) == 1
        head = "A schedule in code cannot work:" if one else f"{len(built.faults)} schedules in code cannot work:"
        raise ConfigurationError("\n- ".join([head, *(fault.replace("\n", "\n  ") for fault in built.faults)]))

    def build(self) -> Built:
        """Make schedules of all that is declared, with the faults of those that cannot be."""
        if self._app.settings.cluster_mode is ClusterMode.ARCHIVED:
            return Built((), (), ())
        with self._lock:
            built = self._built
        if built is None:
            built = _Building(self._app).run(self._declarations())
            with self._lock:
                self._built = built
        return built

    def _declarations(self) -> list[Declaration | str]:
        """All of them; a text is a fault that stands for those that could not be asked for."""
        with self._lock:
            found: list[Declaration | str] = [*self._declared.values()]
            profiles = list(self._profiles.items())
        for name, profile in profiles:
            found += self._of_profile(name, profile)
        for schedule in declared_in_files(self._app.resolved.schedules):
            if isinstance(schedule, str):
                found.append(schedule)
            else:
                found.append(
                    Declaration("files", schedule.task, schedule.when, schedule.data, schedule.options, schedule.source)
                )
        return found

    def _of_profile(self, name: str, profile: type) -> list[Declaration | str]:
        found: list[Declaration | str] = []

        def take(what: What, when: When, data: Data, options: dict[str, Any], place: tuple[str, int]) -> None:
            found.append(Declaration(name, what, when, data, options, self._source(*place)))

        try:
            profile().configure(ScheduleCollection(take))
        except Exception as error:  # noqa: BLE001 - it is the user's code, told with the others' faults
            found.append(f"{profile.__qualname__}.configure failed: {type(error).__name__}: {error}")
        return found

    def _source(self, file: str, line: int) -> str:
        path = Path(file)
        shown = path.relative_to(self._folder) if path.is_relative_to(self._folder) else path
        return f"{shown}:{line}"


class _Building:
    """One run over the declarations. Faults are collected, so that all of them are told at once."""

    def __init__(self, app: JobMaster) -> None:
        self._app = app
        self._maker = ScheduleMaker(app)
        self._ids: Counter[tuple[str, str]] = Counter()
        self._names: dict[str, Declaration] = {}
        self._faults: list[str] = []
        self._warnings: list[str] = []

    def run(self, declared: Sequence[Declaration | str]) -> Built:
        """Make them. Those with names of their own come first, so that no made-up one takes such a name."""
        self._faults = [fault for fault in declared if isinstance(fault, str)]
        written = [one for one in declared if isinstance(one, Declaration)]
        numbered = [(one, self._definition_id(one)) for one in written]
        numbered.sort(key=lambda pair: not pair[0].options.get("name"))
        made = [self._made(one, definition) for one, definition in numbered]
        schedules = tuple(schedule for schedule in made if schedule is not None)
        return Built(schedules, tuple(self._faults), tuple(self._warnings))

    def _definition_id(self, declared: Declaration) -> str:
        """Names it within its profile: by its own name, else by its task, the second one with a number."""
        name = declared.options.get("name")
        base = str(name) if name else _task_of(self._app, declared)
        self._ids[declared.profile, base] += 1
        count = self._ids[declared.profile, base]
        return base if name or count == 1 else f"{base}#{count}"

    def _made(self, declared: Declaration, definition: str) -> Schedule | None:
        try:
            return self._make(declared, definition)
        except (JobMasterError, TypeError) as error:
            self._faults.append(f"{declared.source} ({definition}): {error}")
        except Exception as error:  # noqa: BLE001 - a custom provider, or a value that cannot be compared
            self._faults.append(f"{declared.source} ({definition}): {type(error).__name__}: {error}")
        return None

    def _make(self, declared: Declaration, definition: str) -> Schedule:
        draft = self._maker.draft(declared.what, declared.when, declared.data, declared.options, may_have_ended=True)
        known = self._known(draft.definition, draft.task)
        schedule = self._maker.schedule(
            draft,
            known.target,
            key=static_key(declared.profile, definition),
            kind=ScheduleKind.STATIC,
            source=declared.source,
        )
        expression = compiled(schedule.rule, zone=self._app.settings.time_zone, key=schedule.key)
        fault = (
            "" if expression.type_id == "Never-Recurs" else never_fires(schedule.rule, expression, datetime.now(UTC))
        )
        if fault:
            self._warnings.append(f"{declared.source} ({definition}): {fault}")
        return msgspec.structs.replace(schedule, name=self._name(declared, definition))

    def _known(self, definition: TaskDefinition | None, task: str) -> TaskDefinition:
        if definition is None:
            raise unknown_task(task, {known.name: known for known in self._app.registry})
        return definition

    def _name(self, declared: Declaration, definition: str) -> str:
        own = declared.options.get("name")
        if own and own in self._names:
            raise ConfigurationError(
                f"The name {own!r} is that of the schedule at {self._names[own].source}, too. Give one of them another."
            )
        name, number = definition, 1
        while name in self._names:
            number += 1
            name = f"{definition}#{number}"
        self._names[name] = declared
        return name


def _task_of(app: JobMaster, declared: Declaration) -> str:
    if isinstance(declared.what, type):
        found: Mapping[object, str] = {known.handler: known.name for known in app.registry if known.handler}
        return found.get(declared.what, declared.what.__qualname__)
    return declared.task
