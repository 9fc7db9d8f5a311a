"""Moments as values and as text. They are kept in UTC: aware datetimes of one zone compare by their wall clocks."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from jobmaster.errors import ScheduleSyntaxError


def as_utc(moment: datetime) -> datetime:
    """The moment in UTC.

    Raises:
        ValueError: it has no zone.
    """
    if moment.tzinfo is None:
        raise ValueError(f"{moment} has no zone: write datetime(..., tzinfo=timezone.utc) or give it a ZoneInfo")
    return moment.astimezone(UTC)


def shown_in(moment: datetime, zone: ZoneInfo | None, asked: datetime) -> datetime:
    """The moment in `zone`, or in that of the datetime that was asked for."""
    return moment.astimezone(zone or asked.tzinfo)


def iso_text(moment: datetime) -> str:
    """A moment in UTC as ISO text: `2026-12-24T18:00:00Z`."""
    return f"{moment.replace(tzinfo=None).isoformat()}Z"


def read_moment(text: str, word: str, position: int) -> datetime:
    """The moment that `word`, which stands at `position` of `text`, means.

    Raises:
        ScheduleSyntaxError: it is no ISO moment with a zone.
    """
    try:
        moment = datetime.fromisoformat(word)
        if moment.tzinfo is not None:
            return moment.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise ScheduleSyntaxError(
        "a moment is written in ISO form with its offset, as in 2026-12-24T18:00:00Z or 2026-12-24T19:00:00+01:00",
        position,
        length=max(1, len(word)),
        text=text,
    )
