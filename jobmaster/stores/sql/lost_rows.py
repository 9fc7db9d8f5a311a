"""What becomes of a row whose owner is gone (*recover* of docs/protocol.md), decided without the database."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobmaster.rules.recovery import recovered
from jobmaster.stores.sql.job_rows import STATUS_OF

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from jobmaster.model.ids import JobKey
    from jobmaster.rules.recovery import Recovered, Testimony
    from jobmaster.stores.sql.job_rows import State


def blame_on(row: State, blames: Mapping[JobKey, Testimony], living: Collection[int]) -> str | None:
    """What was testified about the row's worker. Of one that lives nobody has to testify: it is no death."""
    heard = blames.get(row.key)
    if heard is None:
        return "" if row.worker in living else None
    return heard.reason


def after_loss(row: State, *, tombstone: bool, blame: str | None, max_recoveries: int) -> Recovered:
    """The rule, asked for one row."""
    return recovered(
        status=STATUS_OF[row.status],
        at_most_once=bool(row.at_most_once),
        recoveries=row.recoveries,
        tombstone=tombstone,
        blame=blame,
        max_recoveries=max_recoveries,
    )
