"""The bags of typed entries that a job carries: message data (its input) and metadata (labels beside it).

    data = MessageData().set_str("Name", "John").set_int("Age", 41)
    data.get_str("Name"); data.try_get_str("Nickname") or "Johnny"

`get_x` raises `MissingEntry` where nothing is stored, `try_get_x` returns None; both raise TypeError or ValueError
where the stored value cannot be read as x. What is read as what: `coercion`.
"""

from __future__ import annotations

import base64
import copy
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from decimal import Decimal
from enum import Enum
from typing import Any, Final, Self, TypeVar, overload
from uuid import UUID

from jobmaster.errors import JobMasterError
from jobmaster.model import coercion
from jobmaster.model.entry_forms import as_json, read_as, short, stored

T = TypeVar("T")
E = TypeVar("E", bound=Enum)

_SHOWN_ENTRIES: Final = 10


class MissingEntry(JobMasterError, KeyError):  # noqa: N818 - says what it is, as the other names of the API
    """A bag holds nothing, or null, under the key."""

    def __str__(self) -> str:
        return str(self.args[0])  # KeyError would show the repr of the sentence


class Entries(Mapping[str, object]):
    """Read-only entries with typed getters; also a plain mapping of what is stored.

    Args:
        entries: values by key: None, str, int, float, Decimal, bool, datetime, UUID, bytes, an enum's member, or
            anything that JSON can say.

    Raises:
        TypeError: a key is no text, or a value's type cannot be stored.
        ValueError: a value cannot be stored.
    """

    __slots__ = ("_entries",)
    _to_bytes = staticmethod(coercion.to_bytes)

    def __init__(self, entries: Mapping[str, object] | None = None) -> None:
        self._entries: dict[str, object] = {}
        for key, value in (entries or {}).items():
            self._entries[_checked_key(key)] = stored(key, value)

    @classmethod
    def from_dict(cls, entries: Mapping[str, object]) -> Self:
        """The bag with these entries; the inverse of `to_dict`."""
        return cls(entries)

    def to_dict(self) -> dict[str, object]:
        """A plain dict that the codec can write; changing it does not change the bag."""
        return copy.deepcopy(self._entries)

    def __getitem__(self, key: str) -> object:
        if key not in self._entries:
            raise self._missing(key)
        return copy.deepcopy(self._entries[key])

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: object) -> bool:
        return key in self._entries

    def __eq__(self, other: object) -> bool:
        return self._entries == other._entries if isinstance(other, Entries) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # a bag can be changed

    def __repr__(self) -> str:
        shown = [f"{short(key)}: {short(value)}" for key, value in list(self._entries.items())[:_SHOWN_ENTRIES]]
        more = len(self._entries) - len(shown)
        rest = f", … {more} more" if more else ""
        return f"{type(self).__name__}({{{', '.join(shown)}{rest}}})"

    def get_str(self, key: str) -> str:
        """The entry as text."""
        return self._get(key, coercion.to_str)

    def try_get_str(self, key: str) -> str | None:
        """The entry as text, or None."""
        return self._try_get(key, coercion.to_str)

    def get_int(self, key: str) -> int:
        """The entry as integer."""
        return self._get(key, coercion.to_int)

    def try_get_int(self, key: str) -> int | None:
        """The entry as integer, or None."""
        return self._try_get(key, coercion.to_int)

    def get_float(self, key: str) -> float:
        """The entry as float."""
        return self._get(key, coercion.to_float)

    def try_get_float(self, key: str) -> float | None:
        """The entry as float, or None."""
        return self._try_get(key, coercion.to_float)

    def get_decimal(self, key: str) -> Decimal:
        """The entry as Decimal."""
        return self._get(key, coercion.to_decimal)

    def try_get_decimal(self, key: str) -> Decimal | None:
        """The entry as Decimal, or None."""
        return self._try_get(key, coercion.to_decimal)

    def get_bool(self, key: str) -> bool:
        """The entry as boolean."""
        return self._get(key, coercion.to_bool)

    def try_get_bool(self, key: str) -> bool | None:
        """The entry as boolean, or None."""
        return self._try_get(key, coercion.to_bool)

    def get_datetime(self, key: str) -> datetime:
        """The entry as aware datetime in UTC."""
        return self._get(key, coercion.to_datetime)

    def try_get_datetime(self, key: str) -> datetime | None:
        """The entry as aware datetime in UTC, or None."""
        return self._try_get(key, coercion.to_datetime)

    def get_uuid(self, key: str) -> UUID:
        """The entry as UUID."""
        return self._get(key, coercion.to_uuid)

    def try_get_uuid(self, key: str) -> UUID | None:
        """The entry as UUID, or None."""
        return self._try_get(key, coercion.to_uuid)

    def get_bytes(self, key: str) -> bytes:
        """The entry as bytes."""
        return self._get(key, self._to_bytes)

    def try_get_bytes(self, key: str) -> bytes | None:
        """The entry as bytes, or None."""
        return self._try_get(key, self._to_bytes)

    def get_enum(self, key: str, enum_type: type[E]) -> E:
        """The entry as member of `enum_type`, found by value, else by name."""
        return self._get(key, lambda value: coercion.to_enum(value, enum_type))

    def try_get_enum(self, key: str, enum_type: type[E]) -> E | None:
        """The entry as member of `enum_type`, or None."""
        return self._try_get(key, lambda value: coercion.to_enum(value, enum_type))

    @overload
    def get_json(self, key: str) -> Any: ...
    @overload
    def get_json(self, key: str, as_type: type[T]) -> T: ...
    def get_json(self, key: str, as_type: Any = Any) -> Any:
        """The entry as plain JSON values, or as `as_type` (dataclass, msgspec Struct, pydantic model, list[X], ...).

        A stored null is None here, and no error.

        Raises:
            MissingEntry: nothing is stored.
            ValueError: the entry does not fit `as_type`.
        """
        if key not in self._entries:
            raise self._missing(key)
        return self._try_get(key, lambda value: read_as(value, as_type))

    @overload
    def try_get_json(self, key: str) -> Any: ...
    @overload
    def try_get_json(self, key: str, as_type: type[T]) -> T | None: ...
    def try_get_json(self, key: str, as_type: Any = Any) -> Any:
        """As `get_json`, but None where nothing is stored."""
        return self._try_get(key, lambda value: read_as(value, as_type))

    def _get(self, key: str, read: Callable[[object], T]) -> T:
        value = self._entries.get(key)
        if value is None:
            raise self._missing(key)
        return self._read(key, value, read)

    def _try_get(self, key: str, read: Callable[[object], T]) -> T | None:
        value = self._entries.get(key)
        return None if value is None else self._read(key, value, read)

    def _read(self, key: str, value: object, read: Callable[[object], T]) -> T:
        try:
            return read(value)
        except (TypeError, ValueError) as error:
            kind = TypeError if isinstance(error, TypeError) else ValueError
            raise kind(f"{type(self).__name__} entry {short(key)} {error}.") from error

    def _missing(self, key: str) -> MissingEntry:
        names = ", ".join(short(name) for name in list(self._entries)[:_SHOWN_ENTRIES]) or "no entries at all"
        state = "is null" if key in self._entries else "is missing"
        return MissingEntry(
            f"{type(self).__name__} entry {short(key)} {state}; it has {names}. Where an entry may be missing, use "
            f"try_get_..., which returns None."
        )


