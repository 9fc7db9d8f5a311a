"""Stores with one guard removed, and the case that must fail on each.

A memory store loses its guard by `jobmaster.stores.memory.variants`; a store of SQL by a changed statement or a
replaced function of its dialect's modules (mutants_sqlite_jobs.py). A mutant that no case notices is a guard without a
test, or no guard.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

Patch = Callable[[], contextlib.AbstractContextManager[Any]]


@dataclass(frozen=True)
class Mutant:
    """A guard taken away from some adapters. `noticed_by` is "module.test" of this suite."""

    guard: str
    noticed_by: str
    adapters: tuple[str, ...]
    removed: frozenset[str] = frozenset()
    patch: Patch | None = None
    arguments: dict[str, Any] = field(default_factory=dict)

    @contextlib.contextmanager
    def in_force(self) -> Iterator[None]:
        with self.patch() if self.patch is not None else contextlib.nullcontext():
            yield


def instead(owner: Any, name: str, replacement: Any) -> Patch:
    """`owner.name` replaced."""
    assert hasattr(owner, name), f"{owner} has no {name} any more"
    return lambda: mock.patch.object(owner, name, replacement)


def nothing(*_: Any, **__: Any) -> None:
    return None


def text(module: Any, name: str, old: str, new: str) -> Patch:
    """The statement `module.name` with `new` in the place of `old`."""
    statement = getattr(module, name)
    assert old in statement, f"{module.__name__}.{name} does not say {old!r} any more"
    return lambda: mock.patch.object(module, name, statement.replace(old, new))


def both(*patches: Patch) -> Patch:
    """Several changes at once: what each of two guards would still prevent."""

    @contextlib.contextmanager
    def all_of_them() -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            for patch in patches:
                stack.enter_context(patch())
            yield

    return all_of_them
