"""Cron expressions, with our rule for daylight saving."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import ClassVar
from zoneinfo import ZoneInfo

from jobmaster.schedules.cron_fields import Fields
from jobmaster.schedules.cron_reading import read_fields
from jobmaster.schedules.cron_words import in_words
from jobmaster.schedules.daylight import next_once, next_shown
from jobmaster.schedules.zones import zone_of


@dataclass(frozen=True, slots=True, init=False)
class Cron:
    """A cron expression: `Cron("0 3 * * *", tz="Europe/Berlin")`.

    5 fields are minute, hour, day of month, month and weekday; 6 begin with the second; 7 end with the year. Beyond
    what every cron has: names, `@daily` and the like, `L` (last day), `15W` (nearest weekday), `MON#2` (second Monday),
    `L5` (last Friday), `H` and `H(0-29)` (some value that is derived from `hash_id`). Where neither of the two fields
    for days begins with `*`, one of them is enough, as in every cron.

    When clocks are changed:

    - Where every hour is allowed (`*/15 * * * *`, `30 * * * *`), it holds whenever clocks show such a time: it goes on
      by elapsed time through both changes.
    - Where hours are named (`30 2 * * *`, `0 */2 * * *`), each time happens exactly once: one that clocks skip at the
      first moment after the gap, one that they show twice the first time.
    - Minutes or seconds with `*` or a step in named hours (`*/15 0-5 * * *`) go on in the second pass, too.

    Args:
        text: the expression.
        tz: the zone whose clocks are meant, as a name; None: that of the schedule, else UTC.
        hash_id: what `H` is derived from, such as a schedule's id; empty: the text itself.

    Raises:
        ScheduleSyntaxError: `text` cannot be read, or never happens; with the place of the faulty field.
        ConfigurationError: there is no such zone.
    """

    type_id: ClassVar[str] = "Cron"

    text: str
    zone: ZoneInfo | None
    hash_id: str
    fields: Fields = field(compare=False, repr=False)

    def __init__(self, text: str, tz: str | ZoneInfo | None = None, *, hash_id: str = "") -> None:
        if not isinstance(text, str):
            raise TypeError(f"a cron expression is a text, not {type(text).__name__}")
        words = " ".join(text.split())
        may_hash = "h" in words.lower()  # else all schedules with this text share what was read
        object.__setattr__(self, "fields", read_fields(text, (hash_id or words) if may_hash else ""))
        object.__setattr__(self, "text", words)
        object.__setattr__(self, "zone", None if tz is None else zone_of(tz))
        object.__setattr__(self, "hash_id", hash_id if may_hash else "")

    def __reduce__(self) -> tuple[object, ...]:
        return _restored, (self.text, self.zone, self.hash_id)

    @property
    def is_phased(self) -> bool:
        """False: a moment alone tells."""
        return False

    def in_zone(self, zone: ZoneInfo) -> Cron:
        """The same expression by the clocks of `zone`."""
        return Cron(self.text, zone, hash_id=self.hash_id)

    def hashed(self, hash_id: str) -> Cron:
        """The same expression, `H` derived from `hash_id`."""
        return Cron(self.text, self.zone, hash_id=hash_id)

    def next_wall(self, wall: datetime) -> datetime | None:
        """The first wall clock (naive) strictly after `wall` at which the expression holds, whatever the zone."""
        return self.fields.next_wall(wall)

    def next_after(self, moment: datetime) -> datetime | None:
        """The first occurrence strictly after `moment`; see `Expression.next_after`."""
        if moment.tzinfo is None:
            raise ValueError(f"{moment} has no zone: write datetime(..., tzinfo=timezone.utc) or give it a ZoneInfo")
        zone = self.zone or UTC
        every_hour = self.fields.every_hour
        if every_hour or self.fields.runs_on:
            found = next_shown(moment, zone, self.fields.next_wall, catch_up=not every_hour)
        else:
            found = next_once(moment, zone, self.fields.next_wall)
        return found if found is None or self.zone is not None else found.astimezone(moment.tzinfo)

    def has_ended(self, moment: datetime) -> bool:
        """Whether nothing comes after `moment` (expressions with a year)."""
        return self.next_after(moment) is None

    def explain(self) -> str:
        """The expression in plain English: "every day at 3:00"."""
        return in_words(self.fields)


def _restored(text: str, zone: ZoneInfo | None, hash_id: str) -> Cron:
    return Cron(text, zone, hash_id=hash_id)
