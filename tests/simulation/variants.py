"""The same system with one rule removed. A simulation that does not notice proves nothing about the rule.

Guards of the stores are left out by `jobmaster.stores.memory.variants`; rules of the engine by replacing a method here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from jobmaster.engine import lease as lease_module
from jobmaster.engine import life as life_module
from jobmaster.engine.coordinator import Coordinator
from jobmaster.engine.fetcher import Fetcher
from jobmaster.engine.janitor import Janitor
from jobmaster.engine.lease import Lease
from jobmaster.engine.life import Life
from jobmaster.engine.ownership import Ownership
from jobmaster.engine.stopping import GracefulStop
from jobmaster.stores.memory.variants import GUARDS

Patch = tuple[Any, str, Any]


@dataclass(frozen=True)
class Variant:
    """A rule that is taken away.

    Attributes:
        rule: its name in protocol.md.
        guards: guards that the stores leave out.
        patches: (object, attribute, replacement) in the engine.
    """

    rule: str
    guards: tuple[str, ...] = ()
    patches: tuple[Patch, ...] = ()


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


async def _given_up_and_kept(stop: GracefulStop, life: Any) -> None:
    """Gives the bucket up while its jobs still run, and goes on with them."""
    left = stop.__dict__.setdefault("_left", set())
    if life.open and life.bucket.id not in left:
        with contextlib.suppress(Exception):
            await stop._store.give_up(life.fence)
            left.add(life.bucket.id)
    if not _busy(life):
        stop._lease.drop(life)


_busy = Life.busy
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
    "claim_cut": Variant("R14'a cut", patches=((lease_module, "LATE_S", -1.0),)),
    "disown_early": Variant(
        "R22' nothing runs",
        patches=((GracefulStop, "_give_up", _given_up_and_kept), (Life, "busy", lambda _life: False)),
    ),
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


@dataclass(frozen=True)
class Caught:
    """In which configuration the simulation catches a variant: by one of these violations, within so many seeds.

    Any seeds would do. Those from `first` on are looked at because it was last seen there: so it costs least.
    """

    config: str
    by: tuple[str, ...]
    within: int = 40
    first: int = 0


CAUGHT: dict[str, Caught] = {
    "no_fence": Caught("harsh", ("zombie outcome (assignment)", "zombie outcome (bucket)")),
    "no_epoch": Caught("harsh", ("zombie outcome (bucket)",), 80),
    "no_row_guard": Caught("harsh", ("zombie outcome (assignment)",), first=4),
    "no_lock": Caught("harsh", ("zombie outcome (bucket)",), 200, first=70),
    "no_lock+no_row_guard": Caught("harsh", ("zombie outcome (assignment)", "zombie outcome (bucket)"), first=4),
    "early_ack": Caught("split", ("removed before the master knew",)),
    "ack_by_job": Caught("standalone", ("message left behind",)),
    "no_reconcile": Caught("standalone", ("stuck",), first=2),
    "no_cut": Caught("split", ("taken from its runner",)),
    "no_self_fence": Caught("harsh", ("start without lease",), 80, first=50),
    "no_life_check": Caught("split", ("unexplained extra start",), 80, first=2),
    "no_adopt": Caught("split", ("stuck",)),
    "no_recover_reconcile": Caught("lanes", ("stuck",)),
    "recover_all": Caught("lanes", ("taken from its runner",), 80, first=8),
    "naive_drain": Caught("lanes", ("taken from another owner",), 120, first=19),
    "drain_once": Caught("lanes", ("stuck",), 120, first=86),
    "count_all": Caught("harsh", ("quarantined without enough starts",), 80, first=10),
    "deaf_renewals": Caught("backlog", ("start a lease after a cancel",), 120, first=31),
    "no_tombstone": Caught("lanes", ("start a lease after a cancel", "start after a certain cancel"), first=4),
    "no_retire+no_sweep": Caught("lanes", ("stuck",), 80, first=2),
    "claim_no_own+no_sweep": Caught("lanes", ("stuck",), 80),
    "hold_over": Caught("harsh", ("row vanished",)),
    "disown_early": Caught("harsh", ("start without lease",), 120, first=6),
}
"""What random faults show. The rest is in `test_directed.py`, in the conformance suite, or argued in README.md."""
