"""Whatever the grammar allows is answered, in time and in order.

The long run of 100,000, in parts, as hypothesis remembers all that it has tried:
for seed in 0 1 2 3 4 5 6 7 8 9; do NATURAL_EXAMPLES=10000 pytest --timeout 1400 --hypothesis-seed=$seed FILE; done
"""

import os
import time
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobmaster.errors import ScheduleSyntaxError
from jobmaster.schedules.natural.explaining import explain
from jobmaster.schedules.natural.occurrences import Evaluator
from jobmaster.schedules.natural.reading import parse_rules
from tests.schedules.natural.random_expressions import ZONES, expressions

EXAMPLES = int(os.environ.get("NATURAL_EXAMPLES", "1000"))
STEPS = 8
LIMIT_NS = 20_000_000  # processor time of any answer
counted = {"valid": 0, "refused": 0, "slowest": 0, "slowest expression": ""}


def answered(evaluator, at):
    """The next occurrence, and the nanoseconds of processor time that it took."""
    begin = time.thread_time_ns()
    found = evaluator.next_after(at)
    return found, time.thread_time_ns() - begin


@given(
    expressions(),
    st.datetimes(datetime(2000, 1, 1), datetime(2060, 1, 1)),  # noqa: DTZ001 - a wall
    st.sampled_from(["UTC", "UTC", *ZONES]),
    st.sampled_from([0, 0, 1]),
)
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
def answer_in_order(expression, base, zone, fold):
    try:
        rules = parse_rules(expression)
    except ScheduleSyntaxError:
        counted["refused"] += 1
        return
    counted["valid"] += 1
    evaluator = Evaluator(rules)
    at = base.replace(tzinfo=ZoneInfo(rules.zone or zone), fold=fold)
    for _ in range(STEPS):
        found, cost = answered(evaluator, at)
        if cost > LIMIT_NS:  # was it a garbage collection?
            cost = min(answered(Evaluator(rules), at)[1] for _ in range(3))
        if cost > counted["slowest"]:
            counted.update({"slowest": cost, "slowest expression": f"{expression} after {at}"})
        assert cost < LIMIT_NS, (expression, at, cost)
        if found is None:
            break
        assert found.microsecond == 0
        assert found.tzinfo is at.tzinfo
        assert found.astimezone(UTC) > at.astimezone(UTC), (expression, at, found)
        assert found.astimezone(UTC).astimezone(found.tzinfo).replace(tzinfo=None) == found.replace(tzinfo=None)
        at = found
    assert explain(rules).strip(" ,.") == explain(rules)


def test_every_expression_is_answered_at_once_and_in_order():
    answer_in_order()
    print(counted)
    assert counted["valid"] > counted["refused"]
