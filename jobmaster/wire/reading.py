"""From a JSON tree with tags back to Python values, guided by the task's annotations and the registered classes."""

from __future__ import annotations

import base64
import pickle
from collections.abc import Callable
from contextlib import suppress
from typing import Any, ClassVar, Final
from zoneinfo import ZoneInfoNotFoundError

from jobmaster.wire import tags
from jobmaster.wire.hints import Hint, parts_hint
from jobmaster.wire.refusal import Refusal, key_step, type_name
from jobmaster.wire.types import ClassForm, TypeRegistry

_SCALAR_KIND: Final[dict[type, str]] = {str: "str", int: "number", float: "number", bool: "number"}

# A tag adds levels to the tree: {"$map": [[key, value]]} is three for one.
_LEVELS_PER_CONTAINER: Final = 4


class Reader:
    """Turns one JSON tree into values.

    Args:
        types: classes that are restored without an annotation.
        allow_pickle: unpickle what was pickled; otherwise it is refused.
        max_depth: how many containers may stand in each other.
    """

    __slots__ = ("_allow_pickle", "_levels", "_types")

    def __init__(self, types: TypeRegistry, *, allow_pickle: bool, max_depth: int) -> None:
        self._types = types
        self._allow_pickle = allow_pickle
        self._levels = max_depth * _LEVELS_PER_CONTAINER

    def read(self, node: Any, hint: Hint | None, depth: int = 0) -> Any:
        """The value that `node` stands for.

        Raises:
            Refusal: the node is damaged, needs pickle without permission, or does not fit the annotation's class.
        """
        if depth > self._levels:
            raise Refusal("nested too deeply to be a payload that JobMaster wrote. Look at who sent the message.")
        if isinstance(node, dict):
            if len(node) == 1:
                ((key, inner),) = node.items()
                if key.startswith(tags.MARK):
                    return self._read_tagged(key, inner, hint, depth)
            return self._read_dict(node, hint, depth)
        if isinstance(node, list):
            return self._read_items(node, hint, depth)
        return node if hint is None or node is None else self._restored(node, hint)

    def _read_items(self, nodes: Any, hint: Hint | None, depth: int) -> list[Any]:
        if not isinstance(nodes, list):
            raise _damaged("a list")
        values: list[Any] = []
        try:
            for node in nodes:
                item_hint = hint.for_index(len(values)) if hint is not None else None
                values.append(self.read(node, item_hint, depth + 1))
        except Refusal as refusal:
            refusal.below(f"[{len(values)}]")
            raise
        return values

    def _read_dict(self, node: Any, hint: Hint | None, depth: int) -> Any:
        if not isinstance(node, dict):
            raise _damaged("an object")
        form = self._form_of_plain_dict(hint)
        if form is not None:
            return self._build(form, self._read_parts(form, node, depth), named=None)
        return self._read_fields(node, hint, depth)

    def _read_fields(
        self, node: dict[str, Any], hint: Hint | None, depth: int, *, attributes: bool = False
    ) -> dict[Any, Any]:
        values: dict[Any, Any] = {}
        for key, inner in node.items():
            try:
                name = self.read(key, hint.key, depth + 1) if hint is not None and hint.key is not None else key
                values[name] = self.read(inner, hint.for_key(key) if hint is not None else None, depth + 1)
            except Refusal as refusal:
                refusal.below(f".{key}" if attributes else key_step(key))
                raise
        return values

    def _read_tagged(self, tag: str, inner: Any, hint: Hint | None, depth: int) -> Any:
        scalar = tags.READERS.get(tag)
        if scalar is not None:
            return _read_scalar(scalar, tag, inner)
        container = self._CONTAINERS.get(tag)
        if container is None:
            raise Refusal(f"the tag {tag[:40]!r} is unknown. Update JobMaster here to the version that wrote this.")
        return container(self, inner, hint, depth)

    def _read_tuple(self, inner: Any, hint: Hint | None, depth: int) -> tuple[Any, ...]:
        return tuple(self._read_items(inner, hint, depth))

    def _read_set(self, inner: Any, hint: Hint | None, depth: int) -> set[Any]:
        try:
            return set(self._read_items(inner, hint, depth))
        except TypeError as error:
            raise _unhashable("an element of a set") from error

    def _read_frozenset(self, inner: Any, hint: Hint | None, depth: int) -> frozenset[Any]:
        return frozenset(self._read_set(inner, hint, depth))

    def _read_map(self, inner: Any, hint: Hint | None, depth: int) -> dict[Any, Any]:
        if not isinstance(inner, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in inner):  # noqa: PLR2004 - a pair
            raise _damaged("a list of pairs")
        values: dict[Any, Any] = {}
        for raw_key, raw_value in inner:
            key = self.read(raw_key, hint.key if hint is not None else None, depth + 1)
            try:
                values[key] = self.read(raw_value, hint.for_key(key) if hint is not None else None, depth + 1)
            except Refusal as refusal:
                refusal.below(key_step(key))
                raise
            except TypeError as error:
                raise _unhashable("a key of a dict") from error
        return values

    def _read_object(self, inner: Any, hint: Hint | None, depth: int) -> Any:
        if not isinstance(inner, list) or len(inner) != 2 or not isinstance(inner[0], str):  # noqa: PLR2004 - name, parts
            raise _damaged("a name and parts")
        name, parts = inner
        form = self._form_of_named(name, hint)
        if form is not None:
            return self._build(form, self._read_parts(form, parts, depth), named=name)
        return self.read(parts, None, depth + 1)  # nobody here knows the class: its plain parts are what is left

    def _read_parts(self, form: ClassForm, parts: Any, depth: int) -> Any:
        hint = parts_hint(form.cls, form.parts)
        if form.parts != "fields":
            return self.read(parts, hint, depth + 1)
        if not isinstance(parts, dict):
            raise _damaged("an object")
        return self._read_fields(parts, hint, depth, attributes=True)

    def _read_pickle(self, inner: Any, _hint: Hint | None, _depth: int) -> Any:
        if not self._allow_pickle:
            raise Refusal(
                "this part is pickled, and pickle is not allowed here, because a pickle can run any code. If you trust "
                "whoever writes to this cluster, make the app with allow_pickle=True; otherwise pass plain data."
            )
        try:
            return pickle.loads(base64.b64decode(inner, validate=True))  # noqa: S301 - the app allows it, see above
        except Exception as error:  # unpickling runs the classes' own code, which may raise anything
            raise Refusal(
                f"this part cannot be unpickled ({type(error).__name__}). Producer and worker need the same classes."
            ) from error

    def _form_of_plain_dict(self, hint: Hint | None) -> ClassForm | None:
        """The class that an annotation wants a plain JSON object to become, where it leaves no choice."""
        if hint is None or "dict" in hint.plain:
            return None
        forms = [form for cls in hint.classes if (form := self._types.form_of(cls)) and not form.is_enum]
        return forms[0] if len(forms) == 1 and forms[0].parts != "items" else None

    def _form_of_named(self, name: str, hint: Hint | None) -> ClassForm | None:
        """The class for an instance that travels as `name`: the annotation's, else a registered one."""
        candidates = hint.classes if hint is not None else ()
        for cls in candidates:
            if name in (self._types.name_of(cls), type_name(cls)):
                return self._types.form_of(cls)
        registered = self._types.named(name)
        if registered is not None:
            return registered
        # The module may differ: a script runs as __main__, a class moves. The class's own name must not.
        same = [cls for cls in candidates if cls.__name__ == name.rpartition(".")[2]]
        if len(same) == 1:
            return self._types.form_of(same[0])
        if candidates and hint is not None and not hint.plain:
            raise Refusal(
                f"the message carries a {name[:100]}, the annotation names {_names(candidates)}. Register the class "
                f"that is meant under this name: register_type(cls, name=...)."
            )
        return None

    def _build(self, form: ClassForm, parts: Any, *, named: str | None) -> Any:
        try:
            return form.build(parts)
        except Exception as error:  # constructors and validators are user code
            carried = "a plain value" if named is None else f"a {named[:100]}"
            raise Refusal(
                f"{carried} in the message does not fit {type_name(form.cls)} here ({type(error).__name__}). Check "
                f"that producer and worker run the same version of the class, or give new fields a default."
            ) from error

    def _restored(self, node: Any, hint: Hint) -> Any:
        """A plain value where the annotation names an enum or a type that JSON writes as text."""
        kind = _SCALAR_KIND.get(type(node), "")
        if kind in hint.plain or not (hint.classes or hint.texts):
            return node
        enums = [form for cls in hint.classes if (form := self._types.form_of(cls)) and form.is_enum]
        for form in enums:
            with suppress(Exception):  # no member; `_missing_` is user code and may say so in its own way
                return form.build(node)
        for read in hint.texts if kind == "str" else ():
            try:
                return read(node)
            except (ValueError, ArithmeticError, KeyError):
                continue
        if enums and len(enums) == len(hint.classes) and not hint.texts:
            raise Refusal(f"the value is no member of {_names(hint.classes)}. Pass a member, or its value.")
        return node

    _CONTAINERS: ClassVar[dict[str, Callable[[Reader, Any, Hint | None, int], Any]]] = {
        tags.MARK: _read_dict,
        tags.TUPLE: _read_tuple,
        tags.SET: _read_set,
        tags.FROZENSET: _read_frozenset,
        tags.MAP: _read_map,
        tags.OBJECT: _read_object,
        tags.PICKLE: _read_pickle,
    }


def _read_scalar(read: Callable[[Any], object], tag: str, inner: Any) -> object:
    try:
        return read(inner)
    except ZoneInfoNotFoundError as error:
        raise Refusal(
            "this machine does not know the datetime's zone. Install or update the tzdata package."
        ) from error
    except (ValueError, TypeError, ArithmeticError, KeyError, AttributeError, OSError) as error:
        raise Refusal(f"what stands behind {tag} is damaged. The message was not written by JobMaster.") from error


def _names(classes: tuple[type, ...]) -> str:
    return " or ".join(type_name(cls) for cls in classes)


def _damaged(expected: str) -> Refusal:
    return Refusal(f"the message is damaged: {expected} was expected here. It was not written by JobMaster.")


def _unhashable(place: str) -> Refusal:
    return Refusal(
        f"{place} cannot be restored, because nobody here knows its class. Annotate the parameter, or register the "
        f"class with register_type(cls)."
    )
