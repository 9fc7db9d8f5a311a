"""What the races and sleep flags on PostgreSQL rest on: with one part taken away, the test of that race fails."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from jobmaster.stores.sql.postgresql import accept, late_commits, read, sleepers
from tests.conformance.mutants import Patch, both, instead, text
from tests.engine import test_postgresql_flags as flags
from tests.engine import test_postgresql_races as races

pytestmark = pytest.mark.backend("postgresql")

BEGUN = "age(pg_snapshot_xmin(s.snapshot)::xid)"
IN_SNAPSHOT = "pg_snapshot_xmax(s.snapshot)::text::bigint - pg_snapshot_xmin(s.snapshot)::text::bigint"


def _settled(*_: Any) -> bool:
    return False


WITHOUT: dict[str, tuple[Patch, Any]] = {
    "transactions that began after the last that ended": (
        both(text(read, "READ", BEGUN, IN_SNAPSHOT), text(read, "BELOW", BEGUN, IN_SNAPSHOT)),
        races.test_a_late_message_of_the_youngest_transaction_is_expected_too,
    ),
    "reads that say that they are unsettled": (
        instead(late_commits.Floor, "read", _settled),
        races.test_a_message_that_commits_after_a_later_one_was_read_is_found_below_the_cursor,
    ),
    "marks that settle by time": (
        instead(late_commits.Floor, "_over", staticmethod(lambda mark, seen, _: seen.xmin >= mark.horizon)),
        races.test_a_transaction_held_open_by_somebody_does_not_keep_reads_unsettled_for_ever,
    ),
    "a look that begins at the floor": (
        instead(late_commits.Floor, "begin", lambda _, cursor, **__: cursor),
        races.test_a_message_that_commits_after_a_later_one_was_read_is_found_below_the_cursor,
    ),
    "the notification": (
        both(
            text(accept, "FAST", "CASE WHEN NOT pg_try", "CASE WHEN false AND NOT pg_try"),
            text(accept, "ONCE", "CASE WHEN NOT pg_try", "CASE WHEN false AND NOT pg_try"),
            text(accept, "SINGLE", "CASE WHEN NOT pg_try", "CASE WHEN false AND NOT pg_try"),
        ),
        flags.test_a_sleeping_owner_costs_no_statement_and_wakes_at_once,
    ),
    "the read after the flag is up": (
        instead(sleepers.Sleepers, "raised", lambda self, bucket, **_: setattr(self._sleepers[bucket], "raised", True)),
        flags.test_a_push_between_the_last_read_and_the_flag_is_found_by_the_read_after_it,
    ),
    "flags that go down under load": (
        instead(sleepers._Sleeper, "quick", lambda *_: False),
        flags.test_under_load_hardly_anybody_notifies_and_afterwards_the_owner_sleeps,
    ),
}


@pytest.mark.parametrize("part", WITHOUT)
def test_without_it_the_race_is_lost(part: str, postgres_database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    patch, race = WITHOUT[part]
    arguments: dict[str, Any] = {"postgres_database": postgres_database}
    if "monkeypatch" in race.__code__.co_varnames[: race.__code__.co_argcount]:
        arguments["monkeypatch"] = monkeypatch
    with patch(), pytest.raises((AssertionError, TimeoutError, ExceptionGroup)):
        asyncio.run(race(**arguments))
