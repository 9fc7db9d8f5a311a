"""What annotations say about the types in a payload, worked out once per task.

An annotation only *restores* what JSON could not carry; it never checks and never converts a value that Python would
have passed through. What cannot be resolved restores nothing, and neither do the parameters of a generic class:
`Box[Line]` restores a Box, and what is inside follows its own annotations.
"""

from __future__ import annotations

import inspect
import sys
import types
import typing
from collections import abc
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Final, TypeVar
from weakref import WeakKeyDictionary

from jobmaster.wire.tags import FROM_TEXT
from jobmaster.wire.types import form_of

_ANYTHING: Final = frozenset({"dict", "list", "str", "number"})
_JSON_KINDS: Final[dict[object, str]] = {
    str: "str",
    int: "number",
    float: "number",
    bool: "number",
    dict: "dict",
    list: "list",
}
_SETS: Final = (set, frozenset, abc.Set, abc.MutableSet)
_LISTS: Final = (*_SETS, list, abc.Collection, abc.Iterable, abc.Sequence, abc.MutableSequence)
_MAPPINGS: Final = (dict, abc.Mapping, abc.MutableMapping)


@dataclass(frozen=True, slots=True)
class Hint:
    """What may stand at one place of a payload.

    Attributes:
        classes: dataclasses, enums, models ... that may stand here.
        texts: functions that restore a value from plain text (datetime, UUID, ...).
        plain: JSON kinds that the annotation allows as they are, and that are therefore left alone.
        item: for each element of a list, set or tuple of any length.
        items: for the elements of a tuple of fixed length.
        key: for the keys of a dict.
        value: for the values of a dict.
        fields: for the values of a dict, by key.
        record: a TypedDict whose fields are looked up when they are needed (it may contain itself).
    """

    classes: tuple[type, ...] = ()
    texts: tuple[Callable[[str], object], ...] = ()
    plain: frozenset[str] = frozenset()
    item: Hint | None = None
    items: tuple[Hint | None, ...] = ()
    key: Hint | None = None
    value: Hint | None = None
    fields: Mapping[str, Hint | None] | None = None
    record: type | None = None

    @property
    def restores(self) -> bool:
        """Whether there is anything to do."""
        return bool(
            self.classes or self.texts or self.item or self.key or self.value or self.fields or self.record
        ) or any(self.items)

    def for_index(self, index: int) -> Hint | None:
        """The hint for one element of a list or tuple."""
        return self.items[index] if index < len(self.items) else self.item

    def for_key(self, key: object) -> Hint | None:
        """The hint for the value under one key of a dict."""
        fields = record_hints(self.record) if self.record is not None else self.fields
        if fields is not None and isinstance(key, str) and key in fields:
            return fields[key]
        return self.value


@dataclass(frozen=True, slots=True)
class CallHints:
    """The hints of one function: see `call_hints`.

    Attributes:
        positional: by position.
        named: by the parameter's name.
        more_args: for what `*args` takes.
        more_kwargs: for what `**kwargs` takes.
        result: for the result.
        restores: whether any argument needs restoring.
    """

    positional: tuple[Hint | None, ...] = ()
    named: Mapping[str, Hint | None] = field(default_factory=dict)
    more_args: Hint | None = None
    more_kwargs: Hint | None = None
    result: Hint | None = None
    restores: bool = False


def call_hints(func: Callable[..., object], *, bound: bool = False) -> CallHints:
    """Work out what the annotations of `func` restore. Never raises: what cannot be resolved restores nothing.

    Args:
        func: the task's function.
        bound: the first parameter is not in the payload (`bind=True`: the context).
    """
    try:
        parameters = list(inspect.signature(func).parameters.values())[1 if bound else 0 :]
        function = inspect.unwrap(func)
    except (TypeError, ValueError):
        return CallHints()
    found = {name: hint_for(annotation) for name, annotation in annotations_of(function).items()}
    positional: list[Hint | None] = []
    named: dict[str, Hint | None] = {}
    more: dict[inspect._ParameterKind, Hint | None] = {}
    for parameter in parameters:
        hint = found.get(parameter.name)
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            more[parameter.kind] = hint
            continue
        if parameter.kind is not parameter.KEYWORD_ONLY:
            positional.append(hint)
        if parameter.kind is not parameter.POSITIONAL_ONLY:
            named[parameter.name] = hint
    return CallHints(
        positional=tuple(positional),
        named=named,
        more_args=more.get(inspect.Parameter.VAR_POSITIONAL),
        more_kwargs=more.get(inspect.Parameter.VAR_KEYWORD),
        result=found.get("return"),
        restores=any([*positional, *named.values(), *more.values()]),
    )


def hint_for(annotation: object) -> Hint | None:
    """What one annotation restores; None when nothing."""
    try:
        return _cached_hint(annotation)
    except TypeError:  # not hashable, such as Literal[[]]
        return _useful(_compile(annotation, frozenset()))


@lru_cache(maxsize=2048)
def _cached_hint(annotation: object) -> Hint | None:
    return _useful(_compile(annotation, frozenset()))


_records: WeakKeyDictionary[type, Mapping[str, Hint | None]] = WeakKeyDictionary()


