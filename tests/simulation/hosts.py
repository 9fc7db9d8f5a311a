"""Simulated machines: a supervisor process with its lease keeper, and the engine processes that it starts."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from jobmaster.engine.lease_keeper import LeaseKeeper
from jobmaster.engine.supervisor import Patience, Supervisor
from jobmaster.engine.worker import Engine
from jobmaster.model.states import WorkerMode
from jobmaster.model.worker import Registration
from jobmaster.rules.lease import LeaseTiming
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
        self._names: dict[Process, str] = {}
        self.stopping = False
        self._boots = 0
        self._supervisor: Supervisor | None = None
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
        children = self.children()
        for process in self.world.rng.sample(children, min(1, len(children))):
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
        self._supervisor = None
        self.supervisor_process = Process(self.world.loop, f"{self.name}/{self._boots}", host=self.name)
        self.supervisor_process.spawn(self._supervise(self.supervisor_process))

    def boot_if_down(self) -> None:
        """After the faults: nobody stays down."""
        if not self.processes():
            self.boot()

    def stop(self, boot_after: float, *, again_after: float | None = None) -> None:
        """SIGTERM, perhaps a second one; the same name starts again a while after the last process has ended."""
        if not self.up:
            return
        self.stopping = True
        self._signal()
        if again_after is not None:
            self.world.after(again_after, self._signal)
        self.world.network.loop.create_task(self._boot_after_stop(boot_after), context=self.world.network.world)

    def _signal(self) -> None:
        if self._supervisor is not None:
            self.supervisor_process.call(self._supervisor.stop)

    async def _boot_after_stop(self, boot_after: float) -> None:
        patience = self.world.loop.virtual + self.world.config.grace + 20.0
        while self.processes() and self.world.loop.virtual < patience:
            await asyncio.sleep(0.1)
        if self.processes():
            self.kill_tree()  # what an orchestrator does with a pod that does not end
        await asyncio.sleep(boot_after)
        self.boot()

    def assignment(self, process: Process, key: JobKey) -> Assignment | None:
        """Under what an engine here runs a job, read from its memory."""
        engine = self.engines[process]
        entry = engine.runner.running.get(key)
        if entry is None:
            return None
        bucket = entry.life.bucket
        return Assignment(engine.lease.worker, bucket.id, bucket.epoch, entry.gen, entry.guarded)

    # -- the supervisor process

    async def _supervise(self, process: Process) -> None:
        world, config, random = self.world, self.world.config, self.world.rng.random
        store = next(iter(world.stores_of(process).values()))
        timing = LeaseTiming(lease=config.lease, renew_every=config.renew)
        keeper = LeaseKeeper(store=store, clock=self.clock, timing=timing, random=random)
        self._supervisor = Supervisor(
            spawner=self,
            keeper=keeper,
            store=store,
            clock=self.clock,
            engines=config.engines,
            patience=Patience(
                max_block=1.2 * config.lease, start=20.0, condemned=3.0, grace=config.grace, after_grace=4.0, burial=3.0
            ),
            random=random,
        )
        try:
            await self._supervisor.run()
        except Exception as error:  # noqa: BLE001 - a supervisor must never fail: told to the checker
            world.checker.crashed(process, error)
        if process.alive:
            world.network.later(0, process.kill, "exit")

    # -- ports.link.Spawner

    async def spawn(self, engine: int) -> SimChild:
        """Start an engine process."""
        world = self.world
        process = Process(world.loop, f"{self.name}/{self._boots}.{engine}", host=self.name)
        process.cut |= self.supervisor_process.cut
        memory = SharedMemory()
        link = SimEngineLink(process, self.supervisor_process, memory, world.network)
        child = SimChild(process, link, memory, world.network, lambda: self._terminated(process))
        self._children.append(child)
        world.after(world.rng.uniform(0.05, 0.4), process.call, self._start_engine, process, link, engine)
        process.on_death.append(lambda: self._died(process))
        return child

    def _died(self, process: Process) -> None:
        self.world.checker.died(process)
        if self._supervisor is not None:
            self.supervisor_process.call(self._supervisor.wake)

    def _terminated(self, process: Process) -> None:
        """SIGTERM has arrived in an engine process."""
        if process in self.engines:
            self.engines[process].stop(self.world.config.grace)
        else:
            self.world.network.later(0, process.kill, "exit 0")

    def _start_engine(self, process: Process, link: SimEngineLink, number: int) -> None:
        world, config = self.world, self.world.config
        self.engines[process] = engine = Engine(
            store=world.stores_of(process)[self.agent],
            link=link,
            clock=self.clock,
            workload=SimWorkload(),
            async_pool=SimPool(world, process, self.clock),
            sync_pool=SimPool(world, process, self.clock),
            apart_pool=SimPool(world, process, self.clock, apart=True),
            tuning=config.tuning(agent=self.agent, lanes=self.lanes),
            registration=Registration(
                name=self._name_of(number, process),
                boot=self.clock.now_us(),
                agent=self.agent,
                lanes=self.lanes,
                mode=WorkerMode.FULL,
                host=self.name,
                pid=process.pid,
                slots=config.slots,
                version="sim",
            ),
            schedules=lambda: world.static_schedules,
            seed=world.rng.getrandbits(32),
        )
        process.spawn(self._run(process, engine))

    def _name_of(self, number: int, process: Process) -> str:
        """A name that no living engine here has: registering a name ends the lease of who had it (R4)."""
        name = self.name if self.world.config.engines == 1 else f"{self.name}-{number}"
        taken = {used for other, used in self._names.items() if other.alive}
        self._names[process] = next(
            free for turn in range(1, 9) if (free := name if turn == 1 else f"{name}~{turn}") not in taken
        )
        return self._names[process]

    async def _run(self, process: Process, engine: Engine) -> None:
        try:
            await engine.run()
        except Exception as error:  # noqa: BLE001 - the engine must never fail: told to the checker
            self.world.checker.crashed(process, error)
            self.world.network.later(0, process.kill, "exit 1")
        else:
            self.world.network.later(0, process.kill, "exit 0")
