"""A push, a removal and a fence whose connection is cut just before, or just after, the server has committed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from jobmaster.errors import OutcomeUnknown
from tests.engine.postgresql_at_work import job, opened, owned
from tests.servers.fault_proxy import AFTER, BEFORE, FaultProxy

pytestmark = pytest.mark.backend("postgresql")


@pytest.fixture
def proxy(postgres_database: str) -> Iterator[FaultProxy]:
    with FaultProxy(postgres_database) as proxy:
        yield proxy


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("when", [BEFORE, AFTER])
async def test_a_push_that_was_cut_may_be_stored_and_its_repeat_stores_it_once(
    proxy: FaultProxy, postgres_database: str, when: str, count: int
) -> None:
    async with opened(postgres_database) as direct, opened(proxy.dsn(postgres_database)) as store:
        bucket = await owned(direct)
        await store.push(bucket.id, [job() for _ in range(count)])  # the statement is prepared now
        jobs = [job() for _ in range(count)]
        proxy.cut_next(when, matching="INSERT INTO jm_message")
        with pytest.raises(OutcomeUnknown):
            await store.push(bucket.id, jobs)
        depth = (await direct.depths([bucket.id]))[bucket.id]
        assert depth == (2 * count if when == AFTER else count)
        await store.push(bucket.id, jobs)
        await store.push(bucket.id, [job(verify=True) for _ in range(count)])
        assert await direct.depths([bucket.id]) == {bucket.id: 3 * count}


@pytest.mark.parametrize("when", [BEFORE, AFTER])
async def test_a_removal_and_a_fence_that_were_cut_are_repeated_without_harm(
    proxy: FaultProxy, postgres_database: str, when: str
) -> None:
    async with opened(postgres_database) as direct, opened(proxy.dsn(postgres_database)) as store:
        bucket = await owned(direct)
        await store.push(bucket.id, [job(), job()])
        first, second = (await store.read(bucket.fence, None, limit=9, window_us=0)).messages
        proxy.cut_next(when, matching="DELETE FROM jm_message")
        with pytest.raises(OutcomeUnknown):
            await store.remove(bucket.fence, [first.seq])
        await store.remove(bucket.fence, [first.seq])
        proxy.cut_next(when, matching="UPDATE jm_agent_bucket")
        with pytest.raises(OutcomeUnknown):
            await store.fence(bucket.fence)
        assert (await store.fence(bucket.fence)).high_mark == second.seq
        assert await direct.depths([bucket.id]) == {bucket.id: 1}
