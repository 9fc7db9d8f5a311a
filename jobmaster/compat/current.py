"""The app that is meant where none is named: the last one made in this process."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

from jobmaster.errors import ConfigurationError

if TYPE_CHECKING:
    from jobmaster.compat.app import Celery

_apps: list[weakref.ref[Celery]] = []


def set_current(app: Celery) -> None:
    """From now on `app` is the current one."""
    _apps[:] = [known for known in _apps if known() is not None and known() is not app]
    _apps.append(weakref.ref(app))


def current_app() -> Celery:
    """The current app.

    Raises:
        ConfigurationError: this process has made none.
    """
    app = _apps[-1]() if _apps else None
    if app is None:
        raise ConfigurationError(
            'No app was made in this process: app = Celery("proj", broker=...). Import its module.'
        )
    return app
