"""How an entry of one type is read as another: the conversions of message data and metadata, and no others.

Each function takes what is stored (never None) and raises TypeError where the stored type is never read as the wanted
one, ValueError where this value cannot be. Error texts name types, not values: an entry may be a secret.
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from enum import Enum
from typing import Final, TypeVar
from uuid import UUID

E = TypeVar("E", bound=Enum)

# An exponent is short to write and long to hold: int(Decimal("1E+999999999")) takes 400 MB.
_MOST_DIGITS: Final = 4300

_NUMBERS: Final = (int, float, Decimal)


def to_str(value: object) -> str:
    """Text as it is; numbers, booleans ("true"), UUIDs and moments (ISO 8601) in their usual text."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (*_NUMBERS, UUID)):
        try:
            return str(value)
        except ValueError:  # Python writes no integer of more than 4,300 digits
            raise _not_this(value, "short enough for text") from None
    if isinstance(value, datetime):
        return value.isoformat()
    raise _never(value, "text")


def to_int(value: object) -> int:
    """Integers, booleans (0, 1), other numbers without a fraction, and decimal text."""
    if isinstance(value, int):
        return int(value)
    if isinstance(value, str):
        try:
            return int(value)
        except ValueError:
            raise _not_this(value, "an integer") from None
    if isinstance(value, float | Decimal):
        number = Decimal(value)
        if number.is_finite() and number.adjusted() < _MOST_DIGITS and number == number.to_integral_value():
            return int(number)
        raise _not_this(value, "an integer")
    raise _never(value, "an integer")


def to_float(value: object) -> float:
    """Numbers, booleans (0.0, 1.0) and text."""
    if not isinstance(value, (*_NUMBERS, str)):
        raise _never(value, "a float")
    try:
        return float(value)
    except (ValueError, OverflowError):
        raise _not_this(value, "a float") from None


def to_decimal(value: object) -> Decimal:
    """Numbers and text. A float is read by its shortest text (0.1, not 0.1000000000000000055)."""
    if isinstance(value, Decimal):
        return value
    if isinstance(value, int):
        return Decimal(value)
    if not isinstance(value, float | str):
        raise _never(value, "a decimal")
    try:
        return Decimal(value if isinstance(value, str) else repr(value))
    except InvalidOperation:
        raise _not_this(value, "a decimal") from None


def to_bool(value: object) -> bool:
    """Booleans, the texts "true" and "false" in any case, and numbers: everything but zero is true."""
    if isinstance(value, (bool, *_NUMBERS)):
        return bool(value)
    if isinstance(value, str):
        found = {"true": True, "false": False}.get(value.strip().lower())
        if found is None:
            raise _not_this(value, '"true" or "false"')
        return found
    raise _never(value, "a boolean")


def to_datetime(value: object) -> datetime:
    """Moments and ISO 8601 text, as aware datetimes in UTC. What names no offset is UTC already."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            raise _not_this(value, "a datetime in ISO 8601") from None
    if isinstance(value, datetime):
        return as_utc(value)
    raise _never(value, "a datetime")


def as_utc(moment: datetime) -> datetime:
    """The same moment in UTC; a naive one is UTC already.

    Raises:
        ValueError: in UTC it lies before year 1 or after year 9999.
    """
    if moment.utcoffset() is None:
        return moment.replace(tzinfo=UTC)
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise _not_this(moment, "a datetime of the years 1 to 9999 in UTC") from None


def to_uuid(value: object) -> UUID:
    """UUIDs and their text, with or without dashes."""
    if isinstance(value, UUID):
        return value
    if isinstance(value, str):
        try:
            return UUID(value)
        except ValueError:
            raise _not_this(value, "a UUID") from None
    raise _never(value, "a UUID")


def to_bytes(value: object) -> bytes:
    """Bytes, and nothing else."""
    if isinstance(value, bytes):
        return value
    raise _never(value, "bytes")


def to_enum(value: object, enum_type: type[E]) -> E:
    """The member with this value, else with this name (exactly, then in any case)."""
    try:
        return enum_type(value)
    except ValueError:
        pass
    if isinstance(value, str):
        names = enum_type.__members__
        member = names.get(value) or {name.lower(): names[name] for name in reversed(names)}.get(value.lower())
        if member is not None:
            return member
    if isinstance(value, (*_NUMBERS, str)):
        raise _not_this(value, f"a member of {enum_type.__qualname__} ({', '.join(list(enum_type.__members__)[:10])})")
    raise _never(value, f"a member of {enum_type.__qualname__}")


def _never(value: object, wanted: str) -> TypeError:
    return TypeError(f"holds a value of type {type(value).__qualname__}, which cannot be read as {wanted}")


def _not_this(value: object, wanted: str) -> ValueError:
    return ValueError(f"holds a value of type {type(value).__qualname__} that is not {wanted}")
