"""Calendars of single moments."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar
from zoneinfo import ZoneInfo

from jobmaster.errors import ConfigurationError
from jobmaster.schedules.english import listed
from jobmaster.schedules.moments import as_utc, iso_text, read_moment, shown_in

_ITEM = re.compile(r"[^,\s]+(?: [^,\s]+)?")
_MOST_TOLD = 3


@dataclass(frozen=True, slots=True, init=False)
class Dates:
    """Single moments, after the last of which it has ended: `Dates([datetime(2026, 12, 24, 18, tzinfo=UTC), ...])`.

    Args:
        moments: aware datetimes in any order, at least one; equal ones count once.

    Raises:
        ConfigurationError: there is none, or one has no zone.
    """

    type_id: ClassVar[str] = "Dates"

    moments: tuple[datetime, ...]
    zone: ZoneInfo | None

    def __init__(self, moments: Iterable[datetime]) -> None:
        given: list[Any] = list(moments)
        if not given:
            raise ConfigurationError(
                "a calendar needs at least one moment; for a schedule that never runs take Never()"
            )
        for moment in given:
            if not isinstance(moment, datetime) or moment.tzinfo is None:
                raise ConfigurationError(
                    f"a calendar holds datetimes with a zone, not {moment!r}: write datetime(..., tzinfo=timezone.utc)"
                )
        object.__setattr__(self, "moments", tuple(sorted({as_utc(moment) for moment in given})))
        object.__setattr__(self, "zone", None)

    @classmethod
    def parse(cls, text: str) -> Dates:
        """The calendar that `text` means: ISO moments with their offsets, separated by commas.

        Raises:
            ScheduleSyntaxError: one of them is something else, or there is none.
        """
        found = [read_moment(text, item.group(), item.start()) for item in _ITEM.finditer(text)]
        return cls(found or [read_moment(text, text, 0)])

    @property
    def text(self) -> str:
        """The moments in UTC, separated by ", "."""
        return ", ".join(map(iso_text, self.moments))

    @property
    def is_phased(self) -> bool:
        """False: a moment alone tells."""
        return False

    def in_zone(self, zone: ZoneInfo) -> Dates:
        """The same moments, told in `zone`."""
        other = Dates(self.moments)
        object.__setattr__(other, "zone", zone)
        return other

    def next_after(self, moment: datetime) -> datetime | None:
        """The first occurrence strictly after `moment`; see `Expression.next_after`."""
        place = bisect_right(self.moments, as_utc(moment))
        return shown_in(self.moments[place], self.zone, moment) if place < len(self.moments) else None

    def has_ended(self, moment: datetime) -> bool:
        """Whether the last moment is not after `moment`."""
        return self.moments[-1] <= as_utc(moment)

    def explain(self) -> str:
        """The calendar in plain English: "on 2026-12-24 at 18:00 UTC"."""
        told = [self._told(moment) for moment in self.moments[:_MOST_TOLD]]
        more = len(self.moments) - len(told)
        return listed([*told, f"{more} more moment{'s' if more > 1 else ''}"] if more else told)

    def _told(self, moment: datetime) -> str:
        local = moment.astimezone(self.zone) if self.zone else moment
        seconds = f":{local:%S}" if local.second else ""
        return f"on {local:%Y-%m-%d} at {local.hour}:{local:%M}{seconds} {local:%Z}"