def record_hints(cls: type) -> Mapping[str, Hint | None]:
    """The hints of a class's fields, by name."""
    known = _records.get(cls)
    if known is None:
        known = {name: hint_for(annotation) for name, annotation in annotations_of(cls).items()}
        _records[cls] = known
    return known


def parts_hint(cls: type, parts: str | None) -> Hint | None:
    """The hint for what stands in a message for an instance of `cls` (`parts`: see `ClassForm`)."""
    if parts == "fields":
        return Hint(fields=record_hints(cls))
    if parts == "items":
        fields = record_hints(cls)
        names: tuple[str, ...] = getattr(cls, "_fields", ())
        return Hint(items=tuple(fields.get(name) for name in names))
    return None


def annotations_of(owner: Any) -> dict[str, object]:
    """The resolved annotations of a function or class; those that cannot be resolved are left out."""
    with suppress(Exception):  # an annotation is any expression, and may fail in any way
        return typing.get_type_hints(owner)
    resolved: dict[str, object] = {}
    for holder in reversed(inspect.getmro(owner)) if isinstance(owner, type) else [owner]:
        names = vars(sys.modules.get(holder.__module__, object)) if isinstance(holder, type) else _globals_of(holder)
        for name, annotation in _own_annotations(holder).items():
            resolved.pop(name, None)
            with suppress(Exception):  # same
                alone = types.SimpleNamespace(__annotations__={name: annotation})
                resolved.update(typing.get_type_hints(alone, dict(names)))
    return resolved


def _own_annotations(holder: Any) -> Mapping[str, object]:
    # A class may only show its own: its parents have their own turn.
    found = (
        vars(holder).get("__annotations__") if isinstance(holder, type) else getattr(holder, "__annotations__", None)
    )
    return found if isinstance(found, dict) else {}


def _globals_of(function: Any) -> dict[str, object]:
    return getattr(function, "__globals__", {})


def _useful(hint: Hint) -> Hint | None:
    return hint if hint.restores else None


def _compile(annotation: object, seen: frozenset[int]) -> Hint:
    inner = _unwrapped(annotation)
    if inner is not None:
        # An alias may name itself (`type Json = list[Json] | str`): the second time it restores nothing.
        if id(annotation) in seen:
            return Hint(plain=_ANYTHING)
        return _compile(inner[0], seen | {id(annotation)})
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        return _merged([_compile(part, seen) for part in arguments])
    if origin is not None:
        return _compile_generic(origin, arguments, seen)
    if annotation is None or annotation is types.NoneType:
        return Hint()
    if isinstance(annotation, type):
        return _compile_class(annotation)
    return Hint(plain=_ANYTHING)


def _unwrapped(annotation: object) -> tuple[object] | None:
    """What stands inside of an alias, a NewType, Annotated[...], Required[...] or a bound TypeVar."""
    origin = typing.get_origin(annotation)
    if origin in (typing.Annotated, typing.Required, typing.NotRequired, typing.Final, typing.ClassVar):
        return (typing.get_args(annotation)[0],)
    if isinstance(annotation, TypeVar) and annotation.__bound__ is not None:
        return (annotation.__bound__,)
    if isinstance(annotation, typing.NewType):
        return (annotation.__supertype__,)
    if type(annotation).__name__ == "TypeAliasType":
        return (getattr(annotation, "__value__", Any),)
    return None


def _compile_class(cls: type) -> Hint:
    if cls in FROM_TEXT:
        return Hint(texts=(FROM_TEXT[cls],))
    if typing.is_typeddict(cls):
        return Hint(record=cls, plain=frozenset({"dict"}))
    if form_of(cls) is not None:
        return Hint(classes=(cls,))
    if cls in _JSON_KINDS:
        return Hint(plain=frozenset({_JSON_KINDS[cls]}))
    return Hint(plain=_ANYTHING)


def _compile_generic(origin: Any, arguments: tuple[object, ...], seen: frozenset[int]) -> Hint:
    if origin is tuple:
        if len(arguments) == 2 and arguments[1] is Ellipsis:  # noqa: PLR2004 - tuple[X, ...]
            return Hint(item=_useful(_compile(arguments[0], seen)), plain=frozenset({"list"}))
        return Hint(items=tuple(_useful(_compile(part, seen)) for part in arguments), plain=frozenset({"list"}))
    if origin in _LISTS:
        return Hint(item=_useful(_compile(arguments[0], seen)), plain=frozenset({"list"}))
    if origin in _MAPPINGS:
        key, value = (_useful(_compile(part, seen)) for part in arguments)
        return Hint(key=key, value=value, plain=frozenset({"dict"}))
    if isinstance(origin, type):
        return _compile_class(origin)
    return Hint(plain=_ANYTHING)  # Literal, Callable, ...


def _merged(hints: list[Hint]) -> Hint:
    merged = hints[0]
    for hint in hints[1:]:
        merged = replace(
            merged,
            classes=merged.classes + hint.classes,
            texts=merged.texts + hint.texts,
            plain=merged.plain | hint.plain,
            item=_either(merged.item, hint.item),
            items=merged.items or hint.items,
            key=_either(merged.key, hint.key),
            value=_either(merged.value, hint.value),
            record=merged.record or hint.record,
        )
    return merged


def _either(left: Hint | None, right: Hint | None) -> Hint | None:
    return _merged([left, right]) if left is not None and right is not None else left or right
