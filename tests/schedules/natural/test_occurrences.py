"""What follows what: the public cases of the language, the table of its specification, and our own."""

import gc
import itertools
import statistics
import time
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from jobmaster.schedules import NaturalCron
from jobmaster.schedules.natural.occurrences import Evaluator
from jobmaster.schedules.natural.reading import parse_rules
from tests.schedules.natural import case_files
from tests.schedules.natural.case_files import Case

PUBLISHED = case_files.published_occurrences()
SEMANTICS = case_files.occurrences("semantics.txt")
OWN = case_files.occurrences("own.txt")
COMMON = (
    "every 5 seconds",
    "every 30 minutes",
    "every 30 minutes between 9:00 and 18:00",
    "every hour at minute 15",
    "every day at 9:00",
    "every day between mon and fri at 18:00",
    "every 2 weeks on [monday, friday] at 9:00",
    "every month on LastFri at 17:00",
    "every year on jul-04 at 12:00",
)


def follow(case: Case, expression: str) -> list[datetime | None]:
    rules = parse_rules(expression)
    evaluator = Evaluator(rules)
    zone = ZoneInfo(rules.zone) if rules.zone else case.zone
    at = case.base.replace(tzinfo=case.zone)
    results: list[datetime | None] = []
    for _ in case.expected:
        found = evaluator.next_after(at.astimezone(zone))
        if found is None:
            results.append(None)
            break
        at = found.astimezone(case.zone)
        results.append(at.replace(tzinfo=None))
    return results


@pytest.mark.parametrize("case", PUBLISHED, ids=lambda case: case.id)
def test_every_public_case_holds_with_and_without_at_signs(case):
    expected = list(case.expected)
    assert follow(case, case.expression) == expected
    assert follow(case, case.expression.replace("@", " ")) == expected


@pytest.mark.parametrize("case", SEMANTICS, ids=lambda case: case.expression)
def test_every_row_of_the_specification_holds(case):
    assert follow(case, case.expression) == list(case.expected)


@pytest.mark.parametrize("case", OWN, ids=lambda case: f"{case.id}: {case.expression}")
def test_our_own_cases_hold(case):
    assert follow(case, case.expression) == list(case.expected)


def test_there_are_as_many_cases_as_we_promise():
    assert len(OWN) >= 300
    assert len(SEMANTICS) >= 60


@pytest.mark.parametrize(
    "expression",
    [
        "every 1 second on Feb 30th",
        "every second on 31st in [apr, jun, sep, nov]",
        "on Feb 30th at 10:00",
        "every 999999999 seconds on Feb 30th",
        "every 7 minutes on 5thMon + 1 in feb between 1st and 28th",
        "every year on Feb 30th",
        "every 2 weeks on monday at 9:00 between 2019-01-01 and 2019-12-31",
        "every minute at 2020-02-29 on monday",
        "every 1000000 years",
        "every second at [2001-01-01 10:00, 2002-01-01 10:00]",
        "every 2 years anchoredOn 2025 on Feb 29th",
        "every second between year 2030 and year 2031 on Feb 29th",
    ],
)
def test_what_never_happens_is_recognised_at_once(expression):
    rules = parse_rules(expression)
    gc.disable()  # what all tests before have left is not looked through just now
    try:
        begin = time.thread_time()
        assert Evaluator(rules).next_after(datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)) is None
        assert time.thread_time() - begin < 0.05
    finally:
        gc.enable()


def test_a_29_february_on_a_friday_is_found_decades_away():
    found = Evaluator(parse_rules("every second on Feb 29th on friday")).next_after(datetime(2037, 1, 1, tzinfo=UTC))
    assert found == datetime(2064, 2, 29, tzinfo=UTC)


@pytest.mark.alone
@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin"])
def test_the_next_occurrence_of_a_common_form_costs_less_than_50_microseconds(zone):
    """In processor time; benchmarks/schedules.py has the distribution over all published cases."""
    for text in COMMON:
        rule, costs = NaturalCron.parse(text, tz=zone), []
        at = datetime(2026, 3, 4, 5, 6, 7, tzinfo=ZoneInfo(zone))
        for _ in range(200):
            before = time.process_time_ns()
            at = rule.next_after(at)
            costs.append(time.process_time_ns() - before)
        assert statistics.median(costs) < 50_000, text


def test_the_calendar_ends_without_an_error():
    last = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
    for expression in ("every second", "every day", "every month", "every 2 years", "at 9:00", "every week on monday"):
        assert Evaluator(parse_rules(expression)).next_after(last) is None
    berlin = datetime(9999, 12, 31, 23, 30, tzinfo=ZoneInfo("America/New_York"))
    assert Evaluator(parse_rules("every 45 minutes")).next_after(berlin) is None


def test_the_calendar_begins_without_an_error():
    first = datetime(1, 1, 1, tzinfo=UTC)
    assert Evaluator(parse_rules("every day at 9:00")).next_after(first) == datetime(1, 1, 1, 9, tzinfo=UTC)


def test_a_moment_without_a_zone_is_refused():
    with pytest.raises(ValueError, match="no time zone"):
        Evaluator(parse_rules("every day")).next_after(datetime(2026, 1, 1))  # noqa: DTZ001 - a wall


@pytest.mark.parametrize(
    ("expression", "phased"),
    [
        ("every day at 9:00", False),
        ("at 9:00", False),
        ("every second", False),
        ("every hour at minute 30", False),
        ("every week on [monday, friday] at 9:00", False),
        ("every monday at 9:00", False),
        ("every month on LastFri", False),
        ("every year on jul-04", False),
        ("every 15 minutes anchoredAt 0 at second 0", False),
        ("every day between monday and friday at 18:00", False),
        ("every 90 minutes", True),
        ("every minute", True),
        ("every day", True),
        ("every 2 days at 9:00", True),
        ("every week at 9:00", True),
        ("every month at 9:00", True),
        ("every 2 weeks on monday at 9:00", True),
        ("every day between 9:00 and 10:00", True),
        ("every 30 minutes between 9:00 and 18:00", True),
    ],
)
def test_a_rule_knows_whether_it_depends_on_the_match_before(expression, phased):
    assert Evaluator(parse_rules(expression)).is_phased is phased


@pytest.mark.parametrize("expression", [case.expression for case in itertools.chain(PUBLISHED, SEMANTICS, OWN)])
def test_what_is_not_phased_gives_the_same_from_any_moment_before(expression):
    rules = parse_rules(expression)
    evaluator = Evaluator(rules)
    if evaluator.is_phased:
        return
    zone = ZoneInfo(rules.zone or "UTC")
    found = evaluator.next_after(datetime(2025, 5, 17, 11, 22, 33, tzinfo=zone))
    if found is None:
        return
    for before in (timedelta(seconds=1), timedelta(seconds=59), timedelta(hours=5), timedelta(days=40)):
        nearer = max(found - before, datetime(2025, 5, 17, 11, 22, 33, tzinfo=zone))
        assert evaluator.next_after(nearer) == found
