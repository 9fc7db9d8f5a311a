"""What breaks a simulated cluster: processes die, stop, hang and come back, and lose their way to the stores."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.simulation.hosts import Host
    from tests.simulation.world import World

ACTS = (
    "child killed",
    "tree killed",
    "supervisor killed",
    "child paused",
    "host paused shortly",
    "host paused longer than the lease",
    "cut from the master",
    "cut from the agent",
    "cut from everything",
    "store down",
    "graceful stop",
    "rolling restart",
    "producer killed",
)


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
        rng = world.rng
        living = [host for host in world.hosts if host.up]
        if act == "producer killed":
            world.strike(act)
            world.kill_producer()
            return
        if not living:
            return
        host = rng.choice(living)
        world.strike(act)
        world.trace(None, f"nemesis: {act} ({host.name})")
        if act == "child killed":
            host.kill_child()
        elif act == "tree killed":
            host.kill_tree()
            world.after(rng.uniform(0.2, 1.5 * world.config.lease), host.boot)
        elif act == "supervisor killed":
            host.kill_supervisor()
            world.after(rng.uniform(0.2, 8.0), host.boot)
        elif act == "child paused":
            self._pause(host, rng.uniform(1.0, 1.5 * world.config.lease), whole=False)
        elif act == "host paused shortly":
            self._pause(host, rng.uniform(0.3, 0.6 * world.config.lease), whole=True)
        elif act == "host paused longer than the lease":
            self._pause(host, rng.uniform(1.05, 2.0) * world.config.lease, whole=True)
        elif act.startswith("cut"):
            self._cut(host, act)
        elif act == "store down":
            self._down(rng.choice(list(world.servers)), rng.uniform(0.5, 5.0))
        elif act == "graceful stop":
            again = rng.uniform(0.5, 3.0) if rng.random() < 0.3 else None
            host.stop(rng.uniform(0.1, 5.0), again_after=again)
        elif act == "rolling restart":
            for index, other in enumerate(living):
                world.after(index * rng.uniform(1.0, 3.0), other.stop, 0.5)

    def _pause(self, host: Host, lasts: float, *, whole: bool) -> None:
        for process in host.processes() if whole else host.children():
            process.pause()
            self._world.after(lasts, process.go_on)

    def _cut(self, host: Host, act: str) -> None:
        rng, servers = self._world.rng, list(self._world.servers)
        if act == "cut from the master":
            servers = servers[:1]
        elif act == "cut from the agent":
            servers = servers[1:] or servers
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
