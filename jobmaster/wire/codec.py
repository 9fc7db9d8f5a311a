"""Payloads as bytes: UTF-8 JSON that every store keeps unchanged, with tags for what JSON cannot say.

A call is `[args, kwargs]`, a value stands alone. Plain JSON goes straight through msgspec; only a payload that needs a
tag is walked in Python. What comes out of `decode_*` equals what went into `encode_*`, or one of the two raises
`SerializationError` with the path to the value:

- datetime (zone kept), date, time, timedelta, Decimal, UUID, bytes, bytearray, set, frozenset, tuple, dicts with any
  keys, integers of any size, NaN and infinities: exact;
- dataclasses, enums, NamedTuples, msgspec Structs, pydantic and attrs classes: restored where an annotation names the
  class or where it is registered, else their plain parts;
- subclasses of the built-in types that nobody registered: as the built-in type;
- text with lone surrogates, containers nested deeper than `max_depth`, anything else: refused;
- with `allow_pickle`, whatever could not be restored exactly is pickled, and refused by a reader without it.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from jobmaster.errors import ConfigurationError, SerializationError
from jobmaster.wire.hints import CallHints, hint_for
from jobmaster.wire.reading import Reader
from jobmaster.wire.refusal import Refusal, key_step
from jobmaster.wire.types import TypeRegistry
from jobmaster.wire.writing import Writer, is_plain, is_plain_dict

_DEEPEST: Final = 150
_ANY_TAG: Final = b'"$'

_encode = msgspec.json.Encoder().encode
_decode_value = msgspec.json.Decoder().decode
_decode_call = msgspec.json.Decoder(tuple[tuple[Any, ...], dict[str, Any]]).decode


class Codec:
    """Writes and reads the arguments and results of jobs. Stateless, safe to use from several threads.

    Args:
        types: classes that are restored without an annotation.
        allow_pickle: pickle, and unpickle, what JSON and the tags cannot restore exactly. Only where everyone who can
            write to the cluster's stores may run code on its workers.
        max_depth: how many containers may stand in each other, 1 to 150.

    Raises:
        ConfigurationError: `max_depth` is out of range.
    """

    __slots__ = ("_max_depth", "_reader", "_writer", "types")

    def __init__(self, *, types: TypeRegistry, allow_pickle: bool = False, max_depth: int = 100) -> None:
        if not 1 <= max_depth <= _DEEPEST:
            raise ConfigurationError(f"max_depth is {max_depth}, and must be between 1 and {_DEEPEST}.")
        self.types = types
        self._max_depth = max_depth
        self._writer = Writer(types, allow_pickle=allow_pickle, max_depth=max_depth)
        self._reader = Reader(types, allow_pickle=allow_pickle, max_depth=max_depth)

    def encode_call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
        """The bytes of one call.

        Args:
            args: positional arguments; a list is taken too and comes back as a tuple.
            kwargs: arguments by name.

        Raises:
            SerializationError: an argument cannot travel; the text names the path to it.
        """
        depth = self._max_depth
        # Keys of kwargs are checked in is_plain_dict.
        if (not args or is_plain(args, depth)) and is_plain_dict(kwargs, depth):  # type: ignore[arg-type]
            data = _encoded_plain((args, kwargs))
            if data is not None:
                return data
        return _encode((self._write_args(args), self._write_kwargs(kwargs)))

    def decode_call(self, data: bytes, hints: CallHints | None = None) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments of one call.

        Args:
            data: what `encode_call` returned.
            hints: what the task's annotations restore (`call_hints`).

        Raises:
            SerializationError: the bytes are damaged, need pickle without permission, or do not fit the annotations.
        """
        try:
            args, kwargs = _decode_call(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise _unreadable("call", error) from error
        if _ANY_TAG not in data and (hints is None or not hints.restores):
            return args, kwargs
        return self._read_args(args, hints), self._read_kwargs(kwargs, hints)

    def encode_value(self, value: Any, what: str) -> bytes:
        """The bytes of one value.

        Args:
            value: a result, message data, a checkpoint ...
            what: how error texts call it ("result", "msg_data"); the path to a refused part begins with it.

        Raises:
            SerializationError: the value, or a part of it, cannot travel.
        """
        if is_plain((value,), self._max_depth):
            data = _encoded_plain(value)
            if data is not None:
                return data
        try:
            return _encode(self._writer.write(value))
        except Refusal as refusal:
            raise refusal.error(what) from refusal.__cause__
        except RecursionError:
            raise _no_stack(what) from None

    def decode_value(self, data: bytes, annotation: Any = None, *, what: str = "value") -> Any:
        """The value of `encode_value`.

        Args:
            data: what `encode_value` returned.
            annotation: the type that is expected, for example a task's return annotation; restores, never checks.
            what: how error texts call the value.

        Raises:
            SerializationError: as for `decode_call`.
        """
        try:
            tree = _decode_value(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise _unreadable(what, error) from error
        hint = None if annotation is None else hint_for(annotation)
        if hint is None and _ANY_TAG not in data:
            return tree
        try:
            return self._reader.read(tree, hint)
        except Refusal as refusal:
            raise refusal.error(what) from refusal.__cause__
        except RecursionError:
            raise _no_stack(what) from None

    def _write_args(self, args: tuple[Any, ...]) -> list[object]:
        try:
            return self._writer.write_items(args, -1)
        except Refusal as refusal:
            raise refusal.error("args") from refusal.__cause__
        except RecursionError:
            raise _no_stack("args") from None

    def _write_kwargs(self, kwargs: dict[str, Any]) -> dict[str, object]:
        for key in kwargs:
            if not isinstance(key, str):
                raise SerializationError(f"kwargs{key_step(key)}: the name of an argument must be text (str).")
        try:
            return self._writer.write_fields(kwargs, -1)
        except Refusal as refusal:
            raise refusal.error("kwargs") from refusal.__cause__
        except RecursionError:
            raise _no_stack("kwargs") from None

    def _read_args(self, args: tuple[Any, ...], hints: CallHints | None) -> tuple[Any, ...]:
        values: list[Any] = []
        try:
            for node in args:
                index = len(values)
                hint = None
                if hints is not None:
                    hint = hints.positional[index] if index < len(hints.positional) else hints.more_args
                values.append(self._reader.read(node, hint))
        except Refusal as refusal:
            raise refusal.error(f"args[{len(values)}]") from refusal.__cause__
        except RecursionError:
            raise _no_stack("args") from None
        return tuple(values)

    def _read_kwargs(self, kwargs: dict[str, Any], hints: CallHints | None) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for name, node in kwargs.items():
            hint = None if hints is None else hints.named.get(name, hints.more_kwargs)
            try:
                values[name] = self._reader.read(node, hint)
            except Refusal as refusal:
                raise refusal.error(f"kwargs{key_step(name)}") from refusal.__cause__
            except RecursionError:
                raise _no_stack("kwargs") from None
        return values


def _encoded_plain(value: object) -> bytes | None:
    """The bytes of a plain value, or None where it needs the walk after all (for a tag, or to name what is wrong)."""
    try:
        data = _encode(value)
    except (ValueError, OverflowError, RecursionError):  # a lone surrogate, an integer of thousands of digits
        return None
    return None if _ANY_TAG in data else data


def _unreadable(what: str, error: Exception) -> SerializationError:
    return SerializationError(
        f"{what}: the payload is no JSON that JobMaster can read ({type(error).__name__}: {str(error)[:200]}). It was "
        f"damaged, or was written by something else."
    )


def _no_stack(what: str) -> SerializationError:
    return SerializationError(
        f"{what}: no stack is left to walk the value, because the caller is nested too deeply itself. Call from a "
        f"shallower place, or pass a flatter value."
    )
