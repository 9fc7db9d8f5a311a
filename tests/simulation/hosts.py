"""Simulated machines: a supervisor process with its lease keeper, and the engine processes that it starts."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from jobmaster.engine.lease_keeper import LeaseKeeper
from jobmaster.engine.worker import Engine
from jobmaster.errors import StoreUnavailable
from jobmaster.model.states import WorkerMode
from jobmaster.model.worker import Registration
from jobmaster.rules.lease import LeaseTiming
from jobmaster.rules.recovery import blamed
from tests.simulation.checker import Assignment
from tests.simulation.clocks import SimClock
from tests.simulation.engine_link import SharedMemory, SimChild, SimEngineLink
from tests.simulation.virtual_loop import Process
from tests.simulation.workload import SimPool, SimWorkload

if TYPE_CHECKING:
    from jobmaster.model.ids import JobKey
    from tests.simulation.world import World


class Host:
    """One machine that runs one worker. It keeps its name and its clock over all its boots."""

    def __init__(self, world: World, name: str, *, agent: str, lanes: tuple[str, ...]) -> None:
        self.world, self.name, self.agent, self.lanes = world, name, agent, lanes
        rng = world.rng
        self.clock = SimClock(world.loop, skew_us=round(rng.uniform(-300, 300) * 1e6), rate=rng.uniform(0.99, 1.01))
        self.supervisor_process = Process(world.loop, f"{name}/never", host=name)
        self.supervisor_process.kill("never started")
        self.engines: dict[Process, Engine] = {}
        self.stopping = False
        self._boots = 0
        self._children: list[SimChild] = []

    # -- what the nemesis and the world ask

    @property
    def up(self) -> bool:
        """Its supervisor runs, and is not on its way out."""
        return self.supervisor_process.alive and not self.stopping

    def children(self) -> list[Process]:
        """The living engine processes."""
        return [child.process for child in self._children if child.process.alive]

    def processes(self) -> list[Process]:
        """The living processes, the supervisor first."""
        return [process for process in (self.supervisor_process, *self.children()) if process.alive]

    def kill_child(self) -> None:
        """SIGKILL of an engine (or the kernel's out-of-memory killer)."""
        for process in self.children()[:1]:
            process.kill(self.world.rng.choice(("SIGKILL", "SIGSEGV", "out of memory")))

    def kill_tree(self) -> None:
        """Power cut: everything on this machine is gone at once."""
        for process in self.processes():
            process.kill()

    def kill_supervisor(self) -> None:
        """Only the supervisor dies; its children follow within seconds (they notice that their parent is gone)."""
        self.supervisor_process.kill()
        for process in self.children():
            self.world.after(self.world.rng.uniform(0.0, 3.0), process.kill, "parent died")

    def boot(self) -> None:
        """Start the worker, if nothing of it runs."""
        if self.processes():
            return
        self._boots += 1
        self.stopping = False
        self._children = []
        self.supervisor_process = Process(self.world.loop, f"{self.name}/{self._boots}", host=self.name)
        self.supervisor_process.spawn(self._supervise())

    def boot_if_down(self) -> None:
        """After the faults: nobody stays down."""
        if not self.processes():
            self.boot()

    def stop(self, grace: float, boot_after: float = 0.5) -> None:
        """SIGTERM; the same name starts again a while after the last process has ended."""
        if not self.up:
            return
        self.stopping = True
        self._terminate(grace)
        self.world.network.loop.create_task(self._boot_after_stop(grace, boot_after), context=self.world.network.world)

    async def _boot_after_stop(self, grace: float, boot_after: float) -> None:
        patience = self.world.loop.virtual + grace + 10.0
        while self.processes() and self.world.loop.virtual < patience:
            await asyncio.sleep(0.1)
        if self.processes():
            self.kill_tree()  # what an orchestrator does with a pod that does not end
        await asyncio.sleep(boot_after)
        self.boot()

    def assignment(self, process: Process, key: JobKey) -> Assignment | None:
        """Under what an engine here runs a job, read from its memory."""
        engine = self.engines[process]
        for (running, gen), entry in engine.runner.running.items():
            if running == key:
                bucket = entry.life.bucket
                return Assignment(engine.lease.worker, bucket.id, bucket.epoch, gen, entry.guarded)
        return None

    # -- the supervisor process (scaffold until jobmaster.engine.supervisor is there)

    def _terminate(self, grace: float) -> None:
        for child in self._children:
            child.grace = grace
            child.terminate()

    async def _supervise(self) -> None:
        store = next(iter(self.world.stores_of(self.supervisor_process).values()))
        config, rng = self.world.config, self.world.rng
        keeper = LeaseKeeper(
            store=store,
            clock=self.clock,
            timing=LeaseTiming(lease=config.lease, renew_every=config.renew),
            random=rng.random,
        )
        keeping = asyncio.create_task(keeper.run())
        child = await self.spawn(0)
        keeper.add(child)
        while True:
            await asyncio.sleep(0.1)
            if (reason := child.exit_reason()) is None:
                if child.condemned():
                    await asyncio.sleep(5.0)
                    child.kill()
                continue
            report = child.reports()
            keeper.remove(child)
            if report is not None:
                for _ in range(20):
                    try:
                        await store.end_worker(report.worker, blame=blamed(child.evidence(), reason))
                    except StoreUnavailable:
                        await asyncio.sleep(0.3)
                    else:
                        break
            if self.stopping or reason == "exit 0":
                keeping.cancel()
                self.supervisor_process.loop.call_soon(self.supervisor_process.kill, "exit 0", context=self.world.network.world)
                return
            child = await self.spawn(0)
            keeper.add(child)

    # -- ports.link.Spawner

    async def spawn(self, engine: int) -> SimChild:
        """Start an engine process."""
        world = self.world
        process = Process(world.loop, f"{self.name}/{self._boots}.{engine}", host=self.name)
        process.cut |= self.supervisor_process.cut
        memory = SharedMemory()
        link = SimEngineLink(process, self.supervisor_process, memory, world.network)
        child = SimChild(process, link, memory, world.network, lambda: self.engines[process].stop(child.grace))
        self._children.append(child)
        world.after(world.rng.uniform(0.05, 0.4), process.call, self._start_engine, process, link)
        process.on_death.append(lambda: world.checker.died(process))
        return child

    def _start_engine(self, process: Process, link: SimEngineLink) -> None:
        world, config = self.world, self.world.config
        self.engines[process] = engine = Engine(
            store=world.stores_of(process)[self.agent],
            link=link,
            clock=self.clock,
            workload=SimWorkload(),
            async_pool=SimPool(world, process),
            sync_pool=SimPool(world, process),
            tuning=config.tuning(agent=self.agent, lanes=self.lanes),
            registration=Registration(
                name=self.name,
                boot=self.clock.now_us(),
                agent=self.agent,
                lanes=self.lanes,
                mode=WorkerMode.FULL,
                host=self.name,
                pid=process.pid,
                slots=config.slots,
                version="sim",
            ),
            seed=world.rng.getrandbits(32),
        )
        process.spawn(self._run(process, engine))

    async def _run(self, process: Process, engine: Engine) -> None:
        try:
            await engine.run()
        except Exception as error:  # noqa: BLE001 - the engine must never fail: told to the checker
            if not self.world.loop.is_closed():
                self.world.checker.crashed(process, error)
            self.world.network.later(0, process.kill, "exit 1")
        else:
            self.world.network.later(0, process.kill, "exit 0")
