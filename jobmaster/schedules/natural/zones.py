"""Names of time zones, written in any case."""

from __future__ import annotations

import difflib
import functools
import zoneinfo


@functools.lru_cache(maxsize=1024)
def zone_named(name: str) -> str | None:
    """The IANA id that `name` means (`europe/berlin`: `Europe/Berlin`), or None: there is no such zone."""
    return _zones().get(name.lower())


def similar_zone(name: str) -> str:
    """The id that `name` may have meant (`Berlin`: `Europe/Berlin`), or an empty text."""
    small = name.lower()
    cities = {key.rpartition("/")[2]: known for key, known in _zones().items()}
    if small in cities:
        return cities[small]
    close = difflib.get_close_matches(small, _zones(), n=1, cutoff=0.75) or difflib.get_close_matches(
        small.rpartition("/")[2], cities, n=1, cutoff=0.75
    )
    return _zones().get(close[0]) or cities[close[0]] if close else ""


@functools.cache
def _zones() -> dict[str, str]:
    # Not by trying ZoneInfo(name): on file systems that ignore case it answers to other spellings, too.
    return {key.lower(): key for key in sorted(zoneinfo.available_timezones())}
