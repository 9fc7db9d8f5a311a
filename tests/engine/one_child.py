"""One real engine process, and a story that is told with it."""

from __future__ import annotations

import asyncio

import msgspec

from jobmaster.engine.links.processes import Launch, ProcessSpawner
from tests.engine.child_entries import Orders
from tests.engine.pool_workload import until


def launch(entry: str = "entry", *, grace: float = 3, **orders: object) -> Launch:
    return Launch(f"tests.engine.child_entries:{entry}", msgspec.json.encode(Orders(**orders)), grace)


def with_child(story, order: Launch):
    """Run `story(child, news)` with a new engine process, and leave none behind."""

    async def tell():
        spawner = ProcessSpawner(lambda _engine: order)
        news = []
        spawner.on_news, spawner.on_hurry = (lambda: news.append("news")), (lambda: news.append("hurry"))
        child = await spawner.spawn(0)
        try:
            await asyncio.wait_for(story(child, news), 30)
        finally:
            child.kill()
            await until(child.exit_reason)

    asyncio.run(tell())
