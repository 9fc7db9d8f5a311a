"""What the first engine process found out about the app: all that the supervisor knows of it. Plain data."""

from __future__ import annotations

import msgspec

from jobmaster.settings import Settings
from jobmaster.worker_order import WorkerOrder
from jobmaster.worker_plan import WorkerPlan


class EngineOrder(msgspec.Struct, frozen=True):
    """What one engine process is told."""

    order: WorkerOrder
    plan: WorkerPlan


class FoundTask(msgspec.Struct, frozen=True):
    """A task or handler of the app."""

    name: str
    lane: str
    is_async: bool


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """The app, its settings and tasks, and the engines that are to run.

    `files` are the app's own source files; `testing` is the app's own word; `settings` hold passwords, and go from one
    process to its parent only.
    """

    settings: Settings
    plans: list[WorkerPlan]
    tasks: list[FoundTask]
    schedules: list[str] = []
    """Names of the schedules in its code and files."""
    unserved: list[str] = []
    warnings: list[str] = []
    files: list[str] = []
    testing: bool = False


class Unusable(msgspec.Struct, frozen=True):
    """Why there is no app to run: a sentence, and the traceback of the user's own code."""

    message: str
    details: str = ""


class Answer(msgspec.Struct, frozen=True):
    """The answer: one of the two."""

    found: Found | None = None
    unusable: Unusable | None = None
