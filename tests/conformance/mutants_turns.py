"""Stores that decide wrongly whose turn it is: a rule that all of them ask, or a statement of one dialect."""

from __future__ import annotations

from typing import Any

from jobmaster.model.job import with_expiry
from jobmaster.model.schedule import Overlap
from jobmaster.rules import overlap
from jobmaster.rules.overlap import Others
from jobmaster.stores.memory.occurrences import Occurrences
from jobmaster.stores.memory.runs import Runs
from jobmaster.stores.sql.postgresql import turns as postgresql_turns
from jobmaster.stores.sql.postgresql.turns import Turns
from jobmaster.stores.sql.sqlite import start as sqlite_start
from jobmaster.stores.sql.sqlite import turns as sqlite_turns
from tests.conformance.mutants import Mutant, Patch, instead, nothing, text

EACH = ("memory", "sqlite", "postgresql")
MEMORY, SQLITE, POSTGRESQL = ("memory",), ("sqlite",), ("postgresql",)


def mutant(guard: str, noticed_by: str, patch: Patch, adapters: tuple[str, ...], **given: Any) -> Mutant:
    return Mutant(guard, noticed_by, adapters, patch=patch, arguments=given)


def never(*_: Any, **__: Any) -> bool:
    return False


def always(*_: Any, **__: Any) -> bool:
    return True


_turn = overlap.turn


def told_of(*, limit: int | None = None, holder: dict[str, Any] | None = None, **others: Any) -> Patch:
    """The rule is told something else about the one that has the turn, or about those that wait."""

    def turn(envelope: Any, found: Any, waiting: Others, **given: int) -> Any:
        seen = found._replace(**holder) if found is not None and holder else found
        return _turn(envelope, seen, waiting._replace(**others), limit=given["limit"] if limit is None else limit)

    return instead(overlap, "turn", turn)


SKIPPED = "test_turns.test_one_that_meets_an_earlier_one_is_skipped"
WAITS = "test_turns.test_one_that_waits_has_its_turn_when_the_earlier_one_has_ended"
EARLIEST = "test_turns.test_the_earliest_of_those_that_wait_is_due_at_once"
TAKEN_BACK = "test_turns.test_one_that_waits_in_the_memory_of_an_owner_is_taken_back_for_its_turn"
CANCELLED = "test_turns.test_a_cancelled_waiting_one_does_not_have_a_turn"
EARLY = "test_turns.test_early_rows_ask_for_no_turn"
NEWER = "test_turn_order.test_an_older_one_does_not_cancel_a_newer_one"
LATEST = "test_turn_order.test_the_latest_of_those_that_wait_goes_and_the_others_are_skipped"
LATER = "test_turn_order.test_one_that_asks_while_a_later_one_waits_is_skipped"
BACKFILLED = "test_turn_order.test_a_backfilled_run_is_not_superseded"
LIMIT = "test_turn_order.test_a_queue_has_an_end"
MOVED = "test_turn_order.test_one_that_was_given_another_time_holds_nobody_up"
PASSED = "test_turn_order.test_one_that_was_given_another_time_is_not_before_anybody"
LANES = "test_turn_order.test_one_that_waits_in_another_lane_holds_nobody_up"
MISFIRE = "test_turn_order.test_its_misfire_policy_is_done_with_one_that_waits"
USERS = "test_turn_order.test_what_the_user_said_counts_for_one_that_waits"
EXPIRED = "test_turn_order.test_one_that_has_expired_is_not_let_go"

RULES = [
    mutant(
        "nobody is passed over",
        "test_turns.test_a_later_one_waits_for_an_earlier_one_that_waits",
        told_of(before=False),
        EACH,
    ),
    mutant("a newer one is not cancelled", NEWER, told_of(holder={"at_us": 0}), EACH),
    mutant("a newer one that waits", LATER, told_of(after=False), EACH),
    mutant("a backfilled one is not cancelled", BACKFILLED, told_of(holder={"is_extra": False}), EACH),
    mutant("a queue's limit", LIMIT, told_of(limit=1_000_000), EACH),
    mutant("who waits already stays", LIMIT, told_of(is_marked=False), MEMORY),
    mutant(
        "a run that will not come bars nobody",
        "test_turn_order.test_a_run_that_a_person_repeats_later_holds_nobody_up",
        instead(overlap, "bars", always),
        EACH,
    ),
    mutant(
        "a run without a task bars nobody",
        "test_turn_order.test_a_run_whose_task_nobody_has_any_more_holds_nobody_up",
        instead(overlap, "bars", always),
        EACH,
    ),
    mutant(
        "who waits is not missed",
        MISFIRE,
        instead(overlap, "patient", lambda envelope, payload, _: (envelope.expires_us, payload)),
        EACH,
    ),
    mutant(
        "the user's expiry counts",
        USERS,
        instead(overlap, "patient", lambda _, payload, __: (None, with_expiry(payload, None))),
        EACH,
    ),
    mutant("the latest goes", LATEST, instead(overlap, "let_go", lambda _, waiting: (waiting[:1], [])), EACH),
    mutant("one of each lane goes", LANES, instead(overlap, "let_go", lambda _, waiting: (waiting[:1], [])), EACH),
    mutant(
        "backfilled ones are not skipped",
        BACKFILLED,
        instead(overlap, "let_go", lambda _, waiting: (waiting[-1:], waiting[:-1])),
        EACH,
    ),
]

