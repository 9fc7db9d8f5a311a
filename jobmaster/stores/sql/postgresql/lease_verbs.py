"""The verbs of workers and buckets (ports.master), one line each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobmaster.rules.storable import check_bucket, check_registration
from jobmaster.stores.sql.postgresql import buckets, drain, leases, renewal
from jobmaster.stores.sql.postgresql.handle import Handle

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jobmaster.model.bucket import Bucket, NewBucket
    from jobmaster.model.job import Blame, Fence, Message
    from jobmaster.model.worker import Grant, Registered, Registration, Renewal


class LeaseVerbs(Handle):
    """The verbs of workers and buckets (ports.master) on PostgreSQL."""

    # -- workers and leases

    async def register(self, registration: Registration) -> Registered:
        check_registration(registration)
        return await self._write(lambda tx: leases.register(tx, registration))

    async def renew(self, renewals: Sequence[Renewal]) -> list[Grant]:
        return await self._write(lambda tx: renewal.renew(tx, renewals))

    async def end_worker(self, worker: int, *, blame: Sequence[Blame] | None = None) -> None:
        await self._write(lambda tx: leases.end_worker(tx, worker, blame))

    async def mark_lost(self, *, limit: int = 100, as_of_us: int | None = None) -> list[Bucket]:
        found = await self._read(lambda tx: leases.suspects(tx, as_of_us))
        if not found:
            return []
        # One whose writes do not end (its process was stopped in the middle) must not keep the others from being lost.
        judged = leases.Judged(found, limit, as_of_us)
        lost = await self._write(lambda tx: leases.mark_lost(tx, judged, patiently=False))
        return lost or await self._write(lambda tx: leases.mark_lost(tx, judged, patiently=True))

    # -- buckets

    async def open_buckets(self) -> list[Bucket]:
        return await self._read(buckets.open_buckets)

    async def offer_bucket(self, bucket: NewBucket) -> Bucket:
        check_bucket(bucket)
        found = await self._read(lambda tx: buckets.open_bucket_of(tx, bucket))
        return await self._write(lambda tx: buckets.offer_bucket(tx, bucket)) if found is None else found

    async def create_buckets(self, worker: int, new: Sequence[NewBucket]) -> list[Bucket]:
        for bucket in new:
            check_bucket(bucket)
        return await self._write(lambda tx: buckets.create_buckets(tx, worker, new))

    async def recover_before(self, fence: Fence, *, adopted_us: int, limit: int) -> int:
        return await self._write(lambda tx: buckets.recover_before(tx, fence, adopted_us, limit))

    async def give_up(self, fence: Fence) -> None:
        await self._write(lambda tx: buckets.give_up(tx, fence))

    async def complete(self, fence: Fence) -> None:
        await self._write(lambda tx: buckets.complete(tx, fence))

    async def reopen(self, fence: Fence) -> None:
        await self._write(lambda tx: buckets.reopen(tx, fence))

    async def return_bucket(self, fence: Fence) -> None:
        await self._write(lambda tx: buckets.return_bucket(tx, fence))

    async def retire(self, fence: Fence) -> None:
        await self._write(lambda tx: drain.retire(tx, fence))

    # -- drains

    async def claim_drain(self, worker: int, *, agent: str, older_us: int) -> Bucket | None:
        return await self._write(lambda tx: drain.claim_drain(tx, worker, agent, older_us))

    async def drain_in(self, fence: Fence, messages: Sequence[Message]) -> None:
        await self._write(lambda tx: drain.drain_in(tx, fence, messages))

    async def drain(self, fence: Fence, *, limit: int) -> bool:
        return await self._write(lambda tx: drain.drain(tx, fence, limit))

    async def unknown_buckets(self, ids: Sequence[int]) -> list[int]:
        return await self._read(lambda tx: drain.unknown_buckets(tx, ids))

    async def drain_orphan(self, bucket: int, *, limit: int) -> bool:
        return await self._write(lambda tx: drain.drain_orphan(tx, bucket, limit))
