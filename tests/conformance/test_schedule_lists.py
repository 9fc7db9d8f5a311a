"""What people see: schedules by name, page by page, and lists of jobs without what is planned ahead."""

from __future__ import annotations

import pytest

from jobmaster.errors import ConfigurationError
from jobmaster.model.schedule import Schedule, ScheduleKind
from jobmaster.ports.query import JobQuery
from jobmaster.ports.schedules import ScheduleQuery
from tests.conformance.cases import case
from tests.conformance.cluster import NOON, SECOND, Cluster
from tests.conformance.schedule_cases import (
    ACTIVE,
    CANCELED,
    EVERY_HOUR,
    MINUTE,
    added,
    changed,
    made,
    plan_of,
    planned,
    run,
    static,
)

# -- list_schedules


@case("success", "list_schedules")
async def test_schedules_are_listed_by_name_page_by_page(cluster: Cluster) -> None:
    names = ["Zoo", "a", "b", "e\u0301", "\u00e9", "z", "\U0001f984"]
    for name in [*names[::-1], "", " "]:
        await cluster.store.add_schedule(made(name or "nameless", name=name))
    await cluster.store.add_schedule(made("nameless too", name=""))
    listed: list[Schedule] = []
    after = None
    while True:
        page = await cluster.store.list_schedules(ScheduleQuery(), limit=3, after=after)
        listed += page.schedules
        after = page.after
        if after is None:
            break
    assert [one.name for one in listed] == [" ", *sorted(names), "", ""]
    assert listed[-2].key < listed[-1].key


@case("conflict", "list_schedules")
async def test_pages_that_cannot_be_are_refused(cluster: Cluster) -> None:
    for limit, after in ((0, None), (1_001, None), (10, "no page")):
        with pytest.raises(ConfigurationError):
            await cluster.store.list_schedules(ScheduleQuery(), limit=limit, after=after)


@case("repeat", "list_schedules")
async def test_a_repeated_list_is_the_same(cluster: Cluster) -> None:
    await added(cluster)
    first = await cluster.store.list_schedules(ScheduleQuery())
    assert await cluster.store.list_schedules(ScheduleQuery()) == first


@pytest.mark.parametrize(
    ("query", "names"),
    [
        (ScheduleQuery(), ["broken", "done", "other", "paused", "static"]),
        (ScheduleQuery(statuses=(CANCELED,)), ["done"]),
        (ScheduleQuery(statuses=(CANCELED, ACTIVE), kind=ScheduleKind.STATIC), ["static"]),
        (ScheduleQuery(statuses=()), []),
        (ScheduleQuery(task="print"), ["other"]),
        (ScheduleQuery(lane="slow"), ["other"]),
        (ScheduleQuery(paused=True), ["paused"]),
        (ScheduleQuery(paused=False, broken=True), ["broken"]),
        (ScheduleQuery(broken=False, kind=ScheduleKind.DYNAMIC), ["done", "other", "paused"]),
        (ScheduleQuery(text="THE"), ["other"]),
        (ScheduleQuery(text="prin"), ["other"]),
        (ScheduleQuery(text="every HOUR"), ["other"]),
        (ScheduleQuery(text=made("done").key.hex()[3:20]), ["done"]),
        (ScheduleQuery(text="%"), []),
    ],
    ids=lambda value: str(value) if isinstance(value, list) else None,
)
async def test_a_list_has_what_was_asked_for(cluster: Cluster, query: ScheduleQuery, names: list[str]) -> None:
    broken = await added(cluster, "broken")
    await cluster.store.plan_schedules([plan_of(broken, error="no zone")], as_of_us=NOON, max_age_us=0)
    await changed(cluster, await added(cluster, "done"), status=CANCELED)
    await added(cluster, "other", task="print", lane="slow", rule=EVERY_HOUR)
    await added(cluster, "paused", paused=True)
    await cluster.store.ensure_schedules([static("static")])
    page = await cluster.store.list_schedules(query)
    assert ([one.name for one in page.schedules], page.after) == (names, None)


# -- list_jobs


@case("success", "list_jobs")
async def test_a_list_may_leave_out_what_is_planned_ahead(cluster: Cluster) -> None:
    soon = NOON + 10 * SECOND
    schedule = await planned(cluster, await added(cluster), NOON, soon, NOON + MINUTE)
    called = (await cluster.held(due_in=60))[0].key
    bucket = await cluster.bucket(await cluster.worker(lanes=("mail",)), lane="mail", priority=4)
    fetched = {job.due_us for job in (await cluster.claim(bucket, window=15)).jobs}
    everything = await cluster.store.list_jobs(JobQuery())
    so_far = await cluster.store.list_jobs(JobQuery(not_ahead_of_us=NOON))
    then = await cluster.store.list_jobs(JobQuery(not_ahead_of_us=soon))
    assert fetched == {NOON, soon}
    assert len(everything.jobs) == 4
    assert {job.key for job in so_far.jobs} == {called, run(schedule, NOON).job.key}
    assert {job.key for job in then.jobs} == {called, run(schedule, NOON).job.key, run(schedule, soon).job.key}


@case("success", "list_jobs")
async def test_one_that_was_put_off_after_its_moment_is_listed(cluster: Cluster) -> None:
    schedule = await planned(cluster, await added(cluster), NOON)
    key = run(schedule, NOON).job.key
    assert await cluster.store.reschedule(key, NOON + MINUTE)
    so_far = await cluster.store.list_jobs(JobQuery(not_ahead_of_us=NOON))
    assert [job.key for job in so_far.jobs] == [key]
