"""Enqueuing inside transactions that commit, roll back or are cut: never a job without its order, or the other way."""

from __future__ import annotations

import pytest

from tests.faults.transactional_campaign import campaign


@pytest.mark.backend("postgresql")
def test_a_job_exists_if_and_only_if_its_transaction_committed(postgres_database: str) -> None:
    ends, (ghosts, orphans, pairs) = campaign(postgres_database, count=2_000, seed=1)
    assert (ghosts, orphans) == (0, 0)
    assert min(ends[end] for end in ("commit", "rollback", "cut")) > 50
    assert ends["commit"] <= pairs < 2_000
