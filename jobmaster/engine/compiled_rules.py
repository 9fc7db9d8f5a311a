"""The rules of schedules that a planner has read, and users' rules beside the event loop."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Final, TypeVar
from uuid import UUID

from jobmaster.rules.compiling import compiled

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobmaster.model.schedule import Schedule, ScheduleKey
    from jobmaster.schedules.expression import Expression

logger = logging.getLogger("jobmaster.engine")

_T = TypeVar("_T")

BUILT_IN: Final = frozenset({"NaturalCron", "Cron", "TimeSpanInterval", "Dates", "Never-Recurs"})
"""Languages whose rules answer in microseconds. All others are users' code."""
_MOST: Final = 8192
_LONGEST_COMPILE: Final = 10.0
_SEEN_AGAIN: Final = 60.0
"""Seconds after which an unreadable schedule that was not seen meanwhile has found a planner that can read it."""


async def aside(work: Callable[[], _T], *, seconds: float) -> _T:
    """Do it in a thread of its own, that ends with the process, for at most so long.

    Raises:
        TimeoutError: it took longer. The thread goes on, but nobody waits for it.
    """
    loop, done = asyncio.get_running_loop(), asyncio.Event()
    ends: list[tuple[_T | None, Exception | None]] = []

    def run() -> None:
        try:
            ends.append((work(), None))
        except Exception as error:  # noqa: BLE001 - raised where it is awaited
            ends.append((None, error))
        try:
            loop.call_soon_threadsafe(done.set)
        except RuntimeError:  # the loop has ended meanwhile
            return

    threading.Thread(target=run, name="jobmaster-rule", daemon=True).start()
    try:
        async with asyncio.timeout(seconds):
            await done.wait()
    except TimeoutError:
        raise TimeoutError(f"its next occurrences take longer than {seconds:g} s to compute") from None
    value, error = ends[0]
    if error is not None:
        raise error
    return value  # type: ignore[return-value]


class CompiledRules:
    """The rules that were computed lately, by language, text and zone; the one longest unused goes first.

    Args:
        zone: the cluster's, of rules that name none.
        most: how many are kept.
    """

    def __init__(self, *, zone: str, most: int = _MOST) -> None:
        self._zone = zone
        self._most = most
        self._rules: OrderedDict[tuple[str, str, str, bytes], Expression] = OrderedDict()
        self._languages: set[str] = set()
        self._unreadable: dict[ScheduleKey, tuple[int, float, float]] = {}
        """Version, and when (monotonic) it was seen first and last."""

    async def of(self, schedule: Schedule) -> Expression:
        """The schedule's rule, computed; raises what its provider raises."""
        rule = schedule.rule
        # `H` of cron is some value that is derived from the schedule: such a rule is shared by no two of them.
        key = schedule.key if rule.type_id == "Cron" and "h" in rule.text.lower() else b""
        name = (rule.type_id, rule.text, rule.zone, key)
        known = self._rules.get(name)
        if known is not None:
            self._rules.move_to_end(name)
            return known
        if rule.type_id in self._languages:
            known = compiled(rule, zone=self._zone, key=key)
        elif rule.type_id in BUILT_IN:  # its first rule loads its parser, which would hold up the jobs on this loop
            known = await asyncio.to_thread(compiled, rule, zone=self._zone, key=key)
            self._languages.add(rule.type_id)
        else:
            known = await aside(lambda: compiled(rule, zone=self._zone, key=key), seconds=_LONGEST_COMPILE)
        self._rules[name] = known
        if len(self._rules) > self._most:
            self._rules.popitem(last=False)
        return known

    def is_given_up(self, schedule: Schedule, now: float, after: float) -> bool:
        """Whether a schedule that this process cannot read has found nobody who can, for so many seconds."""
        version, first, last = self._unreadable.get(schedule.key, (0, now, now))
        if version != schedule.version or now - last > max(_SEEN_AGAIN, after / 2):
            first = now
            logger.warning(
                "schedule_unreadable schedule=%s name=%s rule=%s:%r zone=%s: this process does not know its language, "
                "zone or words; other workers may",
                UUID(bytes=schedule.key), schedule.name, schedule.rule.type_id, schedule.rule.text,
                schedule.rule.zone or "-",
            )  # fmt: skip
        self._unreadable[schedule.key] = (schedule.version, first, now)
        if now - first < after:
            return False
        del self._unreadable[schedule.key]
        return True
