"""Classes come back where an annotation or the registry knows them, and never because a message names them."""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import functools
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Generic, Literal, NamedTuple, NewType, Optional, TypedDict, TypeVar
from uuid import UUID

import attrs
import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobmaster.errors import ConfigurationError, SerializationError
from jobmaster.wire import tags
from jobmaster.wire.codec import Codec
from jobmaster.wire.hints import CallHints, call_hints
from jobmaster.wire.types import TypeRegistry

if TYPE_CHECKING:
    from nowhere import Unknown

T = TypeVar("T")


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Mode(enum.StrEnum):
    FAST = "fast"


class Level(enum.IntEnum):
    HIGH = 3


class Rights(enum.Flag):
    READ = 1
    WRITE = 2


@dataclasses.dataclass(frozen=True)
class Line:
    sku: str
    price: Decimal
    colour: Colour = Colour.RED
    total: Decimal = dataclasses.field(init=False, default=Decimal(0))


@dataclasses.dataclass(slots=True)
class Order:
    number: int
    lines: list[Line]
    at: datetime
    parent: Order | None = None
    notes: Any = None


@dataclasses.dataclass
class Box(Generic[T]):
    inside: T


@dataclasses.dataclass
class Doubtful:
    order: Unknown  # type: ignore[name-defined]  # cannot be resolved, on purpose
    line: Line


class Point(NamedTuple):
    x: int
    line: Line


class Packet(msgspec.Struct, frozen=True):
    number: int
    line: Line | None = None


class Address(pydantic.BaseModel):
    street: str = pydantic.Field(alias="Street")
    colour: Colour = Colour.RED


class Person(pydantic.BaseModel):
    name: str
    born: date
    address: Address | None = None


@attrs.define
class Car:
    wheels: int
    line: Line
    _secret: str = "s"
    derived: int = attrs.field(init=False, default=5)


@attrs.frozen
class Ghost:
    line: Line


class Query(TypedDict, total=False):
    line: Line
    deeper: Query


