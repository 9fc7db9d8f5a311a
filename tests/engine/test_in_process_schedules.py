"""Schedules in the code of a program that runs its workers itself (`with jm:`)."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from jobmaster import JobMaster

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.backend("sqlite")


def test_a_static_schedule_fires_where_nothing_asked_the_app_before(tmp_path: Path) -> None:
    fired = threading.Event()
    jm = JobMaster("own-workers", master=f"sqlite:///{tmp_path / 'own.db'}")
    jm.every("every 1 second")(jm.task(name="tick")(fired.set))

    def run() -> None:
        with jm:
            fired.wait(20)

    # The thread that starts the workers must not hold what they need to start.
    program = threading.Thread(target=run, daemon=True)
    program.start()
    program.join(40)

    assert fired.is_set()
    assert not program.is_alive()
