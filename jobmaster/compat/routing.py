"""Queues and priorities of Celery as lanes and priorities of JobMaster."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from jobmaster.errors import ConfigurationError
from jobmaster.model.states import Priority
from jobmaster.settings.names import DEFAULT_LANE, LONGEST_LANE, check_lane

CELERYS_DEFAULT: Final = "celery"
HIGHEST: Final = 9


def lane_of(queue: object, default_queue: str) -> str:
    """The lane of a queue: of the same name. Celery's default queue, under its default name, is the default lane.

    Raises:
        ConfigurationError: it is no queue's name, or no lane can have it.
    """
    name = getattr(queue, "name", queue)
    if not isinstance(name, str) or not name:
        raise ConfigurationError(f"queue is {queue!r}, but it is a name, such as 'mail'.")
    if name == CELERYS_DEFAULT == default_queue:
        return DEFAULT_LANE
    try:
        check_lane(name)
    except ConfigurationError as error:
        raise ConfigurationError(
            f"The queue {name!r} cannot be a lane: {error} (At most {LONGEST_LANE} letters, digits, - and _.)"
        ) from None
    return name


def routed_queue(task: str, routes: Any) -> object | None:
    """The queue that `task_routes` gives a task: exact names before patterns; None: no route matches.

    Raises:
        ConfigurationError: a route says something else than a queue.
    """
    if routes is None:
        return None
    pairs = list(_pairs(routes))
    exact = [route for pattern, route in pairs if pattern == task]
    matching = exact or [route for pattern, route in pairs if _matches(pattern, task)]
    return _queue_of(matching[0], task) if matching else None


def priority_of(value: object) -> Priority:
    """The priority of Celery's number: 0 (lowest) to 9, higher first as with RabbitMQ.

    Raises:
        ConfigurationError: it is no whole number from 0 to 9.
    """
    if isinstance(value, Priority):
        return value
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= HIGHEST:
        raise ConfigurationError(f"priority is {value!r}, but it is a whole number from 0 (lowest) to {HIGHEST}.")
    return Priority(value // 2 + 1)


def _pairs(routes: Any) -> Iterable[tuple[object, object]]:
    if isinstance(routes, Mapping):
        return routes.items()
    if isinstance(routes, (list, tuple)):
        return [pair for part in routes for pair in (part.items() if isinstance(part, Mapping) else [part])]
    raise ConfigurationError(
        f"task_routes is {routes!r}, but only names and patterns are understood: {{'mail.*': {{'queue': 'mail'}}}}. "
        "Routers that are functions are not supported; give the tasks queue=... instead."
    )


def _matches(pattern: object, task: str) -> bool:
    if isinstance(pattern, re.Pattern):
        return pattern.match(task) is not None
    return isinstance(pattern, str) and fnmatch.fnmatchcase(task, pattern)


def _queue_of(route: object, task: str) -> object:
    if isinstance(route, str):
        return route
    if isinstance(route, Mapping) and set(route) == {"queue"}:
        return route["queue"]
    raise ConfigurationError(
        f"task_routes gives {task!r} the route {route!r}, but a route is a queue: {{'queue': 'mail'}}. "
        "Exchanges, routing keys and other options do not exist here."
    )
