"""How instances of classes are taken apart and rebuilt, and under which name they travel.

A message carries a class's name only as a label. It is compared with the classes that the task's annotations name and
with those that were registered; nothing is ever imported because of it.
"""

from __future__ import annotations

import dataclasses
import enum
import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import msgspec

from jobmaster.errors import ConfigurationError
from jobmaster.wire.refusal import type_name

C = TypeVar("C", bound=type)


@dataclasses.dataclass(frozen=True, slots=True)
class ClassForm:
    """How one class travels.

    Attributes:
        cls: the class.
        dump: instance → what is written for it; parts are written by the codec.
        build: what was written, its parts restored → instance. May raise anything.
        parts: "fields" when the parts are a dict by field name, "items" when they are a list, None when they are no
            business of the class's annotations.
        is_enum: members are built from plain values.
    """

    cls: type
    dump: Callable[[Any], object]
    build: Callable[[Any], object]
    parts: str | None = None
    is_enum: bool = False


class TypeRegistry:
    """Classes that are restored wherever they appear, whatever the annotations say. Safe to use from any thread."""

    def __init__(self) -> None:
        self._by_name: dict[str, ClassForm] = {}
        self._names: dict[type, str] = {}
        self._forms: dict[type, ClassForm] = {}
        self._lock = threading.Lock()

    def register(
        self,
        cls: C,
        name: str | None = None,
        *,
        dump: Callable[[Any], object] | None = None,
        load: Callable[[Any], object] | None = None,
    ) -> C:
        """Let instances of `cls` travel and be restored without an annotation.

        Args:
            cls: a dataclass, enum, msgspec Struct, pydantic or attrs class, a NamedTuple, or any class with `dump`
                and `load`.
            name: label in the message, `module.QualName` if not given. The last name given is the one that is
                written; earlier ones are still read, so a class can be renamed while messages wait.
            dump: instance → value that the codec can write, for classes that it cannot take apart itself.
            load: the inverse of `dump`.

        Returns:
            `cls`, so that it works as a decorator.

        Raises:
            ConfigurationError: the class cannot be taken apart, `dump` comes without `load`, or the name belongs to
                another class.
        """
        form = _form_to_register(cls, dump, load)
        label = name or type_name(cls)
        with self._lock:
            taken = self._by_name.get(label)
            if taken is not None and taken.cls is not cls:
                raise ConfigurationError(
                    f"The name {label!r} is registered for {type_name(taken.cls)} already, so {type_name(cls)} cannot "
                    f"have it. Give one of them another name: register_type(cls, name=...)."
                )
            self._by_name[label] = form
            self._names[cls] = label
            self._forms[cls] = form
        return cls

    def name_of(self, cls: type) -> str:
        """The label under which instances of `cls` are written."""
        return self._names.get(cls) or type_name(cls)

    def named(self, name: str) -> ClassForm | None:
        """The registered class of this name, or None."""
        return self._by_name.get(name)

    def form_of(self, cls: type) -> ClassForm | None:
        """How `cls` travels, registered or not; None when it cannot."""
        return self._forms.get(cls) or form_of(cls)

    def __contains__(self, cls: object) -> bool:
        return cls in self._names


def _form_to_register(
    cls: Any, dump: Callable[[Any], object] | None, load: Callable[[Any], object] | None
) -> ClassForm:
    if not isinstance(cls, type):
        raise ConfigurationError(f"Only classes can be registered, not a value of type {type_name(type(cls))}.")
    if dump is not None and load is not None:
        return ClassForm(cls, dump, load)
    if dump is not None or load is not None:
        raise ConfigurationError(f"{type_name(cls)}: dump and load belong together. Give both or none.")
    form = form_of(cls)
    if form is None:
        raise ConfigurationError(
            f"{type_name(cls)} is no dataclass, enum, msgspec Struct, pydantic model, attrs class or NamedTuple, so "
            f"JobMaster does not know its parts. Give register_type(cls, dump=..., load=...)."
        )
    return form


_NO_FORM = object()
_forms: WeakKeyDictionary[type, object] = WeakKeyDictionary()


def form_of(cls: type) -> ClassForm | None:
    """How a class travels by its own nature (dataclass, enum, Struct, pydantic, attrs, NamedTuple), or None."""
    known = _forms.get(cls)
    if known is None:
        known = _detect(cls) or _NO_FORM
        _forms[cls] = known
    return known if isinstance(known, ClassForm) else None


def _detect(cls: type) -> ClassForm | None:
    if issubclass(cls, enum.Enum):
        return ClassForm(cls, _enum_value, cls, is_enum=True) if cls.__members__ else None
    if issubclass(cls, msgspec.Struct) and cls is not msgspec.Struct:
        return ClassForm(cls, _dump_struct, lambda parts: cls(**parts), "fields")
    if _is_pydantic(cls):
        return ClassForm(cls, _dump_pydantic, _pydantic_builder(cls))
    if dataclasses.is_dataclass(cls):
        return ClassForm(cls, _dump_dataclass, _dataclass_builder(cls), "fields")
    if "__attrs_attrs__" in vars(cls):
        return ClassForm(cls, _dump_attrs, _attrs_builder(cls), "fields")
    make = getattr(cls, "_make", None)
    if issubclass(cls, tuple) and hasattr(cls, "_fields") and make is not None:  # a NamedTuple
        return ClassForm(cls, list, make, "items")
    return None


def _enum_value(member: Any) -> object:
    return member.value


def _dump_struct(value: Any) -> dict[str, object]:
    return {name: getattr(value, name) for name in value.__struct_fields__}


def _is_pydantic(cls: type) -> bool:
    # A pydantic class exists only where pydantic is loaded, so it is looked up and never imported.
    pydantic = sys.modules.get("pydantic")
    model = getattr(pydantic, "BaseModel", None)
    return isinstance(model, type) and issubclass(cls, model) and cls is not model


def _dump_pydantic(value: Any) -> object:
    return value.model_dump(round_trip=True)


def _pydantic_builder(cls: Any) -> Callable[[Any], object]:
    def build(parts: Any) -> object:
        try:
            return cls.model_validate(parts, by_alias=True, by_name=True)
        except TypeError:  # before pydantic 2.11: fields with an alias need populate_by_name
            return cls.model_validate(parts)

    return build


def _dump_dataclass(value: Any) -> dict[str, object]:
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}


def _dataclass_builder(cls: Any) -> Callable[[Any], object]:
    fields = dataclasses.fields(cls)
    late = frozenset(field.name for field in fields if not field.init)

    def build(parts: Mapping[str, object]) -> object:
        made = cls(**{name: part for name, part in parts.items() if name not in late})
        for name in late & parts.keys():
            object.__setattr__(made, name, parts[name])  # frozen classes too
        return made

    return build


def _dump_attrs(value: Any) -> dict[str, object]:
    return {field.name: getattr(value, field.name) for field in type(value).__attrs_attrs__}


def _attrs_builder(cls: Any) -> Callable[[Any], object]:
    fields = {field.name: field for field in cls.__attrs_attrs__}

    def build(parts: Mapping[str, object]) -> object:
        late = {name for name, field in fields.items() if not field.init}
        arguments = {
            (fields[name].alias or name) if name in fields else name: part
            for name, part in parts.items()
            if name not in late
        }
        made = cls(**arguments)
        for name in late & parts.keys():
            object.__setattr__(made, name, parts[name])
        return made

    return build
