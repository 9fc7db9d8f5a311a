"""What an app's code says of recurring schedules: `@jm.every`, `@jm.profile`; and what workers ask about them."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar, Unpack, cast

from jobmaster.enqueuing import task_behind
from jobmaster.errors import ConfigurationError
from jobmaster.task import Task

if TYPE_CHECKING:
    from jobmaster.app import JobMaster
    from jobmaster.enqueuing import Data
    from jobmaster.model.schedule import Schedule
    from jobmaster.profiles import ScheduleProfile
    from jobmaster.recurring import RecurringOptions, When
    from jobmaster.static_schedules import EveryDecorator, StaticSchedules

PR = TypeVar("PR", bound="type[ScheduleProfile]")


class SchedulesInCode:
    """The part of an app that its static schedules are declared with."""

    def every(self, when: When, data: Data = None, **options: Unpack[RecurringOptions]) -> EveryDecorator:
        """A schedule that stands in code: `@jm.every("every day at 02:30")` on a task, a handler or a function.

        A function becomes a task. Several may be put on one task. Workers whose code has the schedule tell the master;
        it ends an hour after the last of them has gone. What cannot work is told when a worker starts, all faults at
        once, with their lines.

        Args:
            when: NaturalCron text, a timedelta, `Cron(...)` or the like, (type id, text), or aware datetimes.
            data: the task's arguments by name.
            options: see `RecurringOptions`. `name` is made of the task's name if not given.

        Raises:
            ConfigurationError: it was put on a function without a rule.
        """
        given: Any = when
        if isinstance(given, (Task, type)) or inspect.isroutine(given):
            raise ConfigurationError("@jm.every says when: @jm.every('every day at 02:30'), with parentheses.")
        caller = sys._getframe(1)  # noqa: SLF001 - the one way to know the line
        file, line = caller.f_code.co_filename, caller.f_lineno

        def declare(target: Any) -> Any:
            what = task_behind(target)
            returned = target
            if not isinstance(what, (Task, type)):
                what = returned = self._static.task_of(target)
            self._static.declare(what, when, data, dict(options), file=file, line=line)
            return returned

        return declare

    def profile(self, profile: PR) -> PR:
        """Register a `ScheduleProfile` class, whose `configure(self, schedules)` adds static schedules; a decorator.

        Raises:
            ConfigurationError: it is no class with `configure`, or its `profile_id` is taken.
        """
        self._static.add_profile(profile)
        return profile

    def static_schedules(self) -> Sequence[Schedule]:
        """The schedules that stand in code and in files, ready for the master.

        Raises:
            ConfigurationError: some cannot work; the text lists every one, with its line.
        """
        return self._static.schedules()

    def lanes(self) -> set[str]:
        """Every lane that a task or a schedule of this process's code names, as stored."""
        return self._static.lanes()

    def schedule_warnings(self) -> Sequence[str]:
        """Sentences about schedules in code and files that can work, but never fire any more."""
        return self._static.build().warnings

    def schedule_faults(self) -> Sequence[str]:
        """Why some of the schedules in code and files cannot work, each with its line; empty: all can."""
        return self._static.build().faults

    @cached_property
    def _static(self) -> StaticSchedules:
        from jobmaster.static_schedules import StaticSchedules

        app = cast("JobMaster", self)  # nothing else derives from it
        return StaticSchedules(app, app._folder)  # noqa: SLF001 - its own
