"""Schedule profiles: classes that name static schedules, in the .NET system's style."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, ClassVar, Unpack

from jobmaster.recurring import RecurringOptions, When

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobmaster.enqueuing import Data, What


class ScheduleCollection:
    """What `configure` is given: schedules are added to it."""

    def __init__(self, take: Callable[[What, When, Data, dict[str, Any], tuple[str, int]], None]) -> None:
        self._take = take

    def add(self, what: What, when: When, data: Data = None, **options: Unpack[RecurringOptions]) -> None:
        """A static schedule. What cannot work is told when a worker starts, with the line of this call.

        Args:
            what: a task, a handler's class, or the name of either.
            when: NaturalCron text, a timedelta, `Cron(...)` or the like, (type id, text), aware datetimes.
            data: the task's arguments by name, or what a handler finds in `job.msg_data`.
            options: see `RecurringOptions`. `name` tells several schedules of one task apart.
        """
        caller = sys._getframe(1)  # noqa: SLF001 - the one way to know the line
        self._take(what, when, data, dict(options), (caller.f_code.co_filename, caller.f_lineno))


class ScheduleProfile:
    """Static schedules in one place: subclass it, and register the subclass with `@jm.profile`.

    Attributes:
        profile_id: names the profile in the cluster; `module.Class` if it is empty. It stays what it is when the class
            moves, so that its schedules stay the same.
    """

    profile_id: ClassVar[str] = ""

    def configure(self, schedules: ScheduleCollection) -> None:
        """Add the schedules: `schedules.add(report, "every day at 02:30")`."""
        raise NotImplementedError(f"{type(self).__qualname__}.configure(self, schedules) adds the schedules.")