class Plain:
    """Nothing that the codec could take apart."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Plain) and other.text == self.text

    __hash__ = None  # type: ignore[assignment]  # compared only


LINE = Line("a", Decimal("1.50"), Colour.BLUE)
ORDER = Order(1, [LINE], datetime(2026, 1, 1, tzinfo=UTC), parent=Order(0, [], datetime(2025, 1, 1, tzinfo=UTC)))
LineId = NewType("LineId", Line)

codec = Codec(types=TypeRegistry())

RESTORED = [
    # value, annotation, what comes back without one
    (LINE, Line, {"sku": "a", "price": Decimal("1.50"), "colour": "blue", "total": Decimal(0)}),
    (Colour.BLUE, Colour, "blue"),
    (Mode.FAST, Mode, "fast"),
    (Level.HIGH, Level, 3),
    (Rights.READ | Rights.WRITE, Rights, 3),
    ({Mode.FAST: 1}, dict[Mode, int], {"fast": 1}),
    ({LINE.colour: LINE}, Mapping[Colour, Line], None),
    (Point(1, LINE), Point, None),
    (Packet(1, LINE), Packet, None),
    (Car(4, LINE), Car, None),
    (Ghost(LINE), Ghost, None),
    (Person(name="x", born=date(2000, 1, 1), address=Address(Street="y")), Person, None),
    (ORDER, Order, None),
    ([LINE, None], list[Line | None], None),
    ([ORDER], Sequence[Order], None),
    ((LINE, 1), tuple[Line, int], None),
    ((LINE, LINE), tuple[Line, ...], None),
    ({Colour.RED}, set[Colour], {"red"}),
    (frozenset({Colour.RED}), frozenset[Colour], frozenset({"red"})),
    ({"k": [LINE]}, dict[str, list[Line]], None),
    ({"line": LINE, "deeper": {"line": LINE}}, Query, None),
    (LINE, Optional[Line], None),  # noqa: UP045 - the older spelling
    (LINE, Annotated[Line, "doc"], None),
    (LINE, LineId, None),
    (LINE, Line | Order, None),
    (ORDER, Line | Order, None),
    (LINE, dict[str, object] | Line, None),
    (Colour.RED, str | Colour, "red"),
]


@pytest.mark.parametrize(("value", "annotation", "plain"), RESTORED, ids=range(len(RESTORED)))
def test_an_annotation_restores_a_class(value: object, annotation: object, plain: object) -> None:
    data = codec.encode_value(value, "value")
    back = codec.decode_value(data, annotation)
    assert back == value
    assert type(back) is type(value)
    if plain is not None:
        assert codec.decode_value(data) == plain


def test_fields_without_init_and_private_ones_come_back() -> None:
    line = Line("a", Decimal(1))
    object.__setattr__(line, "total", Decimal(9))
    assert codec.decode_value(codec.encode_value(line, "value"), Line).total == Decimal(9)
    car = Car(4, LINE, secret="x")
    car.derived = 6
    assert codec.decode_value(codec.encode_value(car, "value"), Car) == car


def test_what_python_would_pass_through_is_left_alone() -> None:
    for value, annotation in [
        ("5", int), (5, str), ([1], tuple[int, ...]), (None, Line), ("x", Line), ({"a": 1}, dict[str, Any] | Line),
        ("red", Colour | str), (7, Line | int), ("text", datetime), ("2026-01-01", str | date), ([], Line),
        ("red", Literal["red"]), ("red", Literal[[]]), ({"a": 1}, Callable[..., int]), (1, "Unresolved"), (1, T),
        ({"a": 1}, object), ({"a": {}}, Line | Order), (True, Level | bool),
    ]:  # fmt: skip
        back = codec.decode_value(codec.encode_value(value, "value"), annotation)
        assert (back, type(back)) == (value, type(value)), annotation


def test_plain_json_becomes_what_the_annotation_names() -> None:
    """A shell or another language can only say JSON."""

    def task(order: Order, *, colour: Colour, when: datetime, key: UUID, person: Person, tags: list[date]) -> None: ...

    data = (
        b'[[{"number":1,"lines":[{"sku":"a","price":"1.50","colour":"blue"}],"at":"2026-01-01T00:00:00Z","parent":null}],'
        b'{"colour":"red","when":"2026-01-01T10:00:00+01:00[Europe/Berlin]","key":"00000000-0000-0000-0000-000000000001",'
        b'"person":{"name":"x","born":"2000-01-01","address":{"Street":"y"}},"tags":["2026-01-01"]}]'
    )
    args, kwargs = codec.decode_call(data, call_hints(task))
    assert args == (Order(1, [LINE], datetime(2026, 1, 1, tzinfo=UTC)),)
    assert kwargs == {
        "colour": Colour.RED,
        "when": datetime(2026, 1, 1, 9, tzinfo=UTC),
        "key": UUID(int=1),
        "person": Person(name="x", born=date(2000, 1, 1), address=Address(Street="y")),
        "tags": [date(2026, 1, 1)],
    }


MISFITS = [
    (b'{"sku":"a"}', Line, ["value", "does not fit", "Line", "same version"]),
    (b'{"$object":["tests.unit.test_codec_types.Line",{"nope":1}]}', Line, ["does not fit"]),
    (b'{"$object":["shop.Sub",{"sku":"a"}]}', list[Line] | Line | None, None),
    (b'{"$object":["shop.Sub",{"sku":"a"}]}', Line, ["shop.Sub", "annotation names", "register_type"]),
    (b'[{"$object":["x.Line",[1]]}]', list[Line], ["value[0]", "damaged"]),
    (b'"green"', Colour, ["no member", "Colour"]),
    (b'{"number":1,"lines":[{"sku":1}],"at":"x"}', Order, ["value.lines[0]", "does not fit"]),
]


@pytest.mark.parametrize(("data", "annotation", "words"), MISFITS, ids=range(len(MISFITS)))
def test_a_misfit_is_a_typed_error_with_the_path(data: bytes, annotation: object, words: list[str] | None) -> None:
    if words is None:  # a choice was left, so the plain parts come
        assert codec.decode_value(data, annotation) == {"sku": "a"}
        return
    with pytest.raises(SerializationError) as caught:
        codec.decode_value(data, annotation)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_a_generic_class_is_restored_without_what_its_parameters_say() -> None:
    data = codec.encode_value(Box(Colour.RED), "value")
    assert codec.decode_value(data, Box[Colour]) == Box("red")


def test_a_class_that_moved_is_found_by_its_own_name() -> None:
    data = codec.encode_value(LINE, "value").replace(b"tests.unit.test_codec_types.Line", b"__main__.Line")
    assert codec.decode_value(data, Line) == LINE


def test_an_element_that_nobody_can_restore_says_so() -> None:
    data = codec.encode_call(({LINE},), {})
    with pytest.raises(SerializationError, match=r"args\[0\]: an element of a set .*register_type"):
        codec.decode_call(data)
    with pytest.raises(SerializationError, match=r"args\[0\]: a key of a dict .*register_type"):
        codec.decode_call(codec.encode_call(({LINE: 1},), {}))


def test_hints_follow_the_parameters() -> None:
    def task(a: Line, /, b: Line, *rest: Line, c: Line, **more: Line) -> Line: ...

    hints = call_hints(task)
    args, kwargs = (LINE, LINE, LINE, LINE), {"c": LINE, "d": LINE}
    assert codec.decode_call(codec.encode_call(args, kwargs), hints) == (args, kwargs)
    assert codec.decode_call(codec.encode_call((LINE,), {"b": LINE, "c": LINE}), hints) == (
        (LINE,),
        {"b": LINE, "c": LINE},
    )
    assert hints.result is not None


def test_a_bound_task_leaves_out_its_context() -> None:
    def task(ctx: Line, order: Colour) -> None: ...

    data = codec.encode_call((Colour.RED,), {})
    assert codec.decode_call(data, call_hints(task, bound=True)) == ((Colour.RED,), {})


def test_hints_of_plain_annotations_cost_nothing() -> None:
    def task(name: str, n: int | None, x: dict[str, Any], y: list, z: Any = None) -> str: ...  # type: ignore[type-arg]

    assert not call_hints(task).restores


def test_annotations_that_cannot_be_resolved_restore_nothing_and_the_others_do() -> None:
    def task(order: Unknown, line: Line, colour: 1 / 0) -> Unknown: ...  # type: ignore[valid-type]  # on purpose

    args = codec.decode_call(codec.encode_call((LINE, LINE), {}), call_hints(task))[0]
    assert args == ({"sku": "a", "price": Decimal("1.50"), "colour": "blue", "total": Decimal(0)}, LINE)
    back = codec.decode_value(codec.encode_value(Doubtful(1, LINE), "value"), Doubtful)
    assert back == Doubtful(1, LINE)


def test_hints_of_anything_callable_do_not_fail() -> None:
    class Handler:
        def __call__(self, line: Line) -> None: ...

        def handle(self, line: Line) -> None: ...

    def task(line: Line) -> None: ...

    @functools.wraps(task)
    def wrapper(*args: Any, **kwargs: Any) -> None: ...

    for func in (Handler(), functools.partial(task), print, int, dict.update, 5):
        assert isinstance(call_hints(func), CallHints)  # type: ignore[arg-type]  # also what is no function
    for func in (wrapper, Handler().handle):
        assert codec.decode_call(codec.encode_call((LINE,), {}), call_hints(func))[0] == (LINE,)


def test_an_alias_that_contains_itself_ends() -> None:
    Json = NewType("Json", list)
    Json.__supertype__ = list[Json]  # type: ignore[attr-defined,valid-type]  # `type Json = list[Json]` of Python 3.12
    assert codec.decode_value(b"[[[]]]", Json) == [[[]]]


def registry_with(*classes: Any) -> Codec:
    types = TypeRegistry()
    for cls in classes:
        types.register(cls)
    return Codec(types=types)


@pytest.mark.parametrize(
    "value", [LINE, Colour.RED, Mode.FAST, Packet(1), Car(4, LINE), Point(1, LINE), ORDER], ids=repr
)
def test_a_registered_class_needs_no_annotation(value: object) -> None:
    knowing = registry_with(type(value), Line, Colour)
    for annotation in (None, Any, object, type(value), list[int]):
        back = knowing.decode_value(knowing.encode_value([value, {"x": value}], "value"), annotation)
        assert back == [value, {"x": value}]
        assert type(back[0]) is type(value)


def test_registered_frozen_instances_are_keys_and_elements() -> None:
    knowing = registry_with(Line, Colour)
    assert knowing.decode_value(knowing.encode_value({LINE: {LINE}}, "value")) == {LINE: {LINE}}


def test_a_renamed_class_reads_its_old_messages() -> None:
    old = TypeRegistry()
    old.register(Line, "line-v1")
    data = Codec(types=old).encode_value(LINE, "value")
    new = TypeRegistry()
    new.register(Line, "line-v1")
    new.register(Line, "line-v2")
    assert Codec(types=new).decode_value(data) == LINE
    assert b"line-v2" in Codec(types=new).encode_value(LINE, "value")


def test_any_class_travels_with_dump_and_load() -> None:
    types = TypeRegistry()
    assert types.register(Plain, dump=lambda value: {"$": value.text}, load=lambda parts: Plain(parts["$"])) is Plain
    types.register(Path, dump=str, load=Path)
    teaching = Codec(types=types)
    assert teaching.decode_value(teaching.encode_value([Plain("x")], "value")) == [Plain("x")]
    assert codec.decode_value(teaching.encode_value([Plain("x")], "value")) == [{"$": "x"}]


BAD_REGISTRATIONS = [
    (lambda types: types.register(Plain), "no dataclass"),
    (lambda types: types.register(LINE), "Only classes"),
    (lambda types: types.register(Plain, dump=str), "belong together"),
    (lambda types: (types.register(Line, "x"), types.register(Order, "x")), "registered for"),
]


@pytest.mark.parametrize(("register", "words"), BAD_REGISTRATIONS, ids=range(len(BAD_REGISTRATIONS)))
def test_a_bad_registration_says_why(register: Callable[[TypeRegistry], object], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        register(TypeRegistry())


def test_a_failing_dump_or_constructor_is_a_typed_error() -> None:
    def fail(_: object) -> object:
        raise RuntimeError("password=secret")

    types = TypeRegistry()
    types.register(Plain, dump=fail, load=fail)
    with pytest.raises(SerializationError, match=r"result\[0\]: .*could not be taken apart \(RuntimeError\)") as caught:
        Codec(types=types).encode_value([Plain("x")], "result")
    assert "secret" not in str(caught.value)


TAGS = [*tags.READERS, tags.MARK, tags.TUPLE, tags.SET, tags.FROZENSET, tags.MAP, tags.OBJECT, tags.PICKLE]
NAMES = ["Line", "Order", "Colour", "Point", "Packet", "Car", "Person", "Unknown"]
DAMAGED = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(["red", "x", "1", "2026-01-01", "2026-01-01T00:00:00[Europe/Berlin]", "", "AA=="]),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(["sku", "price", "number", "lines", "at", "line"]), inner, max_size=3),
        st.tuples(st.sampled_from(TAGS), inner).map(lambda pair: {pair[0]: pair[1]}),
        st.tuples(st.sampled_from(NAMES), inner).map(lambda pair: {"$object": [f"a.{pair[0]}", pair[1]]}),
    ),
)  # fmt: skip
ANNOTATIONS = st.sampled_from([None, *(annotation for _, annotation, _ in RESTORED)])


@given(DAMAGED, ANNOTATIONS)
def test_whatever_a_message_holds_is_a_value_or_a_typed_error(tree: object, annotation: object) -> None:
    knowing = registry_with(Packet, Car)
    with contextlib.suppress(SerializationError):
        knowing.decode_value(msgspec.json.encode(tree), annotation)


def test_a_name_in_a_message_imports_nothing(tmp_path: Path) -> None:
    (tmp_path / "evil.py").write_text("print('imported')\nclass Evil: pass\n")
    program = (
        "import sys\n"
        "from jobmaster.wire.codec import Codec\n"
        "from jobmaster.wire.types import TypeRegistry\n"
        'data = b\'[[{"$object":["evil.Evil",{"a":1}]},{"$object":["os.system","true"]}],{}]\'\n'
        "print(Codec(types=TypeRegistry()).decode_call(data), 'evil' in sys.modules)\n"
        "print(sorted({'pydantic', 'attr', 'attrs'} & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True,
        env={"PYTHONPATH": f"{tmp_path}:{Path(__file__).parents[2]}"},
    )  # fmt: skip
    assert done.stdout == "(({'a': 1}, 'true'), {}) False\n[]\n"
