"""Stores whose verbs about schedules lack one guard: a rule that all of them ask, or a statement of one dialect."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from jobmaster.rules import schedule_changes
from jobmaster.rules.schedule_changes import Changed, Drop
from jobmaster.stores.memory.schedules import Schedules
from jobmaster.stores.sql.postgresql import occurrences as postgresql_occurrences
from jobmaster.stores.sql.postgresql import schedules as postgresql_schedules
from jobmaster.stores.sql.postgresql import upkeep as postgresql_upkeep
from jobmaster.stores.sql.sqlite import occurrences as sqlite_occurrences
from jobmaster.stores.sql.sqlite import schedules as sqlite_schedules
from jobmaster.stores.sql.sqlite import upkeep as sqlite_upkeep
from tests.conformance.mutants import Mutant, Patch, instead, nothing, text

ONE_OF_EACH = ("memory", "sqlite", "postgresql")
MEMORY, SQLITE, POSTGRESQL = ("memory",), ("sqlite",), ("postgresql",)


def mutant(guard: str, noticed_by: str, patch: Patch, adapters: tuple[str, ...], **given: Any) -> Mutant:
    return Mutant(guard, noticed_by, adapters, patch=patch, arguments=given)


def rule(guard: str, noticed_by: str, name: str, replacement: Any, **given: Any) -> Mutant:
    """A rule that all stores ask."""
    return mutant(guard, noticed_by, instead(schedule_changes, name, replacement), ONE_OF_EACH, **given)


def on_sqlite(guard: str, noticed_by: str, patch: Patch, **given: Any) -> Mutant:
    return mutant(guard, noticed_by, patch, SQLITE, **given)


def on_postgresql(guard: str, noticed_by: str, patch: Patch, **given: Any) -> Mutant:
    return mutant(guard, noticed_by, patch, POSTGRESQL, **given)


def never(*_: Any, **__: Any) -> bool:
    return False


def always(*_: Any, **__: Any) -> bool:
    return True


def of_the_version(stored: Any, plan: Any) -> bool:
    return bool(stored.version == plan.version)


def of_the_cursor(stored: Any, plan: Any) -> bool:
    return bool(stored.cursor_us == plan.cursor_us)


def dropping_nothing(of: Any) -> Any:
    def changed(*values: Any) -> Any:
        found = of(*values)
        return None if found is None else Changed(found.schedule, Drop.NOTHING)

    return changed


def dropping_all(of: Any) -> Any:
    def changed(*values: Any) -> Any:
        found = of(*values)
        return found if found is None or found.drops is Drop.NOTHING else Changed(found.schedule, Drop.ALL)

    return changed


def planned_or_not(of: Any) -> Any:
    def changed(stored: Any, change: Any, now_us: int, _: int | None = None) -> Any:
        return of(stored, change, now_us)

    return changed


REFUSED = "test_occurrences.test_a_plan_of_something_else_changes_nothing"
EDITED = "test_changed_occurrences.test_an_edit_loses_no_moment_that_an_owner_has_already"
ASLEEP = "test_occurrences.test_what_is_paused_parked_ended_or_in_nobodys_code_is_not_due"
TWICE = "test_occurrences.test_a_moment_that_is_there_is_not_run_twice"
OLD = "test_old_occurrences.test_retention_takes_old_occurrences_and_schedules_that_ended_long_ago"
EDIT = "test_schedule_changes.test_an_edit_replaces_what_it_names_and_plans_anew"
PAUSED = "test_changed_occurrences.test_what_an_owner_has_already_is_cancelled_and_remembered"
NAMES = "test_static_schedules.test_static_schedules_get_free_names"

RULES = [
    rule("a plan's version", REFUSED, "fits", of_the_cursor),
    rule("a plan's cursor", REFUSED, "fits", of_the_version),
    rule("a plan's age", "test_occurrences.test_a_plan_that_comes_late_is_refused_by_its_age", "is_late", never),
    rule("an edit's first plan cancels", EDITED, "begins_anew", never),
    rule("an edit leaves what owners have", EDITED, "changed", dropping_all(schedule_changes.changed)),
    rule("an edit drops", EDIT, "changed", dropping_nothing(schedule_changes.changed)),
    rule("a pause cancels", PAUSED, "changed", dropping_nothing(schedule_changes.changed)),
    rule(
        "the taken name of an edit",
        "test_schedule_changes.test_a_change_of_another_version_or_to_nowhere_is_refused",
        "check_name",
        nothing,
    ),
    mutant(
        "who bears a name",
        NAMES,
        instead(schedule_changes, "named", lambda wanted, _: schedule_changes.Named(list(wanted), [])),
        ("memory", "sqlite"),
    ),
    rule(
        "until when a series is planned",
        "test_schedule_changes.test_a_change_that_comes_later_than_it_was_planned_for_is_refused",
        "changed",
        planned_or_not(schedule_changes.changed),
    ),
    rule(
        "one run of an id",
        "test_occurrences.test_a_run_now_of_a_job_that_is_there_is_not_made_again_at_another_moment",
        "unmade",
        lambda occurrences, _: [True] * len(occurrences),
    ),
    rule("asleep until it is ensured", ASLEEP, "woken", lambda schedule, _: schedule),
    rule(
        "a new call keeps the beat",
        "test_static_schedules.test_a_definition_that_changed_its_call_alone_misses_nothing_and_keeps_its_beat",
        "rewound",
        lambda schedule, *_: schedule,
    ),
    rule(
        "what is kept comes back without a storm",
        "test_static_schedules.test_what_no_code_has_any_more_becomes_inactive_and_comes_back_without_a_storm",
        "kept",
        lambda stored, _, now_us, *__: replace(stored, ensured_us=now_us),
    ),
    rule(
        "another release's definition is not kept",
        "test_static_schedules.test_the_release_that_is_left_has_its_definition_again_whichever_started_last",
        "_is_defined_otherwise",
        never,
    ),
]

IN_MEMORY = [
    mutant(
        "a change's version",
        "test_schedule_changes.test_a_change_of_another_version_or_to_nowhere_is_refused",
        instead(Schedules, "_is_version", always),
        MEMORY,
    ),
]

STATEMENTS = [
    on_sqlite(
        "one run of a moment",
        TWICE,
        text(sqlite_occurrences, "UNLESS_THERE", "DO NOTHING", "DO UPDATE SET created_us = 0"),
    ),
    on_postgresql(
        "one run of a moment",
        TWICE,
        text(postgresql_occurrences, "INSERT", "DO NOTHING", "DO UPDATE SET created_us = 0"),
    ),
    on_sqlite(
        "what had its moment stays", EDIT, text(sqlite_schedules, "PLANNED_AHEAD", "o.at_us > ?", "o.at_us <> ?")
    ),
    on_postgresql(
        "what had its moment stays", EDIT, text(postgresql_schedules, "PLANNED_AHEAD", "o.at_us > $2", "o.at_us <> $2")
    ),
    on_sqlite(
        "run now is no part of a plan", EDITED, text(sqlite_schedules, "CLAIMED_AHEAD", "o.trigger_kind = 2 AND", "")
    ),
    on_postgresql(
        "run now is no part of a plan",
        EDITED,
        text(postgresql_schedules, "CLAIMED_AHEAD", "o.trigger_kind = 2 AND", ""),
    ),
    on_sqlite(
        "missed is no failure",
        "test_old_occurrences.test_a_planned_run_that_nobody_started_in_time_is_missed_and_no_failure",
        text(sqlite_upkeep, "EXPIRE", "CASE trigger_kind WHEN 1", "CASE 1 WHEN 1"),
    ),
    on_postgresql(
        "missed is no failure",
        "test_old_occurrences.test_a_planned_run_that_nobody_started_in_time_is_missed_and_no_failure",
        text(postgresql_upkeep, "EXPIRE", "CASE trigger_kind WHEN 1", "CASE 1 WHEN 1"),
    ),
    on_sqlite(
        "a schedule that a worker has stays", OLD, text(sqlite_schedules, "OLD_SCHEDULES", "AND ensured_us < ?1", "")
    ),
    on_postgresql(
        "a schedule that a worker has stays",
        OLD,
        text(postgresql_schedules, "OLD_SCHEDULES", "AND ensured_us < $1", ""),
    ),
    on_sqlite(
        "a schedule that goes on stays",
        OLD,
        text(sqlite_schedules, "OLD_SCHEDULES", "status IN (3, 4, 5) AND ended_us < ?1", "created_us < ?1"),
    ),
    on_postgresql(
        "a schedule that goes on stays",
        OLD,
        text(postgresql_schedules, "OLD_SCHEDULES", "status IN (3, 4, 5) AND ended_us < $1", "created_us < $1"),
    ),
    on_sqlite(
        "static ones expire",
        "test_static_schedules.test_only_static_ones_are_kept_and_expire",
        text(sqlite_schedules, "IDLE", "kind = 2 AND", ""),
    ),
    on_postgresql(
        "static ones expire",
        "test_static_schedules.test_only_static_ones_are_kept_and_expire",
        text(postgresql_schedules, "IDLE", "kind = 2 AND", ""),
    ),
]

LOCKS = [
    mutant(
        "a schedule is held while it is planned",
        "test_schedule_locks.test_a_plan_that_waits_for_an_edit_is_refused",
        instead(postgresql_schedules, "AND_HOLD", ""),
        POSTGRESQL,
    ),
    mutant(
        "a schedule is held while it is edited",
        "test_schedule_locks.test_an_edit_waits_for_a_plan_that_is_under_way_and_drops_it",
        instead(postgresql_schedules, "AND_HOLD", ""),
        POSTGRESQL,
    ),
    on_postgresql(
        "a run now is made under its schedule's row",
        "test_schedule_locks.test_a_run_now_that_is_repeated_while_the_first_is_under_way_is_one_run",
        text(postgresql_occurrences, "KNOWN", "FOR NO KEY UPDATE", "FOR SHARE"),
    ),
    on_postgresql(
        "planners skip what another one takes",
        "test_schedule_locks.test_nobody_waits_for_what_another_planner_takes",
        text(postgresql_occurrences, "DUE", "SKIP LOCKED", ""),
    ),
]

TWICE_CANCELLED = "test_changed_occurrences.test_what_a_person_cancelled_is_not_planned_again"
OLDEST = "test_old_occurrences.test_the_latest_occurrence_that_has_come_stays_with_its_schedule"
BY_HAND = "test_static_schedules.test_runs_by_hand_are_no_part_of_the_beat"
OLDER = "test_schedule_leftovers.test_a_run_by_hand_does_not_take_the_place_that_a_series_goes_on_from"
ANEW = "test_schedule_leftovers.test_what_was_dropped_is_no_moment_of_the_series_that_began_anew"
BY_HAND_ONLY = "AND (l.trigger_kind <> 3 OR o.trigger_kind = 3)"

REPLANNED = [
    on_sqlite(
        "a person's cancel stays", TWICE_CANCELLED, text(sqlite_occurrences, "TAKEN_BACK", "j.reason = ?", "? <> 'x'")
    ),
    on_postgresql(
        "a person's cancel stays",
        TWICE_CANCELLED,
        text(postgresql_occurrences, "TAKEN_BACK", "j.reason = $3", "$3 <> 'x'"),
    ),
    on_sqlite("runs by hand", BY_HAND, text(sqlite_schedules, "LATEST", "AND trigger_kind <> 3", "")),
    on_postgresql("runs by hand", BY_HAND, text(postgresql_schedules, "LATEST", "AND trigger_kind <> 3", "")),
    on_sqlite("a series is no run by hand", OLDER, text(sqlite_schedules, "OLD_OCCURRENCES", BY_HAND_ONLY, "")),
    on_postgresql("a series is no run by hand", OLDER, text(postgresql_schedules, "OLD_OCCURRENCES", BY_HAND_ONLY, "")),
    rule(
        "one that took another's place is remembered",
        "test_schedule_leftovers.test_a_moment_that_came_back_and_is_planned_once_more_runs",
        "is_forgotten",
        always,
    ),
    on_sqlite("of this series", ANEW, text(sqlite_schedules, "LATEST", "j.status = 8", "FALSE")),
    on_postgresql("of this series", ANEW, text(postgresql_schedules, "LATEST", "j.status = 8", "FALSE")),
    rule(
        "an end that is moved cancels",
        "test_schedule_leftovers.test_an_end_that_is_moved_takes_what_an_owner_has_beyond_it",
        "begins_anew",
        lambda plan, _: plan.cursor_us is None,
    ),
    on_sqlite("a series goes on", OLDEST, text(sqlite_schedules, "OLD_OCCURRENCES", "l.at_us > o.at_us", "TRUE")),
    on_postgresql(
        "a series goes on", OLDEST, text(postgresql_schedules, "OLD_OCCURRENCES", "l.at_us > o.at_us", "TRUE")
    ),
]

SCHEDULES = [*RULES, *REPLANNED, *IN_MEMORY, *STATEMENTS, *LOCKS]
