"""The codec's promise: exactly what went in comes out, or an error says where it sits and what to do."""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import json
import pickle
import sys
import threading
from collections import OrderedDict, deque
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobmaster.errors import ConfigurationError, SerializationError
from jobmaster.wire.codec import Codec
from jobmaster.wire.hints import call_hints
from jobmaster.wire.reading import Reader
from jobmaster.wire.types import TypeRegistry
from jobmaster.wire.writing import Writer

codec = Codec(types=TypeRegistry())
pickling = Codec(types=TypeRegistry(), allow_pickle=True)
BERLIN = ZoneInfo("Europe/Berlin")

TEXT = st.text(alphabet=st.characters(codec="utf-8"))  # NUL and 4-byte characters are in, surrogates are out
INTEGERS = st.one_of(st.integers(), st.integers(-(10**600), 10**600), st.sampled_from([2**63, 2**64, -(2**63) - 1]))
PLAIN = st.recursive(
    st.none() | st.booleans() | INTEGERS | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(TEXT | st.sampled_from(["$", "$tuple"]), inner, max_size=4)
    ),
    max_leaves=20,
)
OFFSETS = st.timedeltas(timedelta(hours=-23), timedelta(hours=23)).map(timezone)
ZONES = st.one_of(
    st.none(), st.just(UTC), OFFSETS, st.sampled_from(["Europe/Berlin", "America/St_Johns", "UTC"]).map(ZoneInfo)
)
HASHABLE = st.one_of(
    st.none(), st.booleans(), INTEGERS, TEXT, st.floats(allow_nan=False), st.binary(),
    st.datetimes(timezones=ZONES), st.dates(), st.times(timezones=ZONES), st.timedeltas(), st.uuids(),
    st.decimals(allow_nan=False),
)  # fmt: skip
ANYTHING = st.recursive(
    HASHABLE | st.sets(HASHABLE, max_size=3) | st.frozensets(HASHABLE, max_size=3) | st.binary().map(bytearray),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(HASHABLE | st.sampled_from(["$", "$set", "$object"]), inner, max_size=4),
    ),
    max_leaves=20,
)


def same(left: object, right: object) -> bool:
    """Equal, and of the same types all the way down; NaN equals NaN."""
    if type(left) is not type(right):
        return False
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict):
        return len(left) == len(right) and all(map(same, left.items(), right.items()))
    if isinstance(left, datetime | time):
        return left == right and left.fold == right.fold and left.isoformat() == right.isoformat()
    if isinstance(left, Decimal):
        return str(left) == str(right)
    return left == right or left != left  # noqa: PLR0124 - NaN


def there_and_back(value: object) -> object:
    data = codec.encode_value(value, "value")
    json.loads(data.decode("utf-8"))  # it is UTF-8 and JSON for everyone else too
    return codec.decode_value(data)


@given(ANYTHING)
def test_a_value_comes_back_equal_and_of_the_same_types(value: object) -> None:
    assert same(there_and_back(value), value)


@given(st.lists(ANYTHING, max_size=3), st.dictionaries(TEXT | st.sampled_from(["$", "$tuple"]), ANYTHING, max_size=3))
def test_a_call_comes_back_with_a_tuple_and_a_dict(args: list[object], kwargs: dict[str, object]) -> None:
    data = codec.encode_call(tuple(args), kwargs)
    assert same(codec.decode_call(data), (tuple(args), kwargs))


@given(PLAIN)
def test_the_fast_path_writes_the_bytes_of_the_walk(value: object) -> None:
    walk = Writer(TypeRegistry(), allow_pickle=False, max_depth=100)
    assert codec.encode_value(value, "value") == msgspec.json.encode(walk.write(value))


@given(ANYTHING)
def test_the_pickling_codec_restores_the_same_values(value: object) -> None:
    assert same(pickling.decode_value(pickling.encode_value(value, "value")), value)


