"""The same system with one rule removed. A simulation that does not notice proves nothing about the rule."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Variant:
    """A rule that is taken away: guards of the stores, or methods of the engine that are replaced.

    `expect` are the violations of which at least one must be seen.
    """

    rule: str
    what: str
    guards: frozenset[str] = frozenset()
    patch: Callable[[], contextlib.AbstractContextManager[None]] | None = None
    expect: tuple[str, ...] = ()


VARIANTS: dict[str, Variant] = {}


@contextlib.contextmanager
def removed(names: Sequence[str]) -> Iterator[frozenset[str]]:
    """Run without these rules; gives the guards that the stores must leave out."""
    with contextlib.ExitStack() as stack:
        guards: set[str] = set()
        for name in names:
            guards |= VARIANTS[name].guards
            if (patch := VARIANTS[name].patch) is not None:
                stack.enter_context(patch())
        yield frozenset(guards)
