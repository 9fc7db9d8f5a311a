"""Zones as users name them."""

from __future__ import annotations

import functools
from zoneinfo import ZoneInfo

from jobmaster.errors import ConfigurationError

_NO_ZONES = ("posix/", "right/", "posixrules", "localtime")  # files that lie beside the zones of some systems


def zone_of(tz: str | ZoneInfo) -> ZoneInfo:
    """The zone that is meant.

    Args:
        tz: an IANA name (`Europe/Berlin`, in any case) or a zone. What is stored is always its name: rules of zones
            change.

    Raises:
        ConfigurationError: there is no such zone on this machine, or the zone has no name.
    """
    if isinstance(tz, ZoneInfo):
        if tz.key is None:
            raise ConfigurationError("a zone of a schedule needs a name: write ZoneInfo('Europe/Berlin')")
        return tz
    if not isinstance(tz, str):
        raise ConfigurationError(f"tz is the name of a zone ('Europe/Berlin') or a ZoneInfo, not {type(tz).__name__}")
    return _named(tz)


@functools.lru_cache(maxsize=256)
def _named(name: str) -> ZoneInfo:
    is_zone = not name.startswith(_NO_ZONES)
    if is_zone:
        try:
            return ZoneInfo(name)  # the usual case; a list of all names costs 30 ms
        except (LookupError, OSError, ValueError):
            pass
    from jobmaster.schedules.natural.zones import similar_zone, zone_named

    key = zone_named(name.strip()) if is_zone else None
    if key is None:
        meant = similar_zone(name.strip()[:100])
        raise ConfigurationError(
            f"there is no time zone {name[:100]!r} on this machine"
            + (f"; did you mean {meant!r}?" if meant else "; zones have names such as 'Europe/Berlin' or 'UTC'")
        )
    return ZoneInfo(key)
