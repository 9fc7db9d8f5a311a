"""What breaks a simulated cluster: processes die, stop, hang and come back, and lose their way to the stores."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.simulation.hosts import Host
    from tests.simulation.world import World


class Nemesis:
    """Strikes at random moments until its time is over; then everything is mended."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._deck: list[str] = []

    async def run(self, until: float) -> None:
        """Strike until that moment of virtual time."""
        world = self._world
        pause = world.config.tempo
        while True:
            await asyncio.sleep(world.rng.expovariate(1 / pause))
            if world.loop.virtual >= until:
                return
            self.strike(self._draw())

    def _draw(self) -> str:
        """Every act comes once before one comes again, so that few strikes show all kinds."""
        if not self._deck:
            self._deck = list(ACTS)
            self._world.rng.shuffle(self._deck)
        return self._deck.pop()

    def strike(self, act: str) -> None:
        """One act against somebody who is there to suffer it."""
        world = self._world
        if act == "producer killed":
            world.strike(act)
            world.kill_producer()
            return
        living = [host for host in world.hosts if host.up]
        if not living:
            return
        host = world.rng.choice(living)
        world.strike(act)
        world.trace(None, f"nemesis: {act} ({host.name})")
        _DEEDS[act](self, host)

    def _kill_child(self, host: Host) -> None:
        host.kill_child()

    def _kill_tree(self, host: Host) -> None:
        host.kill_tree()
        self._world.after(self._world.rng.uniform(0.2, 1.5 * self._world.config.lease), host.boot)

    def _kill_supervisor(self, host: Host) -> None:
        host.kill_supervisor()
        self._world.after(self._world.rng.uniform(0.2, 8.0), host.boot)

    def _pause_child(self, host: Host) -> None:
        self._pause(host, self._world.rng.uniform(1.0, 1.5 * self._world.config.lease), whole=False)

    def _pause_shortly(self, host: Host) -> None:
        self._pause(host, self._world.rng.uniform(0.3, 0.6 * self._world.config.lease), whole=True)

    def _pause_long(self, host: Host) -> None:
        self._pause(host, self._world.rng.uniform(1.05, 2.0) * self._world.config.lease, whole=True)

    def _cut_master(self, host: Host) -> None:
        self._cut(host, list(self._world.servers)[:1])

    def _cut_agent(self, host: Host) -> None:
        servers = list(self._world.servers)
        self._cut(host, servers[1:] or servers)

    def _cut_all(self, host: Host) -> None:
        self._cut(host, list(self._world.servers))

    def _store_down(self, _host: Host) -> None:
        rng = self._world.rng
        self._down(rng.choice(list(self._world.servers)), rng.uniform(0.5, 5.0))

    def _stop(self, host: Host) -> None:
        rng = self._world.rng
        again = rng.uniform(0.5, 3.0) if rng.random() < 0.3 else None
        host.stop(rng.uniform(0.1, 5.0), again_after=again)

    def _roll(self, _host: Host) -> None:
        living = [host for host in self._world.hosts if host.up]
        for index, host in enumerate(living):
            self._world.after(index * self._world.rng.uniform(1.0, 3.0), host.stop, 0.5)

    def _pause(self, host: Host, lasts: float, *, whole: bool) -> None:
        for process in host.processes() if whole else host.children():
            process.pause()
            self._world.after(lasts, process.go_on)

    def _cut(self, host: Host, servers: list[str]) -> None:
        rng = self._world.rng
        lasts = rng.choice((rng.uniform(0.3, 2.0), rng.uniform(2.0, 1.6 * self._world.config.lease)))
        who = host.processes()
        if rng.random() < 0.4:
            who = host.children() if rng.random() < 0.5 else [host.supervisor_process]
        for process in who:
            process.cut.update(servers)
            self._world.after(lasts, process.cut.difference_update, servers)

    def _down(self, server: str, lasts: float) -> None:
        """Nobody reaches the server; who asks meanwhile is told nothing, or that there is no connection."""
        for process in self._world.processes():
            process.cut.add(server)
            self._world.after(lasts, process.cut.discard, server)


_DEEDS: dict[str, Callable[[Nemesis, Host], None]] = {
    "child killed": Nemesis._kill_child,
    "tree killed": Nemesis._kill_tree,
    "supervisor killed": Nemesis._kill_supervisor,
    "child paused": Nemesis._pause_child,
    "host paused shortly": Nemesis._pause_shortly,
    "host paused longer than the lease": Nemesis._pause_long,
    "cut from the master": Nemesis._cut_master,
    "cut from the agent": Nemesis._cut_agent,
    "cut from everything": Nemesis._cut_all,
    "store down": Nemesis._store_down,
    "graceful stop": Nemesis._stop,
    "rolling restart": Nemesis._roll,
}
ACTS = (*_DEEDS, "producer killed")
