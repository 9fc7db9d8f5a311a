"""Client processes: they enqueue through the real acceptor, repeat what is unknown, cancel, and may die."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from jobmaster.accept import Acceptor, Delivery
from jobmaster.errors import OutcomeUnknown, StoreUnavailable
from jobmaster.model.job import NewJob

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.simulation.virtual_loop import Process
    from tests.simulation.workload import Plan
    from tests.simulation.world import World

TRIES = 3
PATIENCE = 5.0
"""Accept timeout of the client."""


class Producer:
    """One client process."""

    def __init__(self, world: World, process: Process) -> None:
        self._world, self.process = world, process
        remotes = world.remotes_of(process)
        master = next(iter(remotes.values()))
        self._master = master
        self._acceptor = Acceptor(
            master,
            {agent: remotes[agent] for agent in world.config.agents},
            home=world.config.agents[0] if world.config.standalone else None,
            jobs_first_on_master=False,
            now=lambda: world.loop.virtual,
        )
        self.under_way: dict[bytes, Plan] = {}

    async def produce(self, plans: Iterator[Plan], pause: float) -> None:
        """Enqueue the plans one after the other, with pauses around `pause` seconds; slow ones overlap."""
        for plan in plans:
            self.process.spawn(self._enqueue(plan))
            if plan.cancel_after is not None:
                self.process.spawn(self._cancel(plan))
            burst = self._world.rng.random() < 0.5  # half of the jobs come at once after another
            await asyncio.sleep(0.01 if burst else self._world.rng.expovariate(0.5 / pause))

    async def _enqueue(self, plan: Plan) -> None:
        world = self._world
        now_us = world.store_us()
        world.checker.offered(plan, now_us + round(plan.delay * 1e6))
        self.under_way[plan.key] = plan
        certain = True
        for attempt in range(TRIES):
            job = NewJob(
                key=plan.key,
                envelope=plan.envelope(now_us),
                payload=plan.payload(now_us),
                due_us=None if plan.delay else now_us,
                delay_us=round(plan.delay * 1e6),
                verify=attempt > 0,
            )
            deadline = world.loop.virtual + PATIENCE
            delivery = Delivery([job], lane=plan.lane, priority=plan.priority, deadline=deadline, to_master=plan.hold)
            try:
                await self._acceptor.accept(delivery)
            except OutcomeUnknown:
                certain = False
            except StoreUnavailable:
                pass
            else:
                world.checker.accepted(plan.key)
                break
        else:
            if certain:
                world.checker.refused(plan.key)
        self.under_way.pop(plan.key, None)

    async def _cancel(self, plan: Plan) -> None:
        world = self._world
        await asyncio.sleep(plan.cancel_after or 0.0)
        for _ in range(10):
            try:
                reply = await self._master.cancel(plan.key)
            except StoreUnavailable as error:
                if isinstance(error, OutcomeUnknown):
                    world.checker.cancel_doubtful(plan.key)
                await asyncio.sleep(0.3)
            else:
                world.checker.cancel_answered(plan.key, reply.outcome)
                return