# ruff: noqa: DTZ001, DTZ901 - naive moments are data here, too
HOSTILE = [
    float("nan"), float("inf"), float("-inf"), -0.0, Decimal("NaN"), Decimal("sNaN"), Decimal("-Infinity"),
    2**63, 2**64, -(2**63) - 1, 2**20000, -(2**20000), 10**4299, True, 1, 1.0,
    "a\x00b", "\U0001f600\u202e", "", b"", b"\x00\xff", bytearray(b"x"),
    {}, [], (), set(), frozenset(), ((),), [()], {"": {}},
    {1: "a", 1.5: "b", None: "c", False: "d"}, {(1, 2): {"x": (3,)}}, {"1": 1, 1: 2}, {date(2026, 1, 1): 1},
    {"$": 1}, {"$": {"$": {"$tuple": []}}}, {"$tuple": [1]}, {"$uuid": "x"}, {"$object": ["builtins.int", 1]},
    {"$a": 1, "$b": 2}, {"$pickle": "gASVBAAAAAAAAABLAS4="}, "$5.00", ["$"], {"price": '"$'}, {"\\$": '\\"$'},
    datetime(2026, 10, 25, 2, 30, tzinfo=BERLIN), datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=BERLIN),
    datetime(2026, 3, 29, 2, 30, tzinfo=BERLIN), datetime(2026, 1, 1, fold=1), datetime.min, datetime.max,
    datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=5, seconds=7, microseconds=9))),
    time(1, 2, tzinfo=BERLIN), time(1, 2, 3, 4, fold=1), date.min, timedelta.max, timedelta.min, UUID(int=0),
]  # fmt: skip


