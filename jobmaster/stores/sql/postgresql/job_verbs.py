"""The verbs of an owner: claims, guarded starts, outcomes, letting go (ports.master, ports.store), one line each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobmaster.stores.sql.postgresql import claim, letting_go, start
from jobmaster.stores.sql.postgresql import outcomes as decided
from jobmaster.stores.sql.postgresql.handle import Handle

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jobmaster.model.job import Fence, Outcome, Settled, Start, Verdict
    from jobmaster.ports.master import Claimed, ClaimRequest
    from jobmaster.stores.sql.job_rows import Row
    from jobmaster.stores.sql.postgresql.transaction import Transaction


class JobVerbs(Handle):
    """The verbs of an owner on PostgreSQL."""

    async def claim(self, requests: Sequence[ClaimRequest], *, window_us: int) -> Claimed:
        if len(requests) == 1:
            values = claim.values(self._setting, requests[0], window_us)
            return claim.claimed(requests, [await self._hot(claim.CLAIM, *values)])

        async def work(transaction: Transaction) -> Claimed:
            answers: list[list[Row]] = []
            for request in requests:
                values = claim.values(self._setting, request, window_us)
                answers.append(await transaction.rows(claim.CLAIM, *values))
            return claim.claimed(requests, answers)

        return await self._write(work)

    async def start(self, fence: Fence, starts: Sequence[Start]) -> list[Verdict]:
        return await self._write(lambda tx: start.start(tx, fence, starts, removing=False))

    async def take_over(self, fence: Fence, starts: Sequence[Start]) -> list[Verdict]:
        return await self._write(lambda tx: start.start(tx, fence, starts, removing=True))

    async def finish(self, fence: Fence, outcomes: Sequence[Outcome]) -> list[Settled]:
        return await self._write(lambda tx: decided.finish(tx, fence, outcomes, removing=False))

    async def settle(self, fence: Fence, outcomes: Sequence[Outcome]) -> list[Settled]:
        return await self._write(lambda tx: decided.finish(tx, fence, outcomes, removing=True))

    async def release(self, fence: Fence, jobs: Sequence[Outcome]) -> None:
        await self._write(lambda tx: letting_go.let_go(tx, fence, jobs, ended=False, removing=False))

    async def hand_back(self, fence: Fence, jobs: Sequence[Outcome]) -> None:
        await self._write(lambda tx: letting_go.let_go(tx, fence, jobs, ended=True, removing=False))

    async def set_free(self, fence: Fence, jobs: Sequence[Outcome], *, ended: bool) -> None:
        await self._write(lambda tx: letting_go.let_go(tx, fence, jobs, ended=ended, removing=True))
