from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from jobmaster.compat import Celery


@pytest.fixture(autouse=True)
def no_celery_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CELERY_BROKER_URL", "CELERY_RESULT_BACKEND"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Celery]:
    """An app on an SQLite file of its own. A test that needs workers says `with app.jobmaster:`."""
    made = Celery("proj", broker=f"sqlite:///{tmp_path}/proj.db")
    yield made
    made.close()