WHOLE = "test_turn_order.test_one_that_is_cancelled_for_another_of_its_batch_is_whole"


def unseen(is_held_back: bool, _: object = None, *, of: type[sqlite_turns.Answer] = sqlite_turns.Answer) -> object:
    return of(is_held_back)


FUNCTIONS = [
    mutant("turns", SKIPPED, instead(Runs, "_is_held_back", never), MEMORY),
    mutant(
        "turns", SKIPPED, instead(sqlite_start, "turn_of", lambda *_: sqlite_turns.Answer(is_held_back=False)), SQLITE
    ),
    mutant(
        "a cancel within the batch is seen", WHOLE, instead(sqlite_turns, "Answer", unseen), SQLITE, later_first=True
    ),
    mutant("turns", SKIPPED, instead(Turns, "holds_back", never), POSTGRESQL),
    mutant("the other has ended", WAITS, instead(Occurrences, "_holder", nothing), MEMORY, overlap=Overlap.QUEUE),
    mutant("the other has ended", WAITS, instead(sqlite_turns, "_holder", nothing), SQLITE, overlap=Overlap.QUEUE),
    mutant("the other has ended", WAITS, instead(Turns, "_holder", nothing), POSTGRESQL, overlap=Overlap.QUEUE),
    mutant("only those that wait", CANCELLED, instead(Occurrences, "_waits", always), MEMORY),
    mutant("given another time", MOVED, instead(Occurrences, "_waits", always), MEMORY),
    mutant("early rows ask for no turn", EARLY, instead(sqlite_start, "asks_for_turn", always), SQLITE),
    mutant("early rows ask for no turn", EARLY, instead(postgresql_turns, "asks_for_turn", always), POSTGRESQL),
    mutant(
        "those of the same batch",
        LATER,
        instead(Turns, "_seen", lambda turns, _, start: turns._others.get(start.key, Others())),
        POSTGRESQL,
    ),
]


def on_sqlite(guard: str, noticed_by: str, name: str, old: str, new: str, **given: Any) -> Mutant:
    return mutant(guard, noticed_by, text(sqlite_turns, name, old, new), SQLITE, **given)


def on_postgresql(guard: str, noticed_by: str, name: str, old: str, new: str, **given: Any) -> Mutant:
    return mutant(guard, noticed_by, text(postgresql_turns, name, old, new), POSTGRESQL, **given)


STATEMENTS = [
    on_sqlite(
        "what was told to wait is another assignment",
        WAITS, "PUT_OFF", "gen = gen + 1", "gen = gen", overlap=Overlap.QUEUE,
    ),
    on_sqlite("it starts by a guarded start", WAITS, "PUT_OFF", "suspect = 1", "suspect = 0", overlap=Overlap.QUEUE),
    on_sqlite("who waits is remembered", EARLIEST, "MARK", "waits = 1", "waits = 0"),
    on_postgresql("who waits is remembered", EARLIEST, "MARK", "waits = 1", "waits = 0"),
    on_sqlite("who waits already stays", LIMIT, "MARKED", "SELECT waits", "SELECT 0"),
    on_sqlite("it waits in an owner's memory", TAKEN_BACK, "WAITING", "j.status = 6 AND", "j.status = 0 AND"),
    on_postgresql("it waits in an owner's memory", TAKEN_BACK, "WAITING", "status = 6 AND", "status = 0 AND"),
    on_sqlite("only those that wait", CANCELLED, "WAITING", "j.status = 2 AND j.reason", "j.status > 0 AND j.reason"),
    on_sqlite("given another time", MOVED, "WAITING", "j.due_us <= ?2 + ?3", "j.due_us > ?2 - ?3"),
    on_sqlite("given another time", PASSED, "BEFORE", "j.due_us <= ?2 + ?3", "j.due_us > ?2 - ?3"),
    on_postgresql("given another time", MOVED, "WAITING", "AND due_us <= $2::bigint", "AND due_us > 0 * $2::bigint"),
    on_postgresql("given another time", PASSED, "OTHERS", "AND due_us <= $6::bigint", "AND due_us > 0 * $6::bigint"),
    on_sqlite("what has expired", EXPIRED, "WAITING", "j.expires_us > ?2", "j.expires_us > 0"),
    on_postgresql("what has expired", EXPIRED, "WAITING", "expires_us > $2", "expires_us > 0 * $2"),
    on_sqlite("other lanes", LANES, "BEFORE", "j.lane = ?5", "j.lane >= '' AND ?5 >= ''"),
    on_postgresql("other lanes", LANES, "OTHERS", "j.lane = u.lane", "u.lane = u.lane"),
    on_sqlite("backfills have no limit", LIMIT, "PLANNED", "AND o.trigger_kind = 2", ""),
    on_postgresql("backfills have no limit", LIMIT, "OTHERS", "AND o.trigger_kind = 2", ""),
    on_postgresql(
        "a schedule is held while its turn is given",
        "test_schedule_locks.test_two_owners_cannot_both_have_the_turn",
        "CURRENT", "FOR NO KEY UPDATE", "", overlap=Overlap.SKIP,
    ),
]  # fmt: skip

TURNS = [*RULES, *FUNCTIONS, *STATEMENTS]
