"""`jm.schedules`: recurring schedules, as people ask about them and change them. Each method has a twin, `a...`."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Unpack

from jobmaster import schedule_history as history
from jobmaster import schedule_orders as orders
from jobmaster import schedule_runs as by_hand
from jobmaster.errors import ConfigurationError, NotRegistered
from jobmaster.model.ids import new_job_key
from jobmaster.model.job import NewJob
from jobmaster.model.schedule import (
    MOST_OCCURRENCES,
    Occurrence,
    Schedule,
    ScheduleKey,
    ScheduleKind,
    ScheduleStatus,
)
from jobmaster.options import as_moment, moment_us, read_lane
from jobmaster.ports import schedules as port
from jobmaster.presenting import schedule_info, upcoming_runs
from jobmaster.recurring import RecurringOptions, When, read_terms
from jobmaster.result import Result
from jobmaster.rules.compiling import compiled
from jobmaster.schedule_finding import find
from jobmaster.schedule_making import ScheduleMaker
from jobmaster.views import ScheduleInfo, SchedulePage, ScheduleQuery, ScheduleRun, ScheduleState, UpcomingRun

if TYPE_CHECKING:
    from jobmaster.app import JobMaster
    from jobmaster.enqueuing import Data, What
    from jobmaster.gateway import Gateway
    from jobmaster.schedule_history import PageOfSeries
    from jobmaster.schedule_runs import RunPlan
    from jobmaster.schedules.expression import Expression

MOST_LISTED: Final = 1_000
MOST_UPCOMING: Final = 1_000

Make = Callable[["Gateway"], Awaitable[Schedule]]


class Schedules:
    """Questions about schedules, and what people do with them. `schedule` is an id, or a name.

    Every method raises `StoreUnavailable` where the master does not answer, and `NotRegistered` for a schedule that
    nobody knows; those that change something raise `ClusterArchived` where the cluster can be read only.
    """

    def __init__(self, app: JobMaster, *, tasks_of: JobMaster | None = None) -> None:
        self._app = app
        self._client = app.client
        self._maker = ScheduleMaker(tasks_of or app, app)

    # -- look

    def list(self, query: ScheduleQuery | None = None, limit: int = 50, after: str | None = None) -> SchedulePage:
        """A page of schedules, by name, those without one last.

        Args:
            query: which ones; None: all.
            limit: how many at most, 1 to 1,000.
            after: `SchedulePage.after` of the page before.

        Raises:
            ConfigurationError: the limit, or a value of the query, cannot be.
        """
        return self._client.ask(lambda gate: self._list(gate, query, limit, after))

    async def alist(
        self, query: ScheduleQuery | None = None, limit: int = 50, after: str | None = None
    ) -> SchedulePage:
        """`list` for a running event loop."""
        return await self._client.aask(lambda gate: self._list(gate, query, limit, after))

    def get(self, schedule: str) -> ScheduleInfo | None:
        """One schedule with its arguments; None: nobody knows it."""
        return self._client.ask(lambda gate: self._get(gate, schedule))

    async def aget(self, schedule: str) -> ScheduleInfo | None:
        """`get` for a running event loop."""
        return await self._client.aask(lambda gate: self._get(gate, schedule))

    def next(self, schedule: str, count: int = 10) -> Sequence[UpcomingRun]:
        """Its next runs, with what daylight saving makes of them; none where it does not run at present.

        Args:
            schedule: id or name.
            count: how many at most, 1 to 1,000.
        """
        return self._client.ask(lambda gate: self._next(gate, schedule, count))

    async def anext(self, schedule: str, count: int = 10) -> Sequence[UpcomingRun]:
        """`next` for a running event loop."""
        return await self._client.aask(lambda gate: self._next(gate, schedule, count))

    def runs(self, schedule: str, limit: int = 20) -> Sequence[ScheduleRun]:
        """Its history, newest first: the moments that have come, and what became of their jobs.

        Args:
            schedule: id or name.
            limit: how many at most, 1 to 200.
        """
        return self._client.ask(lambda gate: history.runs(gate, schedule, limit))

    async def aruns(self, schedule: str, limit: int = 20) -> Sequence[ScheduleRun]:
        """`runs` for a running event loop."""
        return await self._client.aask(lambda gate: history.runs(gate, schedule, limit))

    # -- change

    def add(self, what: What, when: When, data: Data = None, **options: Unpack[RecurringOptions]) -> ScheduleInfo:
        """A new schedule: see `Scheduler.recurring`."""
        make = self._new(what, when, data, options)
        return self._client.ask(lambda gate: self._add(gate, make))

    async def aadd(
        self, what: What, when: When, data: Data = None, **options: Unpack[RecurringOptions]
    ) -> ScheduleInfo:
        """`add` for a running event loop."""
        make = self._new(what, when, data, options)
        return await self._client.aask(lambda gate: self._add(gate, make))

    def edit(
        self,
        schedule: str,
        *,
        version: int | None = None,
        when: When | None = None,
        data: Data = None,
        **options: Unpack[RecurringOptions],
    ) -> ScheduleInfo:
        """Change what is given, and nothing else; what was planned ahead is planned anew.

        Args:
            schedule: id or name.
            version: `ScheduleInfo.version` as you saw it: the edit is refused where somebody was faster. None: the
                last edit counts.
            when: another rule.
            data: other arguments.
            options: see `RecurringOptions`; None takes one back.

        Raises:
            ScheduleConflict: it has another version; the error names it.
            ScheduleSyntaxError, ConfigurationError, TypeError: as `Scheduler.recurring`; or it is defined in code.
        """
        return self._client.ask(self._edit(schedule, version, when, data, options))

    async def aedit(
        self,
        schedule: str,
        *,
        version: int | None = None,
        when: When | None = None,
        data: Data = None,
        **options: Unpack[RecurringOptions],
    ) -> ScheduleInfo:
        """`edit` for a running event loop."""
        return await self._client.aask(self._edit(schedule, version, when, data, options))

    def pause(self, schedule: str, *, version: int | None = None) -> ScheduleInfo:
        """Let it make no more runs until `resume`; what is planned ahead goes.

        What runs goes on, and what is late, or waits for its turn, still runs: its moment had come.

        Raises:
            ScheduleConflict: `version` is given, and it has another one.
            ConfigurationError: it has ended.
        """
        self._client.require_writable()
        return self._client.ask(lambda gate: self._change(gate, schedule, _PAUSE, version))

    async def apause(self, schedule: str, *, version: int | None = None) -> ScheduleInfo:
        """`pause` for a running event loop."""
        self._client.require_writable()
        return await self._client.aask(lambda gate: self._change(gate, schedule, _PAUSE, version))

    def resume(self, schedule: str, *, version: int | None = None) -> ScheduleInfo:
        """Go on from now: what was skipped while it was paused stays skipped. Also tries a broken one again.

        Raises:
            As `pause`.
        """
        self._client.require_writable()
        return self._client.ask(lambda gate: self._change(gate, schedule, _RESUME, version))

    async def aresume(self, schedule: str, *, version: int | None = None) -> ScheduleInfo:
        """`resume` for a running event loop."""
        self._client.require_writable()
        return await self._client.aask(lambda gate: self._change(gate, schedule, _RESUME, version))

    def cancel(self, schedule: str) -> bool:
        """End it for good: no further moment becomes a run. False: it was cancelled before.

        What runs, is late or waits for its turn is left as by `pause`; `jm.jobs.cancel` ends it.

        Raises:
            ConfigurationError: it is defined in code; remove it there, or pause it.
        """
        self._client.require_writable()
        return self._client.ask(lambda gate: orders.cancel(gate, schedule, self._compiled))

    async def acancel(self, schedule: str) -> bool:
        """`cancel` for a running event loop."""
        self._client.require_writable()
        return await self._client.aask(lambda gate: orders.cancel(gate, schedule, self._compiled))

    def run_now(self, schedule: str, *, job_id: str | None = None) -> Result[Any]:
        """One run more, due now, whatever is planned; also of a schedule that is paused or has ended.

        Args:
            schedule: id or name.
            job_id: an id of your own, or that of an `OutcomeUnknown`. The same id is the same run, for as long as its
                job is kept, so that a repeat is safe.

        Raises:
            OutcomeUnknown: the run may be there or not; repeat it with `job_id=error.job_id`.
            DuplicateJob: the job of this id is none of this schedule.
        """
        self._client.require_writable()
        plan = by_hand.run_plan(job_id)
        with by_hand.repeatable(plan):
            return self._result(self._client.ask(lambda gate: self._run_now(gate, schedule, plan)).job)

    async def arun_now(self, schedule: str, *, job_id: str | None = None) -> Result[Any]:
        """`run_now` for a running event loop."""
        self._client.require_writable()
        plan = by_hand.run_plan(job_id)
        with by_hand.repeatable(plan):
            return self._result((await self._client.aask(lambda gate: self._run_now(gate, schedule, plan))).job)

    def backfill(self, schedule: str, start: datetime, end: datetime, *, limit: int = 100) -> Sequence[Result[Any]]:
        """Make up for moments that have passed: a job, due now, for each that has none, or one that was missed.

        Args:
            schedule: id or name.
            start: from this moment on (aware, inclusive).
            end: up to this one (aware, inclusive), which has passed.
            limit: refuse the whole order where there would be more, 1 to 900.

        Returns:
            The new jobs, oldest moment first. Repeating the order makes no second ones.

        Raises:
            ConfigurationError: the range cannot be, or has more than `limit` occurrences.
        """
        self._client.require_writable()
        asked = self._backfill(schedule, start, end, limit)
        return [self._result(made.job) for made in self._client.ask(asked, may_take_long=True)]

    async def abackfill(
        self, schedule: str, start: datetime, end: datetime, *, limit: int = 100
    ) -> Sequence[Result[Any]]:
        """`backfill` for a running event loop."""
        self._client.require_writable()
        return [self._result(made.job) for made in await self._client.aask(self._backfill(schedule, start, end, limit))]

    # -- inside

    def _new(self, what: What, when: When, data: Data, options: Mapping[str, Any]) -> Make:
        """Everything that can be refused without the master is refused here."""
        self._client.require_writable()
        draft, key = self._maker.draft(what, when, data, options), ScheduleKey(new_job_key())

        async def make(gate: Gateway) -> Schedule:
            known = draft.definition
            target = await self._maker.target(gate, draft.task) if known is None else known.target
            return self._maker.schedule(draft, target, key=key)

        return make

    async def _add(self, gate: Gateway, make: Make) -> ScheduleInfo:
        return await self._info(gate, await orders.add(gate, await make(gate), self._compiled))

    async def _change(
        self, gate: Gateway, schedule: str, change: port.ScheduleChange, version: int | None
    ) -> ScheduleInfo:
        changed = await orders.change(gate, schedule, change, self._compiled, version=version)
        return await self._info(gate, changed)

    def _edit(
        self, schedule: str, version: int | None, when: When | None, data: Data, options: Mapping[str, Any]
    ) -> Callable[[Gateway], Awaitable[ScheduleInfo]]:
        self._client.require_writable()
        terms = read_terms(options)  # what cannot be is told before the master is asked

        async def ask(gate: Gateway) -> ScheduleInfo:
            async def make(stored: Schedule) -> Schedule:
                return await self._maker.edited(gate, stored, when, data, terms)

            edited = await orders.edit(gate, schedule, make, self._compiled, version=version)
            return await self._info(gate, edited)

        return ask

    async def _run_now(self, gate: Gateway, schedule: str, plan: RunPlan) -> Occurrence:
        return await by_hand.run_now(gate, schedule, plan, reply_to=self._client.token)

    def _backfill(
        self, schedule: str, start: datetime, end: datetime, limit: int
    ) -> Callable[[Gateway], Awaitable[Sequence[Occurrence]]]:
        from_us, until_us = moment_us(start, "start"), moment_us(end, "end")
        if from_us > until_us:
            raise ConfigurationError(
                f"start is {start.isoformat()}, and end is {end.isoformat()}: nothing lies between. Swap them."
            )
        if isinstance(limit, bool) or not 1 <= limit <= MOST_OCCURRENCES:
            raise ConfigurationError(f"limit is {limit!r}, but one order makes 1 to {MOST_OCCURRENCES} jobs.")
        return lambda gate: by_hand.backfill(
            gate, schedule, self._compiled, from_us=from_us, until_us=until_us, limit=limit, reply_to=self._client.token
        )

    async def _list(self, gate: Gateway, query: ScheduleQuery | None, limit: int, after: str | None) -> SchedulePage:
        if isinstance(limit, bool) or not 1 <= limit <= MOST_LISTED:
            raise ConfigurationError(f"limit is {limit!r}, but a page has 1 to {MOST_LISTED} schedules.")
        page = await gate.store.list_schedules(_port_query(query or ScheduleQuery()), limit=limit, after=after)
        series = history.PageOfSeries()
        shown = [await self._info(gate, schedule, series) for schedule in page.schedules]
        return SchedulePage(schedules=tuple(shown), after=page.after)

    async def _get(self, gate: Gateway, schedule: str) -> ScheduleInfo | None:
        try:
            return await self._info(gate, await find(gate, schedule))
        except NotRegistered:
            return None

    async def _next(self, gate: Gateway, schedule: str, count: int) -> Sequence[UpcomingRun]:
        if isinstance(count, bool) or not 1 <= count <= MOST_UPCOMING:
            raise ConfigurationError(f"count is {count!r}, but one may ask for 1 to {MOST_UPCOMING} runs.")
        stored = await find(gate, schedule)
        if not history.is_running(stored):
            return []
        rule = self._compiled(stored)
        after_us = await history.goes_on_from(gate, stored, rule)
        assert after_us is not None  # noqa: S101 - it has as long as it takes
        return upcoming_runs(stored, rule, as_moment(after_us), count)

    async def _info(self, gate: Gateway, schedule: Schedule, page: PageOfSeries | None = None) -> ScheduleInfo:
        """The schedule as people see it; one whose rule this process cannot read is shown all the same.

        Args:
            gate: to the master.
            schedule: as it is stored.
            page: it is one of that. Without: with its arguments; next and last run are asked for, not reckoned.
        """
        rule: Expression | None = None
        after_us: int | None = None
        last_us = await history.last_run_us(gate, schedule) if page is None else schedule.last_at_us
        with contextlib.suppress(Exception):  # a provider that only workers have, a zone that is gone
            rule = self._compiled(schedule)
            if page is None:
                after_us = await history.goes_on_from(gate, schedule, rule)
            else:
                after_us, last_us = await page.stands(gate, schedule, rule)
        return schedule_info(
            schedule,
            rule=rule,
            cluster_zone=self._app.settings.time_zone,
            after=as_moment(after_us) if after_us is not None and history.is_running(schedule) else None,
            last_us=last_us,
            codec=self._client.codec if page is None else None,
        )

    def _compiled(self, schedule: Schedule) -> Expression:
        return compiled(schedule.rule, zone=self._app.settings.time_zone, key=schedule.key)

    def _result(self, job: NewJob) -> Result[Any]:
        definition = self._app.registry.find(job.envelope.task)
        return Result(
            self._client, job.key, job.envelope.custom_id, returns=None if definition is None else definition.returns
        )


_PAUSE = port.ScheduleChange(paused=True)
_RESUME = port.ScheduleChange(paused=False, clear_error=True)


def _port_query(query: ScheduleQuery) -> port.ScheduleQuery:
    statuses, paused, broken = None, None, None
    if query.state is not None:
        try:
            state = ScheduleState(str(query.state).capitalize())
        except ValueError:
            names = ", ".join(known.value for known in ScheduleState)
            raise ConfigurationError(f"state is {query.state!r}, but a schedule is one of {names}.") from None
        if state in _LIVING:
            statuses, (paused, broken) = (ScheduleStatus.ACTIVE,), _LIVING[state]
        else:
            statuses = (ScheduleStatus[state.name],)
    if query.kind not in {None, "static", "dynamic"}:
        raise ConfigurationError(f"kind is {query.kind!r}, but a schedule is 'static' or 'dynamic'.")
    return port.ScheduleQuery(
        statuses=statuses,
        kind=None if query.kind is None else ScheduleKind[query.kind.upper()],
        task=query.task,
        lane=None if query.lane is None else read_lane(query.lane),
        paused=paused,
        broken=broken,
        text=query.text,
    )


_LIVING: Final[dict[ScheduleState, tuple[bool | None, bool]]] = {
    ScheduleState.ACTIVE: (False, False),
    ScheduleState.PAUSED: (True, False),
    ScheduleState.BROKEN: (None, True),
}
"""Of a schedule that is Active in the store: whether it is paused, and whether it is parked."""
