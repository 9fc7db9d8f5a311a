"""The tables of each store: there, of a version that this code works with, or to be made."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobmaster.cli.checks.finding import Finding, State

if TYPE_CHECKING:
    from jobmaster.model.examination import Examination
    from jobmaster.settings import Dsn, Settings


def schema(store: str, dsn: Dsn, examined: Examination, settings: Settings) -> list[Finding]:
    """Which schema the store has, and what is to be done about it."""
    if examined.is_empty:
        return [_none_yet(store, dsn, examined, settings)]
    from jobmaster.database import agent_statuses, schema_status

    found = schema_status(settings) if store == "master" else agent_statuses(settings)[store]
    if found.is_current and examined.missing_tables:
        fact = f"tables are missing: {', '.join(examined.missing_tables)}"
        advice = "Somebody removed them. Restore a backup; `jobmaster db sql` prints the statements that make them."
        return [Finding("tables", State.FAULT, fact, advice, store)]
    if found.is_current:
        return [Finding("schema", State.OK, f"{found.found} in {found.database}", store=store)]
    fact = f"{found.found or 'none'} in {found.database}, expected {found.expected}: {found.state}"
    state = State.WARNING if found.works else State.FAULT
    return [Finding("schema", state, fact, found.next_step, store)]


def _none_yet(store: str, dsn: Dsn, examined: Examination, settings: Settings) -> Finding:
    fact = f"none yet in {dsn}"
    if not settings.auto_provision:
        advice = "auto_provision is off, so run: jobmaster db upgrade"
        return Finding("schema", State.FAULT, fact, advice, store)
    if not examined.may_make_tables:
        return Finding("schema", State.FAULT, f"{fact}, and this user may not make tables", _rights(dsn), store)
    return Finding("schema", State.WARNING, fact, "The first worker makes it, or jobmaster db upgrade.", store)


def _rights(dsn: Dsn) -> str:
    if dsn.kind == "sqlite":
        return "Give this user the right to write to the folder, or name another file."
    return (
        "Have somebody who may make tables run `jobmaster db upgrade`, or the statements of `jobmaster db sql`; or "
        "grant CREATE on the schema to this user."
    )
