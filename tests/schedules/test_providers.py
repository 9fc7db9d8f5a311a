"""Languages of schedules: those of JobMaster, and those that users add."""

from __future__ import annotations

import functools
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import ClassVar
from zoneinfo import ZoneInfo

import pytest

from jobmaster.errors import ConfigurationError, ScheduleSyntaxError
from jobmaster.schedules import (
    Cron,
    Dates,
    Every,
    Expression,
    Interval,
    NaturalCron,
    Never,
    compile_expression,
    expression_of,
    occurrences,
    providers,
    register_provider,
)

BERLIN = ZoneInfo("Europe/Berlin")
START = datetime(2026, 11, 22, 8, 0, tzinfo=UTC)


@dataclass(frozen=True)
class Lunar:
    """A language of a user: whole days of a number of hours."""

    type_id: ClassVar[str] = "Lunar"
    text: str
    zone: ZoneInfo | None = None
    is_phased: ClassVar[bool] = True

    def in_zone(self, zone: ZoneInfo) -> Lunar:
        return Lunar(self.text, zone)

    def next_after(self, moment: datetime) -> datetime | None:
        return moment + timedelta(hours=int(self.text))

    def has_ended(self, moment: datetime) -> bool:
        return False

    def explain(self) -> str:
        return f"every {self.text} hours of the moon"


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, providers.Compile]]:
    known: dict[str, providers.Compile] = {}
    monkeypatch.setattr(providers, "_registered", known)
    return known


# --- what is stored


@pytest.mark.parametrize(
    "rule",
    [
        NaturalCron.parse("every day between mon and fri at 18:00"),
        NaturalCron.parse("every day at 9:00 tz Europe/Berlin"),
        Cron("0 3 * * *"),
        Cron("*/10 30 2 L * ?"),
        Interval(90),
        Interval(timedelta(days=2, milliseconds=1), anchor=START),
        Dates([START, START + timedelta(days=1)]),
        Never(),
    ],
    ids=repr,
)
def test_type_id_and_text_give_an_equal_rule(rule: Expression):
    again = compile_expression(rule.type_id, rule.text)
    assert again == rule
    assert again.text == rule.text
    assert again.next_after(START) == rule.next_after(START)
    assert compile_expression(rule.type_id, rule.text, "Europe/Berlin") == rule.in_zone(BERLIN)


@pytest.mark.parametrize(
    "text",
    [
        "every day between mon and fri at 18:00",
        "every 1 hour between 09:00 and 18:00",
        "every 1 minutes",
        "every 1 minute",
        "every 5 seconds",
        "every 10 seconds",
    ],
)
def test_the_texts_of_the_net_system_are_read(text):
    assert compile_expression("NaturalCron", text).next_after(START) is not None
    assert compile_expression("TimeSpanInterval", "00:00:05").next_after(START) == START + timedelta(seconds=5)
    assert compile_expression("Never-Recurs", "").has_ended(START)


def test_hashed_cron_is_hashed_by_the_schedule():
    found = {compile_expression("Cron", "H H * * *", hash_id=f"schedule {n}").explain() for n in range(50)}
    assert len(found) > 40


@pytest.mark.parametrize(
    ("type_id", "text"),
    [
        ("Cron", "61 * * * *"),
        ("TimeSpanInterval", "5m"),
        ("Dates", "never"),
        ("NaturalCron", "evry day"),
        ("Never-Recurs", "x"),
    ],
)
def test_a_text_that_cannot_be_read_is_shown(type_id, text):
    with pytest.raises(ScheduleSyntaxError) as caught:
        compile_expression(type_id, text)
    assert text in str(caught.value)


def test_an_unknown_language_names_the_known_ones_and_the_way_to_more():
    register_provider("Lunar", Lunar)
    with pytest.raises(ConfigurationError, match="did you mean 'NaturalCron'") as caught:
        compile_expression("naturalcron", "every day")
    assert "NaturalCron, Cron, TimeSpanInterval, Dates, Never-Recurs, Lunar" in str(caught.value)
    assert "register_provider(type_id, compile)" in str(caught.value)


def test_an_unknown_zone_is_refused_with_what_may_be_meant():
    with pytest.raises(ConfigurationError, match="did you mean 'Asia/Tokyo'"):
        compile_expression("Cron", "0 3 * * *", "Asia/Tokio")
    assert compile_expression("Cron", "0 3 * * *", " asia/tokyo ").zone == ZoneInfo("Asia/Tokyo")
    for zone in (
        "",
        "Mars/Base",
        "localtime",
        "right/Europe/Berlin",
        "x" * 10_000,
        "../../etc/passwd",
        "Europe",
        "Europe/Berlin\0",
    ):
        with pytest.raises(ConfigurationError, match="no time zone"):
            compile_expression("Cron", "0 3 * * *", zone)


# --- languages of users


def test_a_language_can_be_added():
    register_provider("Lunar", Lunar)
    rule = compile_expression("Lunar", "25", "Europe/Berlin")
    assert (rule, rule.zone) == (Lunar("25", BERLIN), BERLIN)
    assert next(occurrences(rule, START)) == START + timedelta(hours=25)
    assert expression_of(("Lunar", "25")) == expression_of(Lunar("25")) == Lunar("25")
    assert isinstance(rule, Expression)


def test_it_is_added_once():
    register_provider("Lunar", Lunar)
    register_provider("Lunar", Lunar)
    with pytest.raises(ConfigurationError, match="registered already"):
        register_provider("Lunar", lambda text: Lunar(text))  # noqa: PLW0108 - another function on purpose


