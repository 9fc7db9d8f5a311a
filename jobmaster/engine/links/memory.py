"""What an engine process and its supervisor both see: the end of the lease, the liveness counter, and who runs.

A file without a name, mapped by both. It outlives the engine's process, so that its last state is evidence. Layout
(native byte order, both ends are one machine):

      0  trust_until_ns   8 bytes, written by the supervisor only
      8  beats            8 bytes, written by the engine only
     16  length of the reason for which the engine is condemned, 0: it is not
     24  that reason, UTF-8
    512  places: 4096 times 16 bytes of key, 1 byte of mark (0 free, 1 running, 2 running and suspect), 7 unused
"""

from __future__ import annotations

import mmap
import os

from jobmaster.model.ids import JobKey

_REASON_AT, _REASON_MOST = 24, 480
_PLACES_AT, _PLACE_SIZE, _PLACES = 512, 24, 4096
SIZE = _PLACES_AT + _PLACE_SIZE * _PLACES

_TRUST, _BEATS, _REASON_LENGTH = 0, 1, 2
_FREE, _RUNNING, _SUSPECT = 0, 1, 2


def create(size: int = SIZE) -> int:
    """A descriptor of a new file without a name, full of zeros, that only this user can read. The caller closes it."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("jobmaster-engine", os.MFD_CLOEXEC)
        os.fchmod(descriptor, 0o600)
    else:  # macOS; the file is made with mode 0600 and unlinked
        import tempfile

        with tempfile.TemporaryFile(prefix="jobmaster-") as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, size)
    return descriptor


class SharedMemory:
    """One end's view of the file behind a descriptor (which may be closed afterwards)."""

    def __init__(self, descriptor: int) -> None:
        self._map = mmap.mmap(descriptor, SIZE)
        # Aligned words, written and read by one instruction: no end can see half of a number.
        self._words = memoryview(self._map)[:_REASON_AT].cast("q")
        self._free = list(range(_PLACES - 1, -1, -1))

    # ---------------------------------------------------------------- the engine's part

    def beat(self) -> None:
        """Move the counter."""
        self._words[_BEATS] += 1

    def note(self, key: JobKey, *, suspect: bool) -> int:
        """Note a run and return its place; -1 where all 4096 are taken (nobody will be blamed for this one)."""
        if not self._free:
            return -1
        place = self._free.pop()
        at = _PLACES_AT + place * _PLACE_SIZE
        self._map[at : at + 16] = key
        self._map[at + 16] = _SUSPECT if suspect else _RUNNING
        return place

    def clear(self, place: int) -> None:
        """The run of this place has ended. -1 is ignored."""
        if place < 0:
            return
        self._map[_PLACES_AT + place * _PLACE_SIZE + 16] = _FREE
        self._free.append(place)

    def condemn(self, reason: str) -> None:
        """Store the first reason; later ones are ignored."""
        if self._words[_REASON_LENGTH]:
            return
        text = (reason or "condemned").encode()[:_REASON_MOST]
        self._map[_REASON_AT : _REASON_AT + len(text)] = text
        self._words[_REASON_LENGTH] = len(text)

    def trust_until_ns(self) -> int:
        """The end of the lease."""
        return self._words[_TRUST]

    # ---------------------------------------------------------------- the supervisor's part

    def trust(self, until_ns: int) -> None:
        """Move the end of the lease."""
        self._words[_TRUST] = until_ns

    def beats(self) -> int:
        """The counter."""
        return self._words[_BEATS]

    def condemned(self) -> str | None:
        """Why the engine asked to be replaced, or None."""
        length = self._words[_REASON_LENGTH]
        if not length:
            return None
        return self._map[_REASON_AT : _REASON_AT + length].decode(errors="replace")

    def evidence(self) -> list[tuple[JobKey, bool]]:
        """The runs noted, with their suspect mark."""
        content = self._map[_PLACES_AT:SIZE]
        marks = content[16::_PLACE_SIZE]
        return [
            (JobKey(content[place * _PLACE_SIZE : place * _PLACE_SIZE + 16]), mark == _SUSPECT)
            for place, mark in enumerate(marks)
            if mark
        ]
