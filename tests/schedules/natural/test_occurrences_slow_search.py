"""The evaluator against one that looks at every moment."""

import os
from datetime import UTC, datetime

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from jobmaster.errors import ScheduleSyntaxError
from jobmaster.schedules.natural.occurrences import Evaluator
from jobmaster.schedules.natural.reading import parse_rules
from tests.schedules.natural import case_files
from tests.schedules.natural.random_expressions import expressions
from tests.schedules.natural.slow_search import SlowSearch

MOST = 12
EXAMPLES = int(os.environ.get("NATURAL_EXAMPLES", "1000"))


def assert_the_same(expression: str, base: datetime) -> bool:
    """Compares as far as the slow one looks; False: it does not know this kind of rule."""
    rules = parse_rules(expression)
    try:
        slow = SlowSearch(rules, base)
    except NotImplementedError:
        return False
    evaluator = Evaluator(rules)
    at = base
    expected = list(slow.series(MOST))
    for wall in expected:
        found = evaluator.next_after(at.replace(tzinfo=UTC))
        assert found == wall.replace(tzinfo=UTC), (expression, at)
        at = wall
    if len(expected) < MOST:
        found = evaluator.next_after(at.replace(tzinfo=UTC))
        assert found is None or found > slow.until.replace(tzinfo=UTC), (expression, at)
    return True


@given(expressions(zones=False), st.datetimes(datetime(2023, 1, 1), datetime(2030, 1, 1)))  # noqa: DTZ001 - a wall
@settings(max_examples=max(100, EXAMPLES // 10), deadline=None, suppress_health_check=list(HealthCheck))
def test_it_finds_what_a_search_through_all_moments_finds(expression, base):
    try:
        parse_rules(expression)
    except ScheduleSyntaxError:
        assume(False)
    assume(assert_the_same(expression, base.replace(microsecond=0)))


def test_our_own_cases_are_what_a_search_through_all_moments_finds():
    known = [
        assert_the_same(case.expression, case.base)
        for case in case_files.occurrences("own.txt")
        if case.zone is UTC and " tz " not in f" {case.expression.lower()} "
    ]
    assert sum(known) >= 200