@pytest.mark.parametrize("value", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_values_come_back_exactly(value: object) -> None:
    assert same(there_and_back(value), value)
    args, kwargs = codec.decode_call(codec.encode_call((value,), {"$tuple": value}))
    assert list(kwargs) == ["$tuple"]
    assert type(args[0]) is type(kwargs["$tuple"]) is type(value)


def test_a_zone_keeps_its_name_and_another_tzinfo_its_offset() -> None:
    moment = datetime(2026, 7, 1, 12, tzinfo=BERLIN)
    assert there_and_back(moment).tzinfo is BERLIN
    assert there_and_back(moment.astimezone(timezone(timedelta(hours=2), "CEST"))).utcoffset() == timedelta(hours=2)
    assert there_and_back(datetime(2026, 7, 1)).tzinfo is None


def test_plain_payloads_are_never_walked_in_python(monkeypatch: pytest.MonkeyPatch) -> None:
    def walked(*args: object) -> None:
        raise AssertionError(args)

    monkeypatch.setattr(Writer, "write", walked)
    monkeypatch.setattr(Reader, "read", walked)
    kwargs = {"name": "John", "items": [{"n": 1, "price": 1.5, "tags": ["a", None, True]}], "empty": {}}
    hints = call_hints(lambda name, items: None)
    assert codec.decode_call(codec.encode_call((1, "x"), kwargs), hints) == ((1, "x"), kwargs)
    assert codec.decode_value(codec.encode_value(kwargs, "value"), dict[str, object]) == kwargs
    with pytest.raises(AssertionError):
        codec.encode_value((1,), "value")


def test_equal_sets_are_equal_bytes() -> None:
    left, right = set([0, 8]), set([8, 0])  # noqa: C405 - the order of insertion matters where hashes collide
    assert list(left) != list(right)
    assert codec.encode_value(left, "x") == codec.encode_value(right, "x")


def test_subclasses_that_nobody_registered_travel_as_what_they_extend() -> None:
    class Celsius(float):
        pass

    class Moment(datetime):
        pass

    class Name(str):
        __slots__ = ()

    value = [Celsius(1.5), OrderedDict(a=1), Moment(2026, 1, 1), Name("x"), {Name("k"): 1}]
    assert same(there_and_back(value), [1.5, {"a": 1}, datetime(2026, 1, 1), "x", {"k": 1}])


class Colour(enum.Enum):
    RED = 1


@dataclasses.dataclass
class Line:
    value: object


@dataclasses.dataclass
class Order:
    orders: list[object]


CYCLE: list[object] = []
CYCLE.append({"again": CYCLE})


def nested(levels: int) -> list[object]:
    value: list[object] = []
    for _ in range(levels - 1):
        value = [value]
    return value


REFUSED = [
    # value, path, words of the message
    (object(), "", ["object", "register_type"]),
    ({"a": [1, {"b": threading.Lock()}]}, '["a"][1]["b"]', ["_thread.lock", "plain data"]),
    (Order([1, {"x": deque()}]), '.orders[1]["x"]', ["collections.deque", "list(...)"]),
    (MappingProxyType({}), "", ["mappingproxy", "dict(...)"]),
    ({"p": Path("x")}, '["p"]', ["str(path)"]),
    ((1, {2: 3j}), "[1][2]", ["complex"]),
    ([lambda: 1], "[0]", ["function"]),
    (["\ud800"], "[0]", ["surrogate", "os.fsencode"]),
    ({"k\udfff": 1}, '["k\\udfff"]', ["surrogate"]),
    ({("a", 1): object()}, "[<tuple>]", ["object"]),
    ({'say "hi"': object()}, '["say \\"hi\\""]', ["object"]),
    ({Line(1).__class__: 1}, "[<type>]", ["type"]),
    (CYCLE, "", ["100 levels", "containing itself"]),
    (nested(101), "", ["100 levels"]),
    (nested(100_000), "", ["100 levels"]),
    ([Line(object())], "[0].value", ["object"]),
]


@pytest.mark.parametrize(("value", "path", "words"), REFUSED, ids=range(len(REFUSED)))
def test_a_refusal_names_the_path_the_type_and_what_to_do(value: object, path: str, words: list[str]) -> None:
    for encode, root in (
        (lambda: codec.encode_call((0, value), {}), "args[1]"),
        (lambda: codec.encode_call((), {"order": value}), 'kwargs["order"]'),
        (lambda: codec.encode_value(value, "result"), "result"),
    ):
        with pytest.raises(SerializationError) as caught:
            encode()
        text = str(caught.value)
        assert text.startswith(root + path)
        assert all(word in text for word in words), text
        assert len(text) < 500


@pytest.mark.parametrize("wrap", [lambda inner: [inner], lambda inner: (inner,), lambda inner: {1: inner}, Line])
def test_the_deepest_allowed_value_comes_back(wrap: object) -> None:
    deep: object = 1
    for _ in range(100):
        deep = wrap(deep)
    codec.decode_value(codec.encode_value(deep, "value"))
    codec.decode_call(codec.encode_call((deep,), {"x": deep}))
    with pytest.raises(SerializationError, match="100 levels"):
        codec.encode_value(wrap(deep), "value")
    with pytest.raises(SerializationError, match="100 levels"):
        codec.encode_call((), {"x": wrap(deep)})


def test_a_caller_without_stack_gets_the_typed_error() -> None:
    seen: list[type[BaseException]] = []

    def dig() -> None:
        try:
            codec.encode_value([(nested(90),)], "value")
        except SerializationError as error:
            seen.append(type(error))
            return
        dig()

    dig()
    assert seen == [SerializationError]


def test_names_of_arguments_must_be_text() -> None:
    with pytest.raises(SerializationError, match=r"kwargs\[1\]: the name of an argument"):
        codec.encode_call((), {1: 2})  # type: ignore[dict-item]  # what is tested


DAMAGED = [
    b"", b"null", b"{}", b"[]", b"[[]]", b"[[],[]]", b"[[],{},1]", b"\xff", b'[["\xed\xa0\x80"],{}]', b"[[NaN],{}]",
    b"[" * 100_000, b'[["\\ud800"],{}]',
    *(
        b'[[{"%s":%s}],{}]' % (tag, inner)
        for tag in (b"$tuple", b"$set", b"$map", b"$object", b"$", b"$uuid", b"$datetime", b"$time", b"$bytes", b"$int",
                    b"$timedelta", b"$decimal", b"$date", b"$float", b"$frozenset", b"$pickle", b"$bytearray")
        for inner in (b"null", b'"x y"', b'{"a":1}', b'[["x"],{}]', b"[1]")
        if (tag, inner) not in {(b"$", b'{"a":1}'), (b"$tuple", b"[1]"), (b"$set", b"[1]"), (b"$frozenset", b"[1]"),
                                (b"$tuple", b'[["x"],{}]')}
    ),
    b'[[{"$tomorrow":1}],{}]', b'[[{"$map":[[[],1]]}],{}]', b'[[{"$set":[[]]}],{}]',
    b'[[{"$datetime":"2026-01-01T00:00:00[../../etc/passwd]"}],{}]',
    b'[[{"$datetime":"2026-01-01T00:00:00[Mars/Olympus]"}],{}]',
    b"[[" + b'{"$tuple":[' * 300 + b"]}" * 300 + b"],{}]",
]  # fmt: skip


@pytest.mark.parametrize("data", DAMAGED, ids=range(len(DAMAGED)))
def test_damaged_bytes_are_a_typed_error(data: bytes) -> None:
    with pytest.raises(SerializationError) as caught:
        codec.decode_call(data)
    assert len(str(caught.value)) < 500


@given(st.binary(max_size=60) | TEXT.map(str.encode) | PLAIN.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_a_value_or_a_typed_error(data: bytes) -> None:
    with contextlib.suppress(SerializationError):
        codec.decode_value(data)


class Touched:
    """Writes down that it was unpickled."""

    calls = 0

    def __init__(self) -> None:
        self.number = 7

    def __setstate__(self, state: dict[str, object]) -> None:
        Touched.calls += 1
        self.__dict__.update(state)


def test_pickle_works_in_both_directions_only_with_permission() -> None:
    data = pickling.encode_call((Touched(),), {"lock": [Colour.RED, "\ud800"]})
    before = Touched.calls
    with pytest.raises(SerializationError, match=r"args\[0\]: .*allow_pickle=True"):
        codec.decode_call(data)
    assert Touched.calls == before
    args, kwargs = pickling.decode_call(data)
    assert (args[0].number, kwargs) == (7, {"lock": [Colour.RED, "\ud800"]})
    with pytest.raises(SerializationError, match="cannot travel"):
        codec.encode_call((Touched(),), {})


def test_what_cannot_be_pickled_or_unpickled_is_a_typed_error() -> None:
    with pytest.raises(SerializationError, match=r'kwargs\["lock"\]: .*cannot be pickled'):
        pickling.encode_call((), {"lock": threading.Lock()})
    broken = b'[[{"$pickle":"%s"}],{}]' % __import__("base64").b64encode(pickle.dumps([1])[:-3])
    with pytest.raises(SerializationError, match=r"args\[0\]: .*cannot be unpickled"):
        pickling.decode_call(broken)


@pytest.mark.parametrize("depth", [0, -1, 151])
def test_a_depth_out_of_range_is_refused(depth: int) -> None:
    with pytest.raises(ConfigurationError, match="between 1 and 150"):
        Codec(types=TypeRegistry(), max_depth=depth)


def test_the_deepest_setting_survives_the_default_recursion_limit() -> None:
    assert sys.getrecursionlimit() >= 1000
    deep: object = 1
    for _ in range(150):
        deep = {1: deep}
    deepest = Codec(types=TypeRegistry(), max_depth=150)
    assert same(deepest.decode_value(deepest.encode_value(deep, "value")), deep)
