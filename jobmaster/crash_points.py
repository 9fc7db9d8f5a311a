"""Moments at which a test may kill or freeze a process, or lose an answer: before and after every call of a store.

Nothing here runs in production: a store is watched only where the app says `testing=True` *and* the environment names
points, and an app that does not say so refuses to start beside such an environment.

    JOBMASTER_CRASH_POINTS="settle.after=kill, claim.after=lose@3, push.after=lose%10*200"
    JOBMASTER_CRASH_FOLDER=/tmp/strikes

A point is the name of a store's verb (`ports/`), and `.before` or `.after`: after what it did is durable, before its
caller hears of it. The actions: *kill* (SIGKILL, the process itself), *stop* (SIGSTOP, until somebody sends SIGCONT),
*lose* (the caller hears that nobody answered: StoreUnavailable before the call, OutcomeUnknown after it). A point
strikes the first time that it is reached, or the third time (`@3`), or by chance, in ten of a hundred times (`%10`);
and once in all, or so many times (`*200`), counted over all processes by files in the folder: `settle.after.1` and so
on, each with the process id that was struck.
"""

from __future__ import annotations

import itertools
import os
import random
import re
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from jobmaster.errors import ConfigurationError, OutcomeUnknown, StoreUnavailable

POINTS: Final = "JOBMASTER_CRASH_POINTS"
FOLDER: Final = "JOBMASTER_CRASH_FOLDER"

_POINT = re.compile(
    r"(?P<verb>[a-z_]+)\.(?P<moment>before|after)=(?P<action>kill|stop|lose)"
    r"(?:@(?P<hit>[1-9]\d*)|%(?P<percent>100|[1-9]\d?))?(?:\*(?P<times>[1-9]\d*))?"
)


class _Point(NamedTuple):
    name: str
    action: str
    hit: int
    percent: int | None
    times: int


class CrashPoints:
    """The points that are armed in this process.

    Args:
        points: as the environment has them.
        folder: where strikes are counted.
    """

    def __init__(self, points: str, folder: str) -> None:
        self._folder = folder
        self._points = {point.name: point for point in _parsed(points)}
        self._reached = {name: itertools.count(1) for name in self._points}
        self._lock = threading.Lock()

    def watch(self, store: Any) -> None:
        """Strike at this store's calls from now on."""
        for verb in {name.partition(".")[0] for name in self._points}:
            if callable(getattr(store, verb, None)):
                setattr(store, verb, self._watched(verb, getattr(store, verb)))
        if hasattr(store, "hand") and self._points.keys() & {"push.before", "push.after"}:
            direct = _DirectPushes(self, store.hand, store.take_back)
            store.hand, store.take_back = direct.hand, direct.take_back

    def reach(self, name: str) -> None:
        """The point is reached. Raises what is heard of an answer that is lost."""
        point = self._points.get(name)
        if point is None or not self._strikes(point):
            return
        if point.action == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif point.action == "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        elif name.endswith(".before"):
            raise StoreUnavailable(f"Nothing was stored: crash point {name}.")
        else:
            raise OutcomeUnknown(f"The store's answer was lost: crash point {name}.")

    def _watched(self, verb: str, call: Callable[..., Any]) -> Callable[..., Any]:
        async def watched(*args: Any, **options: Any) -> Any:
            self.reach(f"{verb}.before")
            answer = await call(*args, **options)
            self.reach(f"{verb}.after")
            return answer

        return watched

    def _strikes(self, point: _Point) -> bool:
        with self._lock:
            if point.percent is not None:
                if random.random() * 100 >= point.percent:  # noqa: S311 - no secret
                    return False
            elif next(self._reached[point.name]) < point.hit:
                return False
            return self._counted(point)

    def _counted(self, point: _Point) -> bool:
        """Whether this strike is among the first so many of all processes: each is a file that only one can make."""
        number = 1 + sum(name.startswith(f"{point.name}.") for name in os.listdir(self._folder))  # noqa: PTH208 - `pathlib` costs an import
        while number <= point.times:
            try:
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
                file = os.open(f"{self._folder}/{point.name}.{number}", flags, 0o600)
            except FileExistsError:
                number += 1
                continue
            os.write(file, str(os.getpid()).encode())
            os.close(file)
            return True
        return False


class _DirectPushes:
    """Pushes without a loop (`ports.direct`), watched."""

    def __init__(self, points: CrashPoints, hand: Callable[[Any], None], take_back: Callable[[Any], bool]) -> None:
        self._points = points
        self._hand = hand
        self._take_back = take_back
        self._under_way: dict[int, _Handed] = {}

    def hand(self, handed: Any) -> None:
        self._points.reach("push.before")
        wrapped = self._under_way[id(handed)] = _Handed(handed, self)
        try:
            self._hand(wrapped)
        except BaseException:
            self._under_way.pop(id(handed), None)
            raise

    def take_back(self, handed: Any) -> bool:
        wrapped = self._under_way.get(id(handed))
        if wrapped is None or not self._take_back(wrapped):
            return False
        del self._under_way[id(handed)]
        return True

    def answered(self, handed: Any, error: Exception | None) -> None:
        self._under_way.pop(id(handed), None)
        if error is None:
            try:
                self._points.reach("push.after")
            except StoreUnavailable as lost:
                error = lost
        handed.answered(error)


class _Handed:
    """Jobs that are handed over, whose answer passes by here."""

    def __init__(self, handed: Any, pushes: _DirectPushes) -> None:
        self._handed = handed
        self._pushes = pushes
        self.bucket: int = handed.bucket
        self.jobs: Sequence[Any] = handed.jobs

    def answered(self, error: Exception | None) -> None:
        self._pushes.answered(self._handed, error)


_armed: CrashPoints | None = None


def arm(environ: Mapping[str, str], *, testing: bool, app: str) -> None:
    """Arm what the environment names, in this process.

    Raises:
        ConfigurationError: the environment names points, and the app is none for tests; or they cannot be read.
    """
    global _armed  # noqa: PLW0603 - one process has one environment
    points = environ.get(POINTS, "")
    if not points:
        return
    if not testing:
        raise ConfigurationError(
            f"{POINTS} is set, which makes processes die at chosen moments, and app {app!r} is not made for that. "
            f"Unset it; a test's own app says JobMaster({app!r}, testing=True)."
        )
    folder = environ.get(FOLDER, "")
    if not os.path.isdir(folder):  # noqa: PTH112 - as above
        raise ConfigurationError(f"{FOLDER} is {folder!r}; it must name a folder that exists, to count strikes in.")
    _armed = CrashPoints(points, folder)


def watch(store: Any) -> None:
    """Strike at this store's calls, if points are armed."""
    if _armed is not None:
        _armed.watch(store)


def _parsed(points: str) -> list[_Point]:
    found = []
    for text in points.split(","):
        match = _POINT.fullmatch(text.strip())
        if match is None:
            raise ConfigurationError(
                f"{POINTS} has {text.strip()!r}; a point is written VERB.before or VERB.after, =kill, =stop or =lose, "
                "then @HIT or %PERCENT, then *TIMES: settle.after=kill@2*3."
            )
        named = match.groupdict()
        percent = int(named["percent"]) if named["percent"] else None
        name = f"{named['verb']}.{named['moment']}"
        found.append(_Point(name, named["action"], int(named["hit"] or 1), percent, int(named["times"] or 1)))
    return found
