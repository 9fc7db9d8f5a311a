"""The verbs of an owner: claims, guarded starts, outcomes, letting go (ports.master, ports.store).

Starts and outcomes have two ways: one statement for the many, and a transaction that decides one by one for the rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import asyncpg

from jobmaster.errors import OutcomeUnknown, StoreUnavailable
from jobmaster.model.job import Settled
from jobmaster.stores.sql.postgresql import claim, finish, letting_go, start, take_over
from jobmaster.stores.sql.postgresql import outcomes as one_by_one
from jobmaster.stores.sql.postgresql.handle import Handle
from jobmaster.stores.sql.postgresql.known_rows import KnownRows
from jobmaster.stores.sql.postgresql.owning import fenced

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from jobmaster.model.ids import JobKey
    from jobmaster.model.job import Fence, Outcome, Start, Verdict
    from jobmaster.ports.master import Claimed, ClaimRequest
    from jobmaster.stores.sql.job_rows import Row
    from jobmaster.stores.sql.postgresql.transaction import Transaction

T = TypeVar("T")
J = TypeVar("J", "Start", "Outcome")

DONE = Settled(done=True)


class JobVerbs(Handle):
    """The verbs of an owner on PostgreSQL."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._known_rows = KnownRows()

    async def claim(self, requests: Sequence[ClaimRequest], *, window_us: int) -> Claimed:
        if len(requests) == 1:
            values = claim.values(self._setting, requests[0], window_us)
            return claim.claimed(requests, [await self._hot(claim.CLAIM, *values)])

        # Their rows are held in the order in which everybody holds several of them.
        ordered = sorted(requests, key=lambda request: request.fence.bucket)

        async def work(transaction: Transaction) -> Claimed:
            answers: list[list[Row]] = []
            for request in ordered:
                values = claim.values(self._setting, request, window_us)
                answers.append(await transaction.rows(claim.CLAIM, *values))
            return claim.claimed(ordered, answers)

        return await self._write(work)

    async def start(self, fence: Fence, starts: Sequence[Start]) -> list[Verdict]:
        return await self._begin(fence, starts, removing=False)

    async def take_over(self, fence: Fence, starts: Sequence[Start]) -> list[Verdict]:
        return await self._begin(fence, starts, removing=True)

    async def _begin(self, fence: Fence, starts: Sequence[Start], *, removing: bool) -> list[Verdict]:
        """Jobs without a row by one statement, the others in a transaction after that."""
        if _names_twice(starts):
            return await _apart(starts, lambda some: self._begin(fence, some, removing=removing))
        self._known_rows.made(starts)
        fast = take_over.ready(starts)
        begun: set[JobKey] = set()
        if fast:
            statement, values = take_over.values(self._setting, fence, fast, removing=removing)
            owned, count, keys = (await self._hot(statement, *values))[0]
            if not owned:
                raise fenced(fence)
            begun.update(one.key for one in fast) if count == len(fast) else begun.update(keys or ())
        left = [one for one in starts if one.key not in begun]
        verdicts: dict[JobKey, Verdict] = {}
        if left or not starts:
            rest = self._write(lambda tx: start.start(tx, fence, left, removing=removing))
            decided = await (_second(rest) if fast else rest)
            verdicts = {one.key: verdict for one, verdict in zip(left, decided, strict=True)}
            self._known_rows.forget([one for one in left if not verdicts[one.key].yes])
        return [verdicts.get(one.key) or take_over.yes(one) for one in starts]

    async def finish(self, fence: Fence, outcomes: Sequence[Outcome]) -> list[Settled]:
        return await self._end(fence, outcomes, removing=False)

    async def settle(self, fence: Fence, outcomes: Sequence[Outcome]) -> list[Settled]:
        return await self._end(fence, outcomes, removing=True)

    async def _end(self, fence: Fence, outcomes: Sequence[Outcome], *, removing: bool) -> list[Settled]:
        """All that can go by one statement do; the others, seldom any, in a transaction after that."""
        if _names_twice(outcomes):
            return await _apart(outcomes, lambda some: self._end(fence, some, removing=removing))
        fast = finish.ready(outcomes)
        done: set[JobKey] = set()
        if fast:
            owned, _, count, keys = await self._end_at_once(fence, fast, removing=removing)
            if not owned:
                raise fenced(fence)
            if removing:
                self._vacuum.removed(len(fast))
            if count == len(outcomes):
                return [DONE] * count
            done.update(one.key for one in fast) if count == len(fast) else done.update(keys or ())
        left = [one for one in outcomes if one.key not in done]
        rest = self._write(lambda tx: one_by_one.finish(tx, fence, left, removing=removing))
        settled = await (_second(rest) if fast else rest)
        answers = {one.key: answer for one, answer in zip(left, settled, strict=True)}
        return [answers.get(one.key, DONE) for one in outcomes]

    async def _end_at_once(self, fence: Fence, outcomes: Sequence[Outcome], *, removing: bool) -> Row:
        """One statement. A cheaper form of it serves jobs of which nobody here knows a row."""
        batch = finish.batch(self._setting, fence, outcomes, removing=removing)
        if self._known_rows.has_none(outcomes):
            try:
                found: Row = (await self._hot(batch.statement(all_new=True), *batch.values))[0]
            except StoreUnavailable as error:
                if not isinstance(error.__cause__, asyncpg.UniqueViolationError):
                    raise
            else:
                return found
        found = (await self._hot(batch.statement(all_new=False), *batch.values))[0]
        self._known_rows.forget(outcomes)
        return found

    async def release(self, fence: Fence, jobs: Sequence[Outcome]) -> None:
        await self._write(lambda tx: letting_go.let_go(tx, fence, jobs, ended=False, removing=False))

    async def hand_back(self, fence: Fence, jobs: Sequence[Outcome]) -> None:
        await self._write(lambda tx: letting_go.let_go(tx, fence, jobs, ended=True, removing=False))

    async def set_free(self, fence: Fence, jobs: Sequence[Outcome], *, ended: bool) -> None:
        await self._write(lambda tx: letting_go.let_go(tx, fence, jobs, ended=ended, removing=True))
        self._known_rows.forget(jobs)


def _names_twice(jobs: Sequence[Start] | Sequence[Outcome]) -> bool:
    """A recovered job can be in a batch twice: as claimed, and as the message that it left behind."""
    return len({one.key for one in jobs}) < len(jobs)


async def _apart(jobs: Sequence[J], verb: Callable[[list[J]], Awaitable[list[T]]]) -> list[T]:
    """The answers to a batch that names jobs twice: its repetitions follow in a batch of their own.

    Verbs answer by job, and their statements change a row once, so each batch may name a job only once.
    """
    first = {one.key: index for index, one in reversed(list(enumerate(jobs)))}
    indexes = [index for index, one in enumerate(jobs) if first[one.key] == index]
    repeated = [index for index, one in enumerate(jobs) if first[one.key] != index]
    answers = dict(zip(indexes, await verb([jobs[index] for index in indexes]), strict=True))
    answers.update(zip(repeated, await _second(verb([jobs[index] for index in repeated])), strict=True))
    return [answers[index] for index in range(len(jobs))]


async def _second(rest: Awaitable[T]) -> T:
    """The second transaction of a verb: where the first was made, nobody may say that nothing was stored."""
    try:
        return await rest
    except OutcomeUnknown:
        raise
    except StoreUnavailable as error:
        raise OutcomeUnknown(f"A part of the batch was stored, and the rest was not: {error}") from error
