"""What a commit of this server survives, as its settings say now."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobmaster.ports.agent import Durability

if TYPE_CHECKING:
    from jobmaster.stores.sql.postgresql.transaction import Transaction

SETTINGS = """
SELECT current_setting('fsync'), current_setting('synchronous_commit'), current_setting('full_page_writes'),
    current_setting('server_version')
"""


async def durability(transaction: Transaction) -> Durability:
    """As this session sees them: user, database and server may each have their own."""
    ((fsync, commit, pages, version),) = await transaction.rows(SETTINGS)
    evidence = f"PostgreSQL {version}: fsync = {fsync}, synchronous_commit = {commit}, full_page_writes = {pages}"
    return Durability(survives(fsync=fsync, commit=commit, pages=pages), evidence)


def survives(*, fsync: str, commit: str, pages: str) -> str:
    """What a commit survives under these settings."""
    if commit == "off":
        return "nothing"  # answered before it is written: a crash of the server alone loses the last moments
    if fsync == "off" or pages == "off":
        return "process"  # with the operating system, or in pages that a power cut may tear
    return "host"
