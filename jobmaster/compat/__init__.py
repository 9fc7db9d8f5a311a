"""Celery's API on JobMaster: `from jobmaster.compat import Celery` instead of `from celery import Celery`.

What works so far, what differs and what is not there yet: docs/migration.md.
"""

from jobmaster.compat.app import Celery
from jobmaster.compat.current import current_app
from jobmaster.compat.task import Task

__all__ = ["Celery", "Task", "current_app"]
