"""An app whose schedules nobody plans unless a test does, and one task."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.unit.recurring.recurring_app import made
from tests.unit.schedule_app import App


@pytest.fixture
def shop() -> Iterator[tuple[App, Any]]:
    app, hello = made()
    yield app, hello
    app.close()
