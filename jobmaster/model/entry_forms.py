"""In which form message data and metadata keep a value. How it is read back as another type: `coercion`."""

from __future__ import annotations

import copy
import reprlib
from datetime import datetime
from decimal import Decimal
from enum import Enum
from typing import Any, Final
from uuid import UUID

import msgspec

from jobmaster.model import coercion

_SHOWN_TEXT: Final = 60
_SHOWN_BITS: Final = 256


def stored(key: str, value: object) -> object:
    """The form in which a value is kept: plain, immutable or copied, and equal after a trip through the codec."""
    if value is None or isinstance(value, bool | Decimal | UUID):
        return value
    if isinstance(value, Enum):
        return _stored_enum(key, value)
    if isinstance(value, datetime):
        return coercion.as_utc(value)
    if isinstance(value, bytes | bytearray):
        return bytes(value)
    for kind in (str, int, float):
        if isinstance(value, kind):
            return kind(value)
    return as_json(key, value)


def _stored_enum(key: str, member: Enum) -> object:
    value = member.value
    plain = value if isinstance(value, str | int) else member.name
    if coercion.to_enum(plain, type(member)) is not member:
        raise TypeError(
            f"Entry {short(key)}: the member of {type(member).__qualname__} cannot be told by its value or name. "
            f"Store it with set_json."
        )
    return plain


def as_json(key: str, value: object) -> object:
    """A copy of what JSON can say, in plain values.

    Raises:
        TypeError: JSON cannot say it.
        ValueError: it is nested too deeply, or contains itself.
    """
    try:
        return _without_tuples(msgspec.to_builtins(value, str_keys=True, enc_hook=_dump_model))
    except RecursionError:
        raise ValueError(f"Entry {short(key)} is nested too deeply, or contains itself. Flatten it.") from None
    except (TypeError, NotImplementedError) as error:
        raise TypeError(
            f"Entry {short(key)}: a value of type {type(value).__qualname__} cannot be stored as JSON. Pass plain data."
        ) from error


def _without_tuples(value: Any) -> object:
    """Lists for tuples, so that the entry equals its copy in another process."""
    if isinstance(value, list | tuple):
        return [_without_tuples(item) for item in value]
    if isinstance(value, dict):
        return {name: _without_tuples(item) for name, item in value.items()}
    return value


def read_as(value: object, as_type: Any) -> Any:
    """A copy of a stored value as `as_type`; `Any`: as it is.

    Raises:
        ValueError: it does not fit.
    """
    if as_type is Any:
        return copy.deepcopy(value)
    try:
        return msgspec.convert(value, as_type, dec_hook=_load_model, str_keys=True)
    except (msgspec.ValidationError, TypeError) as error:
        raise ValueError(f"does not fit {as_type}: {str(error)[:200]}") from error


def _dump_model(value: Any) -> object:
    dump = getattr(value, "model_dump", None)  # pydantic, without importing it
    if dump is None:
        raise NotImplementedError
    return dump(mode="json", by_alias=True)


def _load_model(as_type: Any, value: object) -> object:
    load = getattr(as_type, "model_validate", None)
    if load is None:
        raise TypeError(f"{as_type} cannot be made from JSON")
    try:
        return load(value)
    except Exception as error:  # a model's own validators run here; their texts quote the value
        raise ValueError(f"{type(error).__name__} of {as_type.__qualname__}") from error


class _ShortRepr(reprlib.Repr):
    """Bounds what it visits, however large the value is."""

    def repr_int(self, x: int, level: int) -> str:
        if x.bit_length() > _SHOWN_BITS:  # Python refuses to print very long ones
            return f"<int of {x.bit_length()} bits>"
        return super().repr_int(x, level)


_SHORT_REPR: Final = _ShortRepr()


def short(value: object) -> str:
    """A key or a value as an error text shows it: a bounded piece of its repr."""
    if isinstance(value, str | bytes):
        text = repr(value[: _SHOWN_TEXT + 1])
    else:
        text = _SHORT_REPR.repr(value) if isinstance(value, int | dict | list) else repr(value)
    return text if len(text) <= _SHOWN_TEXT else text[:_SHOWN_TEXT] + "…"
