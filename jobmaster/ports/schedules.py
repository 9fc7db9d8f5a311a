"""Recurring schedules in the master. Promises common to all verbs: see `jobmaster.ports.agent`.

Every verb is one transaction, and safe to repeat. An occurrence is unique by (schedule, moment), in a table of its own;
inserting occurrences and moving the schedule's cursor is one step (docs/protocol.md), so that any number of planners
may work at once: who comes second changes nothing. No planner holds a lease; a late write of one that stood still is
refused by its guard (version, cursor), or by the age of what it decided on.

*drop(schedule)*: its occurrences after now whose jobs have not begun go: a job that is HeldOnMaster is deleted with its
occurrence's row; one that an owner has (Queued) is cancelled as R19 does, and its row stays. What had its moment stays;
but where the schedule stops (a pause, an end) what its jitter has put off until later is cancelled, too.
Where the schedule goes on (an edit, a definition that changed), Queued ones are left to the first plan after it: one
whose moment that plan has, too, runs as it was planned, the others are cancelled by it. What is cancelled so has the
reason "schedule changed". A plan that has its moment again makes another job for it, whose key the occurrence gets: so
no moment is lost. A job that took another's place so is cancelled and remembered, whoever has it.

*turn*: an occurrence whose overlap is not ALLOW begins by a guarded start (`start`, `take_over`), which decides under
the schedule's row (`rules.overlap.turn`). The run that has the turn is `current_job`, where that is another job that
has not ended; one that waits for its retry has not, but one that waits for its task, or to be run again because a
person said so, bars nobody. SKIP: it is Cancelled where another has the turn. QUEUE: it waits there, and while an
earlier one of its lane and priority waits; where `misfire_limit` planned ones wait, a planned one is Cancelled.
CANCEL_PREVIOUS: it is Cancelled where a newer one has the turn or waits; else it does `cancel` to the one that has the
turn, and waits, or goes on at once where that waited on the master. A backfilled run is not cancelled for it. Who need
not wait becomes `current_job`. A schedule that is gone bars nobody.

Who waits is HeldOnMaster, suspect, due `rules.overlap.WAIT_US` later; its `expires` is from now on what its schedule's
template says, whatever its misfire policy was. Waiting or Cancelled, its reason is "overlap". One that has another due
time by now (`reschedule`), has expired, or waits for its task is not among those that wait.

A verb that changes what a planner must do signals "schedules"; one that makes jobs due signals "held".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from jobmaster.model.ids import JobKey
from jobmaster.model.schedule import (
    DueSchedules,
    Occurrence,
    OccurrenceRecord,
    Plan,
    Schedule,
    ScheduleChange,
    ScheduleKey,
    SchedulePage,
    ScheduleQuery,
)

__all__ = ["ScheduleChange", "SchedulePage", "ScheduleQuery", "ScheduleStore"]


class ScheduleStore(Protocol):
    """Schedules and their occurrences."""

    async def add_schedule(self, schedule: Schedule) -> Schedule:
        """Insert a schedule, Active, version 1, `created_us` and `since_us` now, due for planning now (unless paused).

        Where its key is there, the stored one is returned and nothing changes. Where it has a name that a schedule
        bears which is not Canceled, that one is returned; the caller compares keys.
        """
        ...

    async def ensure_schedules(self, schedules: Sequence[Schedule]) -> list[Schedule]:
        """Static ones that this worker's code has: insert, or replace what differs; `ensured_us` becomes now.

        Rule, task, template, lane and priority are compared. One that differs: version + 1, drop(schedule), planned
        again from the latest occurrence of its series that has come; with other moments (type, text, zone, start) from
        now (`since_us` now, cursor None). A parked one is planned again: this worker can read its rule. Paused stays
        paused, Canceled stays Canceled. An Inactive or Completed one becomes Active with `since_us` now and cursor
        None: what it missed stays missed. One that did not change keeps its cursor: what was missed while nobody lived
        is its misfire policy's. Name and source are replaced without more ado.

        A name that another static schedule bears goes over to this one (that one has left the code, or is another
        release's); where a dynamic one bears it, or one before it in `schedules`, it is stored without a name.
        """
        ...

    async def keep_schedules(
        self, schedules: Sequence[Schedule], *, fresh_us: int = 0, lost_us: int
    ) -> list[ScheduleKey]:
        """`ensured_us` of static ones becomes now; one that is Inactive becomes Active as by `ensure_schedules`.

        What was ensured in the last `fresh_us` is neither written nor held: of many workers one writes. One that is
        stored with another definition (rule, task, template, lane, priority) is left to those who have that.

        Returns:
            Those that this worker is to ensure: nobody knows them, or nobody has had their stored definition for
            `lost_us`. So a release that has gone does not outlive the other one, whichever started last.
        """
        ...

    async def due_schedules(self, *, limit: int, claim_us: int, idle_us: int) -> DueSchedules:
        """Schedules to be planned: Active, not paused, not parked, `plan_at_us` has come; the longest due first.

        Their `plan_at_us` becomes now + `claim_us`, so that other planners leave them alone for so long; one that
        another planner holds at this instant is skipped. Static ones that nobody ensured for `idle_us` are left out
        (and looked at again when somebody does). `next_us` counts those of this answer, too, by their new moment; where
        the limit was reached it may lie in the past.
        """
        ...

    async def plan_schedules(self, plans: Sequence[Plan], *, as_of_us: int, max_age_us: int) -> list[bool]:
        """Apply each plan whose schedule still has its version and cursor, is Active and not paused; True where it was.

        Its jobs are inserted as `hold` does (HeldOnMaster, gen 0, suspect where `verify`), its occurrences recorded,
        each unless (schedule, moment) is there; cursor, plan_at_us, last_at_us, status and error become the plan's. A
        status that is final sets `ended_us`. All is refused (False) where now is later than `as_of_us` + `max_age_us`:
        what was future then is past now. A plan that was applied before (its answer was lost) is False, and harmless.
        """
        ...

    async def change_schedule(
        self, key: ScheduleKey, change: ScheduleChange, *, version: int | None, planned_us: int | None = None
    ) -> Schedule | None:
        """Edit, pause, resume, cancel: the whole change or nothing; the schedule as it is now. Version + 1.

        Pausing, editing and cancelling do drop(schedule); a pause keeps nothing planned. Resuming, taking up again, and
        an edit of the moments (type, text, zone, start of the rule) set `since_us` now, cursor None; any other edit
        plans again from the latest occurrence of the series that has come. `plan_at_us` becomes now where it is Active,
        not paused and not parked. A new rule clears the error. What it is already (a pause of a paused one) is no
        change: nothing happens, and the version stays. `clear_error` alone keeps the cursor: what was missed is the
        misfire policy's. A new name alone changes nothing else.

        What leaves a series off (`rules.schedule_changes.leaves_off`) says how far that is planned, `planned_us`: its
        caller has planned it first, as any planner does, so that no occurrence that came before is lost.

        Returns:
            None where `version` is not None and not the stored one, where now is later than `planned_us`, where nobody
            knows the key, or where SCHEDULE_MOVES has no such move. The caller asks `get_schedule` which it is.

        Raises:
            ConfigurationError: another schedule bears the name.
        """
        ...

    async def add_occurrences(self, key: ScheduleKey, occurrences: Sequence[Occurrence]) -> list[bool]:
        """Run now and backfill: insert jobs and occurrences beside what is planned. False: (schedule, moment) is there.

        Where it is there, and nobody started its job in time (Cancelled, "missed"), a backfill puts another job in its
        place, whose key (`replanned_key`) the occurrence gets. A run now whose job is there already is not added again
        (False), whatever its moment: its id is what its caller repeats it by. A schedule that is paused or has ended
        takes them, too; one that nobody knows takes none (all False).
        """
        ...

    async def release_occurrence(self, key: ScheduleKey, job: JobKey) -> bool:
        """The run that had the turn has ended: of those that wait, those whose turn it may be are due now.

        The earliest in each lane and priority; by CANCEL_PREVIOUS the latest, and the others are Cancelled, "overlap"
        (backfilled ones go as in a queue). Only where `current_job` is `job`, and that job is final (or gone);
        `current_job` is None then. One that is in an owner's memory already, because it would be due soon, is taken
        back for that: its start is guarded. Nobody has to call it: who waits asks again after WAIT_US.

        Returns:
            True: one was released.
        """
        ...

    async def expire_schedules(self, *, idle_us: int, limit: int) -> list[ScheduleKey]:
        """Static, Active ones that nobody ensured for `idle_us` become Inactive, with drop(schedule); which."""
        ...

    async def purge_schedules(self, *, before_us: int, limit: int) -> int:
        """Retention: delete occurrences of moments before `before_us`, made before it, and schedules that ended before.

        Static ones that a worker's code still has stay, and of each schedule the latest occurrence of its series that
        has come: the series may go on from it. At most `limit` of each.

        Returns:
            How many occurrences there were.
        """
        ...

    async def list_schedules(self, query: ScheduleQuery, *, limit: int = 50, after: str | None = None) -> SchedulePage:
        """A page of schedules.

        Raises:
            ConfigurationError: `limit` is not 1 to 1,000, or `after` is no end of a page.
        """
        ...

    async def get_schedule(self, key: ScheduleKey) -> Schedule | None:
        """One schedule."""
        ...

    async def find_schedule(self, name: str) -> Schedule | None:
        """The schedule that bears a name and is not Canceled."""
        ...

    async def schedule_occurrences(
        self, key: ScheduleKey, *, limit: int, before_us: int | None = None, after_us: int | None = None
    ) -> list[OccurrenceRecord]:
        """Its occurrences: newest first before `before_us`, or oldest first after `after_us` (one of the two)."""
        ...
