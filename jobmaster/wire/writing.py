"""From Python values to a tree that is plain JSON, with tags for what JSON cannot say."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Collection, Iterable, Mapping
from math import isfinite
from types import NoneType
from typing import Any, ClassVar, Final

import msgspec

from jobmaster.wire import tags
from jobmaster.wire.refusal import Refusal, key_step, type_name
from jobmaster.wire.types import ClassForm, TypeRegistry

_LEAVES: Final = frozenset({str, int, bool, NoneType})
_PLAIN: Final = _LEAVES | {float, list, dict}
_STR: Final = frozenset({str})

# Longer integers are written in hexadecimal: Python refuses to read very long decimal ones (4,300 digits by default).
_DECIMAL_BITS: Final = 2048

_ADVICE: Final[dict[str, str]] = {
    "generator": "Pass list(...) of it.",
    "range": "Pass list(...) of it.",
    "map": "Pass list(...) of it.",
    "filter": "Pass list(...) of it.",
    "zip": "Pass list(...) of it.",
    "dict_keys": "Pass list(...) of it.",
    "dict_values": "Pass list(...) of it.",
    "dict_items": "Pass list(...) of it.",
    "collections.deque": "Pass list(...) of it.",
    "memoryview": "Pass bytes(...) of it.",
    "pathlib.PosixPath": "Pass str(path).",
    "pathlib.WindowsPath": "Pass str(path).",
    "complex": "Pass its two parts.",
    "function": "Pass a name, and look the function up in the task.",
    "coroutine": "Await it and pass its result.",
}


def is_plain(values: Collection[object], depth: int) -> bool:
    """Whether all of `values` are JSON as they stand, at most `depth` levels deep. May say no too often, never yes.

    Looks at the types in each container, which costs no Python step per element. Text that is no Unicode and dicts
    that look like tags are left to the encoder, which meets them anyway.
    """
    if _LEAVES.issuperset(map(type, values)):
        return True
    if depth <= 0 or not _PLAIN.issuperset(map(type, values)):
        return False
    for value in values:
        kind = type(value)
        if kind is float:
            if not isfinite(value):  # type: ignore[arg-type]  # kind says that it is a float
                return False
        elif kind is list:
            if not is_plain(value, depth - 1):  # type: ignore[arg-type]  # kind says that it is a list
                return False
        elif kind is dict and not is_plain_dict(value, depth - 1):  # type: ignore[arg-type]  # same
            return False
    return True


def is_plain_dict(value: dict[object, object], depth: int) -> bool:
    """`is_plain` for the keys and values of one dict."""
    return _STR.issuperset(map(type, value)) and is_plain(value.values(), depth)


class Writer:
    """Turns one payload into a JSON tree.

    Args:
        types: names of the classes.
        allow_pickle: pickle what cannot be restored exactly otherwise.
        max_depth: how many containers may stand in each other.
    """

    __slots__ = ("_allow_pickle", "_max_depth", "_types")

    def __init__(self, types: TypeRegistry, *, allow_pickle: bool, max_depth: int) -> None:
        self._types = types
        self._allow_pickle = allow_pickle
        self._max_depth = max_depth

    def write(self, value: Any, depth: int = 0) -> object:
        """The JSON tree for `value`.

        Raises:
            Refusal: the value, or a part of it, cannot travel.
        """
        writer = self._BY_TYPE.get(type(value))
        if writer is not None:
            return writer(self, value, depth)
        return self._write_instance(value, depth)

    def write_items(self, values: Iterable[object], depth: int) -> list[object]:
        """The JSON trees for the elements of a container that stands `depth` levels deep."""
        self._check_depth(depth)
        written: list[object] = []
        try:
            for value in values:
                written.append(self.write(value, depth + 1))  # noqa: PERF401 - the index of a refused one is needed
        except Refusal as refusal:
            refusal.below(f"[{len(written)}]")
            raise
        return written

    def write_fields(self, fields: Mapping[str, object], depth: int, *, attributes: bool = False) -> dict[str, object]:
        """The JSON trees for the values of a dict whose keys are text, not yet protected from looking like a tag."""
        self._check_depth(depth)
        written: dict[str, object] = {}
        for key, value in fields.items():
            try:
                written[self._text(key)] = self.write(value, depth + 1)
            except Refusal as refusal:
                refusal.below(f".{key}" if attributes else key_step(key))
                raise
        return written

    def _check_depth(self, depth: int) -> None:
        if depth >= self._max_depth:
            raise Refusal(
                f"nested more than {self._max_depth} levels deep, or containing itself. Pass a flatter value, or store "
                f"it elsewhere and pass its key."
            )

    def _text(self, value: str) -> str:
        try:
            value.encode()
        except UnicodeEncodeError:
            raise Refusal(
                "text with a lone surrogate is no Unicode and cannot be written as UTF-8. If it is a file name, pass "
                "os.fsencode(name); otherwise clean it with value.encode('utf-8', 'replace').decode()."
            ) from None
        return str.__str__(value)

    def _write_text(self, value: str, _depth: int) -> object:
        try:
            return self._text(value)
        except Refusal:
            if self._allow_pickle:
                return self._pickled(value)
            raise

    def _write_integer(self, value: int, _depth: int) -> object:
        number = int(value)
        return number if number.bit_length() <= _DECIMAL_BITS else {"$int": hex(number)}

    def _write_float(self, value: float, _depth: int) -> object:
        number = float(value)
        return number if isfinite(number) else {"$float": repr(number)}

    def _write_as_is(self, value: object, _depth: int) -> object:
        return value

    def _write_scalar(self, value: Any, _depth: int) -> object:
        tag, write = tags.WRITERS[type(value)]
        return {tag: write(value)}

    def _write_list(self, value: list[object], depth: int) -> object:
        return self.write_items(value, depth)

    def _write_tuple(self, value: tuple[object, ...], depth: int) -> object:
        return {tags.TUPLE: self.write_items(value, depth)}

    def _write_set(self, value: set[object] | frozenset[object], depth: int) -> object:
        # In a fixed order, so that equal payloads are equal bytes in every process.
        items = sorted(self.write_items(value, depth), key=msgspec.json.encode)
        return {tags.FROZENSET if isinstance(value, frozenset) else tags.SET: items}

    def _write_dict(self, value: dict[object, object], depth: int) -> object:
        if not all(type(key) is str or self._is_text(key) for key in value):
            return self._write_map(value, depth)
        written = self.write_fields(value, depth)  # type: ignore[arg-type]  # all keys are text
        if len(written) == 1 and next(iter(written)).startswith(tags.MARK):
            return {tags.MARK: written}
        return written

    def _is_text(self, key: object) -> bool:
        # A member of a StrEnum is text too, but has to come back as a member.
        return isinstance(key, str) and self._types.form_of(type(key)) is None

    def _write_map(self, value: dict[object, object], depth: int) -> object:
        self._check_depth(depth)
        pairs: list[object] = []
        for key, item in value.items():
            try:
                pairs.append([self.write(key, depth + 1), self.write(item, depth + 1)])
            except Refusal as refusal:
                refusal.below(key_step(key))
                raise
        return {tags.MAP: pairs}

    def _write_instance(self, value: Any, depth: int) -> object:
        cls = type(value)
        form = self._types.form_of(cls)
        if self._allow_pickle and cls not in self._types:
            return self._pickled(value)
        if form is not None:
            return self._write_object(form, value, depth)
        for known, write in self._BY_TYPE.items():
            if isinstance(value, known):
                return self._write_subclass(known, write, value, depth)
        advice = _ADVICE.get(type_name(cls)) or (
            "Pass dict(...) of it."
            if isinstance(value, Mapping)
            else "Pass plain data (text, numbers, lists, dicts, dataclasses, ...), or teach JobMaster the type with "
            "register_type(cls, dump=..., load=...)."
        )
        raise Refusal(f"a value of type {type_name(cls)} cannot travel in a message. {advice}")

    def _write_subclass(
        self, known: type, write: Callable[[Writer, Any, int], object], value: Any, depth: int
    ) -> object:
        """A subclass that nobody taught us (OrderedDict, numpy.float64, FakeDatetime) travels as what it extends."""
        if known in tags.WRITERS:
            tag, text = tags.WRITERS[known]
            return {tag: text(value)}
        return write(self, value, depth)

    def _write_object(self, form: ClassForm, value: object, depth: int) -> object:
        cls = type(value)
        try:
            parts = form.dump(value)
        except Exception as error:
            raise Refusal(
                f"a value of type {type_name(cls)} could not be taken apart ({type(error).__name__}). Pass a complete "
                f"instance, or plain data."
            ) from error
        written: object
        if form.parts == "fields" and isinstance(parts, dict):
            written = self.write_fields(parts, depth, attributes=True)
        elif form.parts == "items" and isinstance(parts, list):
            written = self.write_items(parts, depth)
        else:
            self._check_depth(depth)
            written = self.write(parts, depth + 1)
        return {tags.OBJECT: [self._types.name_of(cls), written]}

    def _pickled(self, value: object) -> object:
        try:
            data = pickle.dumps(value, protocol=5)
        except Exception as error:  # a class's own hooks run here, and may raise anything
            raise Refusal(
                f"a value of type {type_name(type(value))} cannot be pickled ({type(error).__name__}). Pass plain data."
            ) from error
        return {tags.PICKLE: tags.WRITERS[bytes][1](data)}

    _BY_TYPE: ClassVar[dict[type, Callable[[Writer, Any, int], object]]] = {
        # The order matters for subclasses: datetime is looked for before date (tags.WRITERS).
        str: _write_text,
        NoneType: _write_as_is,
        bool: _write_as_is,
        int: _write_integer,
        float: _write_float,
        dict: _write_dict,
        list: _write_list,
        tuple: _write_tuple,
        set: _write_set,
        frozenset: _write_set,
        **dict.fromkeys(tags.WRITERS, _write_scalar),
    }
