"""What an engine process and its supervisor both see: the end of the lease, the liveness counter, and who runs.

A file without a name, mapped by both. It outlives the engine's process, so that its last state is evidence. Layout
(native byte order, both ends are one machine):

      0  trust_until_ns   8 bytes, written by the supervisor only
      8  beats            8 bytes, written by the engine only
     16  length of the reason for which the engine is condemned, 0: it is not
     24  that reason, UTF-8
    512  length of what holds its loop up, 0: it turns
    520  the place of the run whose code that is, plus 1; 0: nobody knows
    528  what it is, UTF-8
   1024  places: 4096 times 16 bytes of key, 8 bytes: the how-manieth run it is of this process, 0: the place is free
"""

from __future__ import annotations

import mmap
import os

from jobmaster.model.ids import JobKey

_REASON_AT, _REASON_MOST = 24, 480
_BLOCK_AT, _BLOCK_MOST = 528, 480
_PLACES_AT, _PLACE_SIZE, _PLACES = 1024, 24, 4096
SIZE = _PLACES_AT + _PLACE_SIZE * _PLACES

_TRUST, _BEATS, _REASON_LENGTH, _BLOCK_LENGTH, _BLOCK_PLACE = 0, 1, 2, 64, 65
_NUMBER_AT = 16


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
        self._words = memoryview(self._map).cast("q")
        self._free = list(range(_PLACES - 1, -1, -1))
        self._begun = 0

    # ---------------------------------------------------------------- the engine's part

    def beat(self) -> None:
        """Move the counter."""
        self._words[_BEATS] += 1

    def note(self, key: JobKey) -> int:
        """Note a run and return its place; -1 where all 4096 are taken (nobody will be blamed for this one)."""
        if not self._free:
            return -1
        place = self._free.pop()
        at = _PLACES_AT + place * _PLACE_SIZE
        self._map[at : at + 16] = key
        self._begun += 1
        self._words[(at + _NUMBER_AT) >> 3] = self._begun
        return place

    def clear(self, place: int) -> None:
        """The run of this place has ended. -1 is ignored."""
        if place < 0:
            return
        self._words[(_PLACES_AT + place * _PLACE_SIZE + _NUMBER_AT) >> 3] = 0
        self._free.append(place)

    def condemn(self, reason: str) -> None:
        """Store the first reason; later ones are ignored."""
        if self._words[_REASON_LENGTH]:
            return
        text = (reason or "condemned").encode()[:_REASON_MOST]
        self._map[_REASON_AT : _REASON_AT + len(text)] = text
        self._words[_REASON_LENGTH] = len(text)

    def accuse(self, key: JobKey | None, what: str) -> None:
        """Something holds the loop up: this run, where it is known. For any thread; a later word replaces it."""
        text = what.encode()[:_BLOCK_MOST] or b"?"
        self._words[_BLOCK_LENGTH] = 0
        self._map[_BLOCK_AT : _BLOCK_AT + len(text)] = text
        self._words[_BLOCK_PLACE] = 0 if key is None else self._place_of(key) + 1
        self._words[_BLOCK_LENGTH] = len(text)

    def acquit(self) -> None:
        """The loop turns again."""
        self._words[_BLOCK_LENGTH] = 0

    def _place_of(self, key: JobKey) -> int:
        """The place that was noted for it, or -1."""
        for place in range(_PLACES):
            at = _PLACES_AT + place * _PLACE_SIZE
            if self._words[(at + _NUMBER_AT) >> 3] and self._map[at : at + 16] == key:
                return place
        return -1

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

    def accused(self) -> tuple[JobKey | None, str] | None:
        """The run that holds the loop up, where it is known, and what that is in words; None while it turns."""
        length, place = self._words[_BLOCK_LENGTH], self._words[_BLOCK_PLACE] - 1
        if not length:
            return None
        text = self._map[_BLOCK_AT : _BLOCK_AT + length].decode(errors="replace")
        at = _PLACES_AT + place * _PLACE_SIZE
        return (JobKey(self._map[at : at + 16]) if place >= 0 else None), text

    def evidence(self) -> list[JobKey]:
        """The runs noted, in the order in which they began."""
        content = self._map[_PLACES_AT:SIZE]
        numbers = memoryview(content).cast("q")[2::3]
        runs = sorted((number, place) for place, number in enumerate(numbers) if number)
        return [JobKey(content[place * _PLACE_SIZE : place * _PLACE_SIZE + 16]) for _, place in runs]