@pytest.mark.parametrize("type_id", ["", " Lunar", "x" * 101, "Cron", "NaturalCron", "Never-Recurs"])
def test_its_name_must_be_usable_and_free(type_id):
    with pytest.raises(ConfigurationError, match=r"type id|language of JobMaster"):
        register_provider(type_id, Lunar)


@pytest.mark.parametrize("compile", [None, "Lunar", lambda: Lunar("1"), lambda text, zone: Lunar(text)])
def test_a_provider_takes_the_text_alone(compile):
    with pytest.raises(ConfigurationError, match=r"compile\(text\) -> Expression"):
        register_provider("Lunar", compile)


@pytest.mark.fault("S6")
def test_a_provider_that_fails_is_a_configuration_error_with_its_cause():
    register_provider("Lunar", lambda text: Lunar(str(int(text))))
    with pytest.raises(
        ConfigurationError, match="the provider of 'Lunar' failed for 'soon': ValueError: invalid"
    ) as caught:
        compile_expression("Lunar", "soon")
    assert isinstance(caught.value.__cause__, ValueError)


def test_a_provider_may_say_itself_what_is_wrong():
    def refuse(text: str) -> Expression:
        raise ScheduleSyntaxError("no moon", 2, text=text)

    register_provider("Lunar", refuse)
    with pytest.raises(ScheduleSyntaxError, match="no moon"):
        compile_expression("Lunar", "soon")


class Half:
    type_id = "Half"
    text = ""

    def next_after(self, moment: datetime) -> datetime | None:
        return moment


class Wrong(Lunar):
    def next_after(self) -> datetime | None:
        return None


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (None, "NoneType has no type_id, text, zone"),
        (Half(), "Half has no zone, is_phased, in_zone, has_ended, explain"),
        (Wrong("1"), "Wrong.next_after must be a method of 1 argument"),
        (Cron("0 3 * * *"), "type_id is 'Cron'"),
    ],
)
def test_what_is_no_rule_is_refused_with_what_it_lacks(given, words):
    register_provider("Lunar", lambda text: given)
    with pytest.raises(ConfigurationError) as caught:
        compile_expression("Lunar", "1")
    assert words in str(caught.value)


# --- what users write


@pytest.mark.parametrize(
    ("value", "rule"),
    [
        ("every day at 9:00", NaturalCron.parse("every day at 9:00")),
        (Cron("0 3 * * *"), Cron("0 3 * * *")),
        (timedelta(minutes=5), Interval(300)),
        (("NaturalCron", "every 1 minutes"), NaturalCron.parse("every 1 minutes")),
        (["TimeSpanInterval", "00:05:00"], Interval(300)),
        (START, Dates([START])),
        ([START, START + timedelta(1)], Dates([START, START + timedelta(1)])),
        ((START,), Dates([START])),
        (Never(), Never()),
        (Every(30).minutes().between("09:00", "18:00"), NaturalCron.parse("every 30 minutes between 09:00 and 18:00")),
    ],
    ids=repr,
)
def test_a_schedule_can_be_written_in_many_ways(value, rule):
    assert expression_of(value) == rule
    assert expression_of(value, "Europe/Berlin") == rule.in_zone(BERLIN)


def test_a_zone_of_its_own_wins():
    tokyo = Cron("0 3 * * *", "Asia/Tokyo")
    assert expression_of(tokyo, "Europe/Berlin") == tokyo
    named = expression_of("every day at 9:00 tz Asia/Tokyo", "Europe/Berlin")
    assert named.zone == ZoneInfo("Asia/Tokyo")


@pytest.mark.parametrize(
    "value", [None, 5, 2.5, b"every day", [], (), ["a", "b", "c"], object(), Cron, {}, [START, "x"]]
)
def test_anything_else_is_refused(value):
    with pytest.raises(ConfigurationError):
        expression_of(value)


def test_an_incomplete_rule_is_refused_with_what_it_lacks():
    with pytest.raises(ConfigurationError, match="has no zone, is_phased"):
        expression_of(Half())


def test_cron_in_the_place_of_natural_cron_is_told():
    with pytest.raises(ScheduleSyntaxError, match=r"write Cron\('\*/5 \* \* \* \*'\)"):
        expression_of("*/5 * * * *")
    with pytest.raises(ScheduleSyntaxError) as caught:
        expression_of("evry day at 9:00")
    assert "write Cron(" not in str(caught.value)


# --- imports


def test_parsers_are_loaded_where_they_are_used():
    script = """
import sys
from datetime import timedelta
import jobmaster.schedules as schedules
heavy = {"lark", "croniter", "dateutil"}
assert not heavy & sys.modules.keys(), "at import"
schedules.expression_of(timedelta(minutes=5)); schedules.compile_expression("Never-Recurs", "")
assert not heavy & sys.modules.keys(), "intervals"
schedules.Cron("0 3 * * *")
assert "croniter" in sys.modules and "lark" not in sys.modules, "cron"
schedules.compile_expression("NaturalCron", "every day")
assert "lark" in sys.modules
assert set(schedules.__all__) <= set(dir(schedules))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_no_other_name_is_there():
    with pytest.raises(AttributeError, match="no attribute 'Sometimes'"):
        functools.reduce(getattr, ["Sometimes"], __import__("jobmaster.schedules", fromlist=["x"]))
