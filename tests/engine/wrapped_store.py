"""A store of which a test replaces single verbs."""

from __future__ import annotations

from typing import Any


class Wrapped:
    """Another store, with some verbs replaced. A replacement may call the old verb through `store`."""

    def __init__(self, store: Any, **verbs: Any) -> None:
        self.store = store
        for name, verb in verbs.items():
            setattr(self, name, verb)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)
