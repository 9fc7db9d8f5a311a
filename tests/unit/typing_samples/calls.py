"""Read by type checkers only (test_task_typing.py): what they infer, and the wrong calls that they must refuse.

`assert_type` states what is inferred. A line with "# wrong" must be an error in both checkers, and no other may be.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, assert_type

from jobmaster import JobContext, JobMaster, MessageData, Priority, Result, ScheduleProfile
from jobmaster.profiles import ScheduleCollection
from jobmaster.schedules import Cron, Every, NaturalCron
from jobmaster.schedules.natural import Weekday
from jobmaster.views import ScheduleInfo, ScheduleRun

jm = JobMaster("typing")


@jm.task
def sync_bare(name: str) -> str:
    return name


@jm.task
async def async_bare(number: int) -> float:
    return number / 2


@jm.task(name="mail.receipt", lane="mail", priority=Priority.HIGH, max_retries=5, timeout=30)
def sync_options(order: int, *, copy: bool = False) -> list[str]:
    return [str(order)] if copy else []


@jm.task(lane="mail")
async def async_options(order: int) -> dict[str, int]:
    return {"order": order}


@jm.task(bind=True)
def sync_bound(ctx: JobContext, path: str, width: int = 100) -> bytes:
    return path.encode() * width


@jm.task(bind=True, lane="bulk")
async def async_bound(ctx: JobContext, path: str) -> int:
    return len(path)


@jm.task(bind=False, max_retries=0)
def not_bound(path: str) -> int:
    return len(path)


@jm.task
def keyword_only(*, first: int, second: str = "") -> None:
    return None


@jm.task
def untyped(first, second=1):  # type: ignore[no-untyped-def]
    return first


@jm.task
def any_first(thing: Any, number: int) -> int:
    return number


@jm.handler("Hello", lane="mail", timeout=10)
class Hello:
    async def handle(self, job: JobContext) -> str:
        return job.msg_data.try_get_str("Name") or "World"


assert_type(sync_bare.delay("J"), Result[str])
assert_type(sync_bare.delay(name="J"), Result[str])
assert_type(async_bare.delay(3), Result[float])
assert_type(sync_options.delay(1, copy=True), Result[list[str]])
assert_type(async_options.delay(order=1), Result[dict[str, int]])
assert_type(sync_bound.delay("a.png", width=3), Result[bytes])
assert_type(async_bound.delay(path="a.png"), Result[int])
assert_type(not_bound.delay("a"), Result[int])
assert_type(keyword_only.delay(first=1), Result[None])
assert_type(untyped.delay(1, second=2), Result[Any])
assert_type(any_first.delay(object(), 2), Result[int])

assert_type(sync_bare.options(delay=10, lane="bulk", priority=Priority.LOW, expires=60).delay("J"), Result[str])
assert_type(async_bare.options(countdown=10, metadata={"tenant": "a"}).delay(3), Result[float])
assert_type(sync_bare.apply_async(("J",), countdown=10), Result[str])
assert_type(async_bare.apply_async(kwargs={"number": 1}, queue="bulk"), Result[float])
assert_type(jm.enqueue_many([sync_bare.job("a"), sync_bare.options(delay=1).job("b")]), list[Result[str]])
assert_type(jm.enqueue_many([async_bare.job(number=1)]), list[Result[float]])
assert_type(jm.result("id", sync_bare), Result[str])
assert_type(jm.result("id", async_bare), Result[float])
assert_type(jm.result("id"), Result[Any])
assert_type(jm.scheduler.once_now(Hello, MessageData().set_str("Name", "J")), Result[Any])
assert_type(jm.scheduler.once_after(sync_bare, 5, {"name": "J"}, priority=Priority.LOW), Result[Any])

assert_type(sync_bare("J"), str)
assert_type(sync_bound("a.png"), bytes)
assert_type(sync_bare.delay("J").get(timeout=5), str)
assert_type(sync_bare.name, str)


async def inside_a_loop() -> None:
    assert_type(await sync_bare.adelay("J"), Result[str])
    assert_type(await async_bare.options(lane="bulk").adelay(3), Result[float])
    assert_type(await (await async_bound.adelay("a.png")).aget(), int)
    assert_type(await async_bare(3), float)
    assert_type(await jm.aenqueue_many([async_bare.job(1)]), list[Result[float]])
    await async_bare.adelay("3")  # wrong
    assert_type(await jm.scheduler.arecurring(sync_bare, "every hour", {"name": "J"}), ScheduleInfo)
    assert_type(await jm.schedules.aruns("nightly"), Sequence[ScheduleRun])


@jm.every("every day at 02:30", tz="Europe/Berlin")
def becomes_a_task(day: int = 0) -> str:
    return str(day)


@jm.every(Cron("0 3 * * *"), {"order": 1}, overlap="skip", jitter=timedelta(seconds=5))
@jm.task(lane="bulk")
def is_a_task(order: int) -> bytes:
    return bytes(order)


@jm.every(Every(5).minutes().between("9:00", "18:00"))
@jm.every(timedelta(hours=1), {"Name": "J"})
@jm.handler("Hourly")
class Hourly:
    def handle(self, job: JobContext) -> str:
        return job.id


@jm.profile
class Reports(ScheduleProfile):
    profile_id = "reports"

    def configure(self, schedules: ScheduleCollection) -> None:
        schedules.add(sync_bare, ("NaturalCron", "every 1 minutes"), {"name": "J"}, misfire="all", misfire_limit=3)
        schedules.add(sync_bare, "every hour", misfyre="all")  # wrong


assert_type(becomes_a_task.delay(3).get(), str)
assert_type(becomes_a_task(3), str)
assert_type(is_a_task.delay(order=1).get(), bytes)
assert_type(Hourly().handle, Any)  # wrong
assert_type(Reports.profile_id, str)
assert_type(jm.scheduler.recurring(Hourly, [datetime.now(UTC)], MessageData()), ScheduleInfo)
assert_type(Every(2).weeks().anchored_on(Weekday.SUNDAY).build(), NaturalCron)
assert_type(jm.scheduler.recurring(sync_bare, Every().day().at_time(9, ampm="am"), {"name": "J"}), ScheduleInfo)
assert_type(jm.scheduler.recurring("by.name", NaturalCron.parse("every hour"), name="n", tz=None), ScheduleInfo)
assert_type(jm.schedules.edit("n", version=1, when="every day", jitter=None), ScheduleInfo)
assert_type(jm.scheduler.run_now("n").get(), Any)
becomes_a_task.delay("3")  # wrong
is_a_task.delay()  # wrong
jm.scheduler.recurring(sync_bare, 5)  # wrong
jm.scheduler.recurring(sync_bare, "every hour", overlap="maybe")  # wrong
jm.scheduler.recurring(sync_bare, "every hour", jiter=5)  # wrong
jm.schedules.edit("n", versoin=1)  # wrong
jm.profile(int)  # wrong
sync_bare.delay(3)  # wrong
sync_bare.delay(nmae="J")  # wrong
sync_bare.delay()  # wrong
sync_bare.delay("J", "K")  # wrong
async_bare.delay("3")  # wrong
async_bare.delay()  # wrong
sync_options.delay(1, True)  # wrong
async_options.delay(order="1")  # wrong
sync_bound.delay()  # wrong
sync_bound.delay("a.png", width="3")  # wrong
async_bound.delay(3)  # wrong
not_bound.delay(3)  # wrong
keyword_only.delay(1)  # wrong
keyword_only.delay(second="x")  # wrong
untyped.delay()  # wrong
any_first.delay(1, "2")  # wrong
sync_bare.options(dealy=10)  # wrong
sync_bare.options(delay="soon")  # wrong
sync_bare.options(delay=10).delay(3)  # wrong
sync_bare.apply_async(("J",), cuontdown=10)  # wrong
sync_bare.job(3)  # wrong
jm.enqueue_many([sync_bare.job()])  # wrong
jm.enqueue_many([sync_bare.delay("J")])  # wrong
number: int = sync_bare.delay("J").get()  # wrong
sync_bare(3)  # wrong
jm.scheduler.once_now(sync_bare, {"name": "J"}, dealy=1)  # wrong
JobMaster("typing", materr="sqlite:///x.db")  # wrong
jm.handler("NoHandle")(int)  # wrong
jm.scheduler.recurring(sync_bare, Every(5), {"name": "J"})  # wrong
Every(5).minute()  # wrong
Every().minutes()  # wrong
Every().day().at_time("9")  # wrong
Every().day().between("9:00")  # wrong


@jm.task(laen="mail")  # wrong
def misspelt() -> None: ...


@jm.task(bind=True)  # wrong
def bound_without_context(path: int) -> None: ...
