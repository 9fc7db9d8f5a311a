"""The apps of this process: found by their cluster's id, and one of them is the default app."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

from jobmaster.errors import ConfigurationError

if TYPE_CHECKING:
    from jobmaster.app import JobMaster


class Apps:
    """The apps of this process, and which of them environment and files speak to."""

    def __init__(self) -> None:
        self._all: list[weakref.ref[JobMaster]] = []
        self._default: weakref.ref[JobMaster] | None = None

    def join(self, app: JobMaster, *, wants_default: bool) -> None:
        """Count a new app in."""
        before = self.default()
        if before is None or wants_default:
            if before is not None:
                before.resolve_again()
            self._default = weakref.ref(app)
        self._all.append(weakref.ref(app))

    def of_cluster(self, cluster_id: str) -> JobMaster:
        """The newest app of a cluster."""
        living = [app for app in (known() for known in reversed(self._all)) if app is not None]
        for app in living:
            if app.cluster_id == cluster_id:
                return app
        known = ", ".join(sorted({app.cluster_id for app in living})) or "none"
        raise ConfigurationError(
            f"This program has no app of cluster {cluster_id!r}. It has: {known}. "
            f"Make one: JobMaster({cluster_id!r}, master=...)."
        )

    def default(self) -> JobMaster | None:
        """The default app."""
        return None if self._default is None else self._default()


apps = Apps()
