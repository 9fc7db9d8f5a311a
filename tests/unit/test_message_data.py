"""Message data and metadata: typed entries that say clearly what is missing and what does not fit."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobmaster.errors import JobMasterError
from jobmaster.model.message_data import Entries, MessageData, Metadata, MissingEntry
from jobmaster.wire.codec import Codec
from jobmaster.wire.types import TypeRegistry

codec = Codec(types=TypeRegistry())
MOMENT = datetime(2026, 1, 1, 12, tzinfo=UTC)
KEY = UUID("01234567-89ab-cdef-0123-456789abcdef")


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 3


class Pair(enum.Enum):
    A = (1, 2)


class Twisted(enum.Enum):
    A = ("x",)
    B = "A"


class Rights(enum.Flag):
    READ = 1
    WRITE = 2


@dataclasses.dataclass
class Order:
    number: int
    at: datetime | None = None


class Packet(msgspec.Struct):
    number: int


class Person(pydantic.BaseModel):
    name: str


def full() -> MessageData:
    return (
        MessageData()
        .set_str("str", "John\x00\U0001f600")
        .set_int("int", 2**70)
        .set_float("float", 1.5)
        .set_decimal("decimal", Decimal("1.50"))
        .set_bool("bool", True)
        .set_datetime("datetime", MOMENT)
        .set_uuid("uuid", KEY)
        .set_bytes("bytes", b"\x00\xff")
        .set_enum("enum", Colour.BLUE)
        .set_json("json", {"a": [1, (2, None)]})
    )


GETTERS: list[tuple[str, object]] = [
    ("str", "John\x00\U0001f600"),
    ("int", 2**70),
    ("float", 1.5),
    ("decimal", Decimal("1.50")),
    ("bool", True),
    ("datetime", MOMENT),
    ("uuid", KEY),
    ("bytes", b"\x00\xff"),
    ("enum", Colour.BLUE),
    ("json", {"a": [1, [2, None]]}),
]


def getter(bag: Entries, kind: str, *, attempt: bool = False) -> Callable[[str], object]:
    method = getattr(bag, f"{'try_' if attempt else ''}get_{kind}")
    return (lambda key: method(key, Colour)) if kind == "enum" else method


def through_the_codec(bag: Entries) -> Entries:
    return type(bag).from_dict(codec.decode_value(codec.encode_value(bag.to_dict(), "msg_data")))


@pytest.mark.parametrize(("kind", "expected"), GETTERS)
@pytest.mark.parametrize("travel", [lambda bag: bag, through_the_codec, MessageData.read_only])
def test_what_was_set_is_got_also_after_a_trip(kind: str, expected: object, travel: Callable[[Any], Entries]) -> None:
    bag = travel(full())
    for value in (getter(bag, kind)(kind), getter(bag, kind, attempt=True)(kind)):
        assert value == expected
        assert type(value) is type(expected)
    assert bag == full()


@pytest.mark.parametrize("kind", [kind for kind, _ in GETTERS])
def test_a_missing_entry_raises_a_clear_key_error_or_is_none(kind: str) -> None:
    bag = MessageData().set_str("Name", "x")
    assert getter(bag, kind, attempt=True)("Nom") is None
    with pytest.raises(KeyError) as caught:
        getter(bag, kind)("Nom")
    assert isinstance(caught.value, MissingEntry)
    assert isinstance(caught.value, JobMasterError)
    assert str(caught.value).startswith("MessageData entry 'Nom' is missing; it has 'Name'. Where")


@pytest.mark.parametrize("kind", [kind for kind, _ in GETTERS if kind != "json"])
def test_a_null_counts_as_missing(kind: str) -> None:
    bag = Metadata({"x": None})
    assert getter(bag, kind, attempt=True)("x") is None
    with pytest.raises(MissingEntry, match="Metadata entry 'x' is null"):
        getter(bag, kind)("x")


def test_a_null_is_a_json_value() -> None:
    bag = MessageData().set_json("x", None)
    assert bag.get_json("x") is None
    assert bag.get_json("x", Order) is None
    assert bag.try_get_json("y", Order) is None


COERCED = [
    ("str", 5, "5"), ("str", True, "true"), ("str", False, "false"), ("str", Decimal("1.50"), "1.50"),
    ("str", 1.5, "1.5"), ("str", KEY, str(KEY)), ("str", MOMENT, "2026-01-01T12:00:00+00:00"),
    ("str", "2026-01-01T12:00:00", "2026-01-01T12:00:00"),
    ("int", "42", 42), ("int", " -7 ", -7), ("int", 3.0, 3), ("int", Decimal("4.00"), 4), ("int", True, 1),
    ("float", 2, 2.0), ("float", "2.5", 2.5), ("float", Decimal("0.5"), 0.5), ("float", True, 1.0),
    ("decimal", 2, Decimal(2)), ("decimal", "1.10", Decimal("1.10")), ("decimal", 0.1, Decimal("0.1")),
    ("decimal", True, Decimal(1)),
    ("bool", "TRUE", True), ("bool", "false", False), ("bool", 0, False), ("bool", -1, True), ("bool", 0.0, False),
    ("bool", Decimal("0.1"), True),
    ("datetime", "2026-01-01T12:00:00", MOMENT), ("datetime", "2026-01-01T13:00:00+01:00", MOMENT),
    ("datetime", "2026-01-01T12:00:00Z", MOMENT),
    ("uuid", str(KEY).upper(), KEY), ("uuid", KEY.hex, KEY),
    ("enum", "red", Colour.RED), ("enum", "RED", Colour.RED), ("enum", "Blue", Colour.BLUE),
    ("json", 5, 5), ("json", "x", "x"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "stored", "expected"), COERCED)
def test_an_entry_is_read_as_another_type(kind: str, stored: object, expected: object) -> None:
    bag = MessageData({"x": stored})
    for value in (getter(bag, kind)("x"), getter(bag, kind, attempt=True)("x")):
        assert (value, type(value)) == (expected, type(expected))


REFUSED = [
    ("str", b"x", TypeError),
    ("str", 10**5000, ValueError), ("str", [1], TypeError), ("int", "4.5", ValueError), ("int", 1.5, ValueError),
    ("int", float("nan"), ValueError), ("int", Decimal("Infinity"), ValueError), ("int", "9" * 5000, ValueError),
    ("int", Decimal("1E+999999999"), ValueError), ("int", MOMENT, TypeError), ("int", b"1", TypeError),
    ("float", "x", ValueError), ("float", 10**400, ValueError), ("float", KEY, TypeError), ("decimal", "x", ValueError),
    ("decimal", MOMENT, TypeError), ("bool", "yes", ValueError), ("bool", MOMENT, TypeError), ("bool", [], TypeError),
    ("datetime", "tomorrow", ValueError), ("datetime", 5, TypeError), ("uuid", "x", ValueError), ("uuid", 5, TypeError),
    ("datetime", "0001-01-01T00:00:00+01:00", ValueError),
    ("bytes", "x", TypeError), ("bytes", [1], TypeError), ("enum", "green", ValueError), ("enum", 5, ValueError),
    ("enum", MOMENT, TypeError), ("enum", [1], TypeError),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "stored", "error"), REFUSED, ids=range(len(REFUSED)))
def test_what_cannot_be_read_is_a_typed_error_without_the_value(
    kind: str, stored: object, error: type[Exception]
) -> None:
    bag = MessageData({"x": stored})
    for attempt in (False, True):
        with pytest.raises(error, match=r"^MessageData entry 'x' holds a value of type ") as caught:
            getter(bag, kind, attempt=attempt)("x")
        assert type(caught.value) is error
        assert not (stored in ["tomorrow", "green", "4.5"] and stored in str(caught.value))


def test_enums_by_number_flag_and_name() -> None:
    bag = MessageData().set_enum("level", Level.HIGH).set_enum("rights", Rights.READ | Rights.WRITE)
    bag.set_enum("none", Rights(0)).set_enum("pair", Pair.A).set_int("one", 1)
    assert bag.to_dict() == {"level": 3, "rights": 3, "none": 0, "pair": "A", "one": 1}
    assert bag.get_enum("level", Level) is Level.HIGH
    assert bag.get_enum("rights", Rights) == Rights.READ | Rights.WRITE
    assert bag.get_enum("none", Rights) == Rights(0)
    assert bag.get_enum("pair", Pair) is Pair.A
    assert bag.get_enum("one", Level) is Level.LOW
    with pytest.raises(TypeError, match="cannot be told by its value or name"):
        bag.set_enum("twisted", Twisted.A)


def test_datetimes_are_utc() -> None:
    bag = MessageData().set_datetime("naive", datetime(2026, 1, 1, 12))  # noqa: DTZ001 - what is tested
    bag.set_datetime("berlin", datetime(2026, 1, 1, 13, tzinfo=timezone(timedelta(hours=1))))
    for key in bag:
        assert bag.get_datetime(key) == MOMENT
        assert bag.get_datetime(key).tzinfo is UTC


@pytest.mark.parametrize(
    ("value", "as_type"),
    [(Order(1, MOMENT), Order), (Packet(1), Packet), (Person(name="x"), Person), ([Order(1)], list[Order]),
     ([Person(name="x")], list[Person]), ({"a": Decimal("1.5")}, dict[str, Decimal]), ({KEY}, set[UUID])],
    ids=repr,
)  # fmt: skip
def test_json_restores_the_type_that_is_asked_for(value: object, as_type: Any) -> None:
    bag = through_the_codec(MessageData().set_json("x", value))
    assert bag.get_json("x", as_type) == value
    assert bag.try_get_json("x", as_type) == value


@pytest.mark.parametrize("as_type", [Order, Packet, Person, list[int]])
def test_json_that_does_not_fit_is_a_value_error(as_type: Any) -> None:
    with pytest.raises(ValueError, match="MessageData entry 'x' does not fit") as caught:
        MessageData().set_json("x", {"name": {"p": "s3cret"}}).get_json("x", as_type)
    assert "s3cret" not in str(caught.value)


SETTERS = [
    (lambda bag: bag.set_str("x", 5), TypeError, "takes str, not int"),
    (lambda bag: bag.set_int("x", "5"), TypeError, "takes int, not str"),
    (lambda bag: bag.set_float("x", "5"), TypeError, "takes int or float, not str"),
    (lambda bag: bag.set_decimal("x", 0.1), TypeError, "takes Decimal or int, not float"),
    (lambda bag: bag.set_bool("x", 1), TypeError, "takes bool, not int"),
    (lambda bag: bag.set_datetime("x", "now"), TypeError, "takes datetime, not str"),
    (
        lambda bag: bag.set_datetime("x", datetime.max.replace(tzinfo=timezone(-timedelta(hours=1)))),
        ValueError,
        "years",
    ),
    (lambda bag: bag.set_uuid("x", "now"), TypeError, "takes UUID, not str"),
    (lambda bag: bag.set_bytes("x", "now"), TypeError, "takes bytes or bytearray, not str"),
    (lambda bag: bag.set_enum("x", 1), TypeError, "takes Enum, not int"),
    (lambda bag: bag.set_json("x", object()), TypeError, "type object cannot be stored as JSON"),
    (lambda bag: bag.set_json("x", [{"a": lambda: 1}]), TypeError, "cannot be stored as JSON"),
    (lambda bag: bag.set_str(5, "x"), TypeError, "must be text, not int"),
    (lambda bag: MessageData({"x": object()}), TypeError, "type object cannot be stored"),
    (lambda bag: MessageData({5: "x"}), TypeError, "must be text, not int"),
]


@pytest.mark.parametrize(("call", "error", "words"), SETTERS, ids=range(len(SETTERS)))
def test_a_setter_refuses_the_wrong_type(call: Callable[[Any], object], error: type[Exception], words: str) -> None:
    bag = MessageData()
    with pytest.raises(error, match=words):
        call(bag)
    assert len(bag) == 0


def test_json_that_contains_itself_is_refused() -> None:
    endless: list[object] = []
    endless.append(endless)
    with pytest.raises(ValueError, match="'x' is nested too deeply"):
        MessageData().set_json("x", endless)


def test_a_bag_is_a_mapping_of_copies() -> None:
    inner = {"list": [1]}
    bag = MessageData().set_json("x", inner)
    inner["list"].append(2)
    bag.get_json("x")["list"].append(3)
    bag["x"]["list"].append(4)  # type: ignore[index]  # a dict
    bag.to_dict()["x"]["list"].append(5)  # type: ignore[index]  # a dict
    assert isinstance(bag, Mapping)
    assert (dict(bag), list(bag), len(bag), "x" in bag, "y" in bag) == ({"x": {"list": [1]}}, ["x"], 1, True, False)
    with pytest.raises(KeyError):
        bag["y"]
    assert bag.remove("x").remove("x") == MessageData()


def test_equality_and_read_only_copies() -> None:
    bag = MessageData().set_int("a", 1)
    view = bag.read_only()
    assert view == bag == MessageData({"a": 1}) == Metadata().set_int("a", 1)
    assert bag != MessageData().set_int("a", 2)
    assert bag != {"a": 1}
    bag.set_int("a", 2)
    assert view.get_int("a") == 1
    assert not hasattr(view, "set_int")
    with pytest.raises(TypeError, match="unhashable"):
        hash(bag)


def test_the_repr_is_bounded() -> None:
    bag = MessageData({f"key-{number}": "x" * 10_000 for number in range(100)})
    assert repr(MessageData().set_str("a", "b").set_int("n", 1)) == "MessageData({'a': 'b', 'n': 1})"
    assert len(repr(bag)) < 1_000
    assert repr(bag).endswith(", … 90 more})")
    assert len(repr(MessageData({"a": {str(number): number for number in range(100)}}))) < 200
    assert len(repr(MessageData({"a": 10**5000, "b": [10**5000]}))) < 200


SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.text(st.characters(codec="utf-8")), st.floats(allow_nan=False),
    st.decimals(allow_nan=False), st.uuids(), st.binary(),
    st.datetimes(min_value=datetime(2, 1, 1), max_value=datetime(9998, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001 - bounds
)  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner),
    max_leaves=10,
)


@given(st.dictionaries(st.text(st.characters(codec="utf-8")), SCALARS | JSON))
def test_a_bag_survives_the_codec(entries: dict[str, object]) -> None:
    bag = MessageData(entries)
    assert bag.to_dict() == entries
    assert through_the_codec(bag) == bag
