"""The same system with one rule removed. A simulation that does not notice proves nothing about the rule.

Guards of the stores are left out by `jobmaster.stores.memory.variants`; rules of the engine by replacing a method here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from jobmaster.engine import life as life_module
from jobmaster.engine.coordinator import Coordinator
from jobmaster.engine.fetcher import Fetcher
from jobmaster.engine.intake import Intake
from jobmaster.engine.janitor import Janitor
from jobmaster.engine.lease import Lease
from jobmaster.engine.ownership import Ownership
from jobmaster.engine.stopping import GracefulStop
from jobmaster.stores.memory.variants import GUARDS

Patch = tuple[Any, str, Any]


@dataclass(frozen=True)
class Variant:
    """A rule that is taken away.

    Attributes:
        rule: its number in protocol.md.
        guards: guards that the stores leave out.
        patches: (object, attribute, replacement) in the engine.
        expect: violations of which at least one must be seen; empty: none is expected, README.md says why.
        seeds: within how many seeds.
        config: the configuration in which it shows.
    """

    rule: str
    guards: tuple[str, ...] = ()
    patches: tuple[Patch, ...] = ()
    expect: tuple[str, ...] = ()
    seeds: int = 40
    config: str = "harsh"


async def _nothing(*_args: object, **_options: object) -> None:
    pass


def _always_trusted(lease: Lease) -> bool:
    return not lease.gone and lease._until_ns > 0


def _opened_as_clean(opened: Callable[[Fetcher, Any], None]) -> Callable[[Fetcher, Any], None]:
    def replacement(fetcher: Fetcher, life: Any) -> None:
        life.high_mark = 0
        opened(fetcher, life)

    return replacement


async def _granted_by_opening(ownership: Ownership) -> None:
    """What `Ownership._open_missing` makes is taken as granted."""
    store = ownership._store
    create = store.create_buckets

    async def create_and_take(worker: int, buckets: Sequence[Any]) -> Any:
        made = await create(worker, buckets)
        for bucket in made:
            if bucket.id not in ownership._lease.lives:
                ownership._lease._adopt(bucket)
        return made

    ownership._store = _Replaced(store, create_buckets=create_and_take)  # type: ignore[assignment]
    try:
        await _open_missing(ownership)
    finally:
        ownership._store = store


_open_missing = Ownership._open_missing


class _Replaced:
    """A store of which one verb is another."""

    def __init__(self, store: Any, **verbs: Any) -> None:
        self._store = store
        self.__dict__.update(verbs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


async def _given_up_at_once(stop: GracefulStop, life: Any) -> None:
    """Gives the bucket up while its jobs still run, and goes on with them."""
    if life.open and not getattr(stop, "_left", None):
        stop._left = set()  # type: ignore[attr-defined]
    if life.open and life.bucket.id not in stop._left:  # type: ignore[attr-defined]
        with contextlib.suppress(Exception):
            await stop._store.give_up(life.fence)
            stop._left.add(life.bucket.id)  # type: ignore[attr-defined]
    await _give_up_if_quiet(stop, life)


_give_up_if_quiet = GracefulStop._give_up_if_quiet
_SETTLES_LATE = property(lambda _lease: 0, lambda _lease, _count: None)

VARIANTS: dict[str, Variant] = {
    name: Variant(rule=(parts[0].__doc__ or "").split(":")[0], guards=(name,)) for name, parts in GUARDS.items()
} | {
    "no_gap": Variant("R9 full read", patches=((Fetcher, "_reread", _nothing),)),
    "no_self_fence": Variant("R7 trust", patches=((Lease, "trusted", _always_trusted),)),
    "no_janitor": Variant("R18", patches=((Janitor, "_drain_orphans", _nothing),)),
    "no_recent": Variant("R9 lately removed", patches=((life_module, "_REMEMBERED", 0),)),
    "no_life_check": Variant("R9 high mark", patches=((Fetcher, "opened", _opened_as_clean(Fetcher.opened)),)),
    "no_adopt": Variant("R7 named: new life", patches=((Lease, "_adopt", lambda _lease, _bucket: None),)),
    "grant_open": Variant("R7 renewal grants", patches=((Ownership, "_open_missing", _granted_by_opening),)),
    "claim_late": Variant("R14'a", patches=((Lease, "counted", _SETTLES_LATE),)),
    "disown_early": Variant("R22' nothing runs", patches=((GracefulStop, "_give_up_if_quiet", _given_up_at_once),)),
    "no_lock+no_row_guard": Variant("R12 both", guards=("no_lock", "no_row_guard")),
    "loose_close+no_janitor": Variant("R1 and R18", ("loose_close",), ((Janitor, "_drain_orphans", _nothing),)),
    "no_retire+no_sweep": Variant("R16 and R17'", ("no_retire",), ((Coordinator, "_sweep", _nothing),)),
    "claim_no_own+no_sweep": Variant("R14' and R17'", ("claim_no_own",), ((Coordinator, "_sweep", _nothing),)),
    "amo_no_nonce+no_recover": Variant("R10 and R15'a 2", ("amo_no_nonce", "no_recover")),
    "no_fence+life": Variant(
        "R15'a high mark and fence",
        guards=("no_agent_fence",),
        patches=((Fetcher, "opened", _opened_as_clean(Fetcher.opened)),),
    ),
}


@contextlib.contextmanager
def removed(names: Sequence[str]) -> Iterator[frozenset[str]]:
    """Run without these rules; gives the guards that the stores must leave out."""
    with contextlib.ExitStack() as stack:
        guards: set[str] = set()
        for name in names:
            guards.update(VARIANTS[name].guards)
            for owner, attribute, replacement in VARIANTS[name].patches:
                stack.callback(setattr, owner, attribute, getattr(owner, attribute, None))
                setattr(owner, attribute, replacement)
        yield frozenset(guards)
