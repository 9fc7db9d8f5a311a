"""Sleep flags without a server: no state in which nobody tells the owner to read."""

from __future__ import annotations

import asyncio

from jobmaster.stores.sql.postgresql.sleepers import BURST, Sleepers


async def test_messages_that_come_before_the_flag_is_up_are_followed_by_a_look() -> None:
    """The flag was to go up and has not: nothing goes down, and no push notifies, so a timer has to."""
    rung = asyncio.Event()
    sleepers = Sleepers(ring=lambda _: rung.set(), changed=lambda: None)
    sleepers.connected()
    sleepers.watch(1)
    sleepers.read(1, 0, more=False)
    assert sleepers.to_raise() == [1]
    sleepers.read(1, BURST, more=False)
    assert (sleepers.to_raise(), sleepers.to_lower()) == ([], [])
    async with asyncio.timeout(5):
        await rung.wait()
    sleepers.close()
