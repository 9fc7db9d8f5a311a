"""What a renewal is told: how many workers live, orders, demands of hungry ones, cancels (R6, R19, R20)."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from jobmaster.model.states import BucketStatus
from jobmaster.model.worker import Command, Demand, Grant

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from jobmaster.model.bucket import Bucket
    from jobmaster.model.ids import JobKey
    from jobmaster.model.worker import Renewal
    from jobmaster.stores.sql.postgresql.transaction import Transaction

NEWS = """
SELECT 1, count(*), 0::bigint, ''::text, ''::bytea, NULL::uuid FROM jm_worker WHERE ended = 0 AND lease_until_us >= $1
UNION ALL
SELECT 2, c.id, c.worker, c.verb, c.args, NULL FROM unnest($2::bigint[]) AS w(id) CROSS JOIN LATERAL (
    SELECT * FROM jm_command WHERE worker = w.id AND answered_us IS NULL ORDER BY id LIMIT 1000) AS c
UNION ALL
SELECT 3, id, 0, agent, demands, NULL FROM jm_worker
WHERE ended = 0 AND stopping = 0 AND agent = ANY($3::text[]) AND renewed_us > $4 AND demands <> '[]'
UNION ALL
(SELECT 4, number, created_us, '', '', job_id FROM jm_tombstone WHERE number > $5 ORDER BY number LIMIT 2000)
"""
LIVING, ORDER, DEMAND = 1, 2, 3

CANCELS = "SELECT number, created_us, job_id FROM jm_tombstone WHERE number > $1 ORDER BY number LIMIT 2000"
CANCELS_IN_FLIGHT = (4242, 3)
"""An advisory lock: whoever cancels has it (shared) from before the number is drawn until the commit."""
NOBODY_CANCELS = "SELECT pg_try_advisory_xact_lock($1::int, $2::int)"
LONGEST_CANCEL_US = 30_000_000
"""A cancel is committed or undone by then."""

_demands = msgspec.json.Decoder(list[Demand])


class Worker(NamedTuple):
    """A worker that was not ended. `prolonged`: by this renewal; else a later one had come before."""

    id: int
    agent: str
    lanes: frozenset[str]
    prolonged: bool


class Cancel(NamedTuple):
    """A tombstone."""

    number: int
    created_us: int
    key: JobKey


class News(NamedTuple):
    """What the workers of one process tree are told. No cancel numbered up to `complete` can be missing."""

    now_us: int
    living: int
    commands: dict[int, list[Command]]
    demands: list[tuple[int, str, Demand]]
    cancels: list[Cancel]
    complete: int

    def grant(self, renewal: Renewal, worker: Worker | None, buckets: list[Bucket]) -> Grant:
        """The answer to one renewal; `worker` None: it was ended."""
        after = renewal.cancels_after
        if worker is None:
            return Grant(number=renewal.number, now_us=self.now_us, cancels_upto=after, gone=True)
        return Grant(
            number=renewal.number,
            now_us=self.now_us,
            buckets=sorted(buckets, key=lambda bucket: bucket.id),
            cancels=[one.key for one in self.cancels if one.number > after],
            cancels_upto=max(after, self.complete),
            commands=sorted(self.commands.get(worker.id, ()), key=lambda command: command.id),
            demands=self._demands_on(worker, buckets),
            workers=self.living,
        )

    def _demands_on(self, worker: Worker, buckets: Sequence[Bucket]) -> list[Demand]:
        """What hungry workers of the same agent would take from the lanes and priorities of this one."""
        offered = {(bucket.lane, bucket.priority) for bucket in buckets if bucket.status is BucketStatus.ACTIVE}
        return [
            demand
            for other, agent, demand in self.demands
            if other != worker.id and agent == worker.agent and (demand.lane, demand.priority) in offered
        ]


async def news(transaction: Transaction, renewals: Sequence[Renewal], workers: Collection[Worker]) -> News:
    """One look at everything."""
    now_us = transaction.now_us
    after = min(one.cancels_after for one in renewals)
    fresh_us = now_us - transaction.rules.lease_us // 2
    ids, agents = [worker.id for worker in workers], {worker.agent for worker in workers}
    found = await transaction.rows(NEWS, now_us, ids, list(agents), fresh_us, after)
    living = 0
    commands: defaultdict[int, list[Command]] = defaultdict(list)
    demands, cancels = [], []
    for kind, number, other, words, data, key in found:
        if kind == LIVING:
            living = number
        elif kind == ORDER:
            commands[other].append(Command(number, words, data))
        elif kind == DEMAND:
            demands += [(number, words, demand) for demand in _demands.decode(data)]
        else:
            cancels.append(Cancel(number, other, key))
    return News(now_us, living, commands, demands, cancels, after)


async def settled(transaction: Transaction, told: News) -> News:
    """The same with `complete` as high as it can be. The last step of a transaction: cancels wait for its end.

    Numbers are drawn before commits, so a lower one may come after a higher one, unless nobody cancels at this moment.
    What is above `complete` is told again by the next renewal.
    """
    told = told._replace(now_us=transaction.now_us)
    if not told.cancels:
        return told
    if await transaction.value(NOBODY_CANCELS, *CANCELS_IN_FLIGHT):
        cancels = [Cancel(*row) for row in await transaction.rows(CANCELS, told.complete)]
        return told._replace(cancels=cancels, complete=max((one.number for one in cancels), default=told.complete))
    old_us = transaction.now_us - LONGEST_CANCEL_US
    numbers = [one.number for one in told.cancels if one.created_us <= old_us]
    return told._replace(complete=max(numbers, default=told.complete))