class EditableEntries(Entries):
    """Entries with typed setters that return the bag, so that calls can be chained."""

    __slots__ = ()

    def read_only(self) -> Entries:
        """A copy without setters."""
        return Entries(self._entries)

    def remove(self, key: str) -> Self:
        """Forget the entry, if there is one."""
        self._entries.pop(key, None)
        return self

    def set_str(self, key: str, value: str) -> Self:
        """Store text."""
        return self._set(key, value, str)

    def set_int(self, key: str, value: int) -> Self:
        """Store an integer of any size."""
        return self._set(key, value, int)

    def set_float(self, key: str, value: float) -> Self:
        """Store a float; an integer becomes one."""
        return self._set(key, float(_checked(key, value, int, float)), float)

    def set_decimal(self, key: str, value: Decimal | int) -> Self:
        """Store a Decimal; an integer becomes one."""
        return self._set(key, Decimal(_checked(key, value, Decimal, int)), Decimal)

    def set_bool(self, key: str, value: bool) -> Self:  # noqa: FBT001 - the value, no switch
        """Store a boolean."""
        return self._set(key, value, bool)

    def set_datetime(self, key: str, value: datetime) -> Self:
        """Store a moment, in UTC. A naive datetime is taken as UTC: use `datetime.now(UTC)`, not `datetime.now()`."""
        return self._set(key, value, datetime)

    def set_uuid(self, key: str, value: UUID) -> Self:
        """Store a UUID."""
        return self._set(key, value, UUID)

    def set_bytes(self, key: str, value: bytes | bytearray) -> Self:
        """Store bytes."""
        return self._set(key, value, bytes, bytearray)

    def set_enum(self, key: str, value: Enum) -> Self:
        """Store a member: its value where that is text or an integer, else its name."""
        return self._set(key, value, Enum)

    def set_json(self, key: str, value: object) -> Self:
        """Store a copy of anything that JSON can say: lists, dicts, dataclasses, msgspec, attrs, pydantic, None.

        Dates, decimals, UUIDs and bytes inside become text; `get_json(key, SomeType)` restores them.
        """
        self._entries[_checked_key(key)] = as_json(key, value)
        return self

    def _set(self, key: str, value: object, *types: type) -> Self:
        self._entries[_checked_key(key)] = stored(key, _checked(key, value, *types))
        return self


class MessageData(EditableEntries):
    """The input of a job whose handler reads entries by name."""

    __slots__ = ()


def _bytes_of_text(value: object) -> bytes:
    """Bytes as metadata keep them: base64."""
    if not isinstance(value, str):
        return coercion.to_bytes(value)
    try:
        return base64.b64decode(value, validate=True)
    except ValueError:
        raise ValueError("This text is no base64, so it holds no bytes.") from None


class JobMetadata(Entries):
    """The labels of a job as its task reads them: plain JSON, read by typed getters."""

    __slots__ = ()
    _to_bytes = staticmethod(_bytes_of_text)


class Metadata(EditableEntries):
    """Labels of a job, such as its tenant or team, that are shown and searched for beside its input."""

    __slots__ = ()
    _to_bytes = staticmethod(_bytes_of_text)

    def to_json(self) -> dict[str, object]:
        """The entries as metadata are stored: what JSON does not have is text, which the typed getters read back."""
        return {key: _json_form(value) for key, value in self._entries.items()}


def _json_form(value: object) -> object:
    if isinstance(value, Decimal | UUID):
        return str(value)
    if isinstance(value, datetime):
        return value.isoformat()
    return base64.b64encode(value).decode() if isinstance(value, bytes) else copy.deepcopy(value)


def _checked_key(key: object) -> str:
    if isinstance(key, str):
        return str.__str__(key)
    raise TypeError(f"The key of an entry must be text, not {type(key).__qualname__}.")


def _checked(key: str, value: T, *types: type) -> T:
    if isinstance(value, types):
        return value
    names = " or ".join(kind.__qualname__ for kind in types)
    raise TypeError(f"Entry {short(key)} takes {names}, not {type(value).__qualname__}.")
