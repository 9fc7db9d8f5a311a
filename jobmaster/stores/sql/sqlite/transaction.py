"""What a verb's function gets: the connection inside a transaction, the time, the rules, and where to leave signals."""

from __future__ import annotations

from functools import lru_cache
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterator, Sequence

    from jobmaster.ports.master import MasterRules

T = TypeVar("T")
Row = tuple[Any, ...]

LARGEST_CHUNK = 256
SMALL_CHUNK = 16
"""Up to here there is a text for each size: the groups of a few callers are one step each."""
MOST_KEYS = 1_024
MOST_VALUES = 32_000
"""SQLite takes 32,766 values in a statement."""


class Setting(NamedTuple):
    """What is the same for every verb of a store."""

    rules: MasterRules
    clock_us: Callable[[], int]
    standalone: bool
    """Master and agent are this database."""
    gone: Callable[[int], bool]
    """Whether a worker's process has ended for certain, as its lock file says."""


class Transaction:
    """One verb's part of a group: everything that it did is undone if it raises.

    Attributes:
        now_us: the store's clock; where something is written, read after the write lock was taken.
        topics: signals to send once the group is durable.
    """

    __slots__ = ("connection", "execute", "now_us", "rules", "setting", "standalone", "topics")

    def __init__(self, connection: sqlite3.Connection, *, now_us: int, setting: Setting) -> None:
        self.connection = connection
        self.execute = connection.execute
        self.now_us = now_us
        self.setting = setting
        self.rules = setting.rules
        self.standalone = setting.standalone
        self.topics: set[str] = set()

    def rows(self, statement: str, values: Sequence[object] = ()) -> list[Row]:
        """All rows of a statement."""
        return self.execute(statement, values).fetchall()

    def row(self, statement: str, values: Sequence[object] = ()) -> Row | None:
        """The first row of a statement, or None."""
        row: Row | None = self.execute(statement, values).fetchone()
        return row

    def changed(self, statement: str, values: Sequence[object] = ()) -> int:
        """Run a statement and say how many rows it changed."""
        return self.execute(statement, values).rowcount

    def insert(self, statement: str, rows: Sequence[Sequence[object]], tail: str = "") -> None:
        """Insert many rows, up to 256 in one step: `statement` ends in VALUES, `tail` follows the rows."""
        if not rows:
            return
        width = len(rows[0])
        for chunk in chunks(rows, width):
            self.execute(statement + values_text(width, len(chunk)) + tail, tuple(chain.from_iterable(chunk)))

    def by_keys(self, statement: str, keys: Sequence[bytes], after: Sequence[object] = ()) -> Iterator[Row]:
        """Rows of a statement with `{keys}` in place of a list; `after` are the values that follow the list."""
        for chunk in padded(keys):
            yield from self.execute(statement.replace("{keys}", marks(len(chunk))), (*chunk, *after))


def chunks(rows: Sequence[T], width: int) -> Iterator[Sequence[T]]:
    """Slices whose sizes are powers of two, or small, so that a statement has few texts and stays prepared."""
    size = LARGEST_CHUNK
    while size * width > MOST_VALUES:
        size //= 2
    start, left = 0, len(rows)
    while left:
        while size > left:
            size = left if left <= SMALL_CHUNK else size // 2
        yield rows[start : start + size]
        start += size
        left -= size


def padded(keys: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    """The keys in few lists of few sizes: the last key of a list is repeated, which an IN does not mind."""
    for start in range(0, len(keys), MOST_KEYS):
        part = list(keys[start : start + MOST_KEYS])
        size = 1 << (len(part) - 1).bit_length()
        yield part + part[-1:] * (size - len(part))


@lru_cache(maxsize=256)
def values_text(width: int, count: int) -> str:
    """`(?,?),(?,?)` for `count` rows of `width` values."""
    one = "(" + ",".join("?" * width) + ")"
    return ",".join([one] * count)


@lru_cache(maxsize=64)
def marks(count: int) -> str:
    """`?,?,?`."""
    return ",".join("?" * count)
