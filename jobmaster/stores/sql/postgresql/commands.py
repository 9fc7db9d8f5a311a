"""Orders to workers, and their answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobmaster.model.worker import Command, CommandReply

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jobmaster.stores.sql.postgresql.transaction import Transaction

INSERT = """
INSERT INTO jm_command (worker, verb, args, created_us)
SELECT worker, $2, $3, $4 FROM unnest($1::bigint[]) WITH ORDINALITY AS u(worker, place) ORDER BY place RETURNING id
"""
UNANSWERED = """
SELECT id, verb, args FROM jm_command WHERE worker = ANY($1::bigint[]) AND answered_us IS NULL ORDER BY id LIMIT 1000
"""
ANSWER = "UPDATE jm_command SET answered_us = $1, reply = $2 WHERE id = $3 AND answered_us IS NULL"
REPLIES = "SELECT id, worker, verb, answered_us, reply FROM jm_command WHERE id = ANY($1::bigint[])"


async def send_command(transaction: Transaction, workers: Sequence[int], verb: str, args: bytes) -> list[int]:
    """One command per worker."""
    transaction.topics.update(f"worker:{worker}" for worker in workers)
    now_us = await transaction.tick()
    return [row[0] for row in await transaction.rows(INSERT, list(workers), verb, args, now_us)]


async def unanswered(transaction: Transaction, workers: Sequence[int]) -> list[Command]:
    """What the workers have not answered yet."""
    return [Command(*row) for row in await transaction.rows(UNANSWERED, list(workers))]


async def answer_command(transaction: Transaction, command: int, reply: bytes) -> None:
    """The first answer stays."""
    await transaction.changed(ANSWER, await transaction.tick(), reply, command)


async def command_replies(transaction: Transaction, commands: Sequence[int]) -> list[CommandReply]:
    """The present state of those that are known, in the order asked."""
    rows = {row[0]: row for row in await transaction.rows(REPLIES, list(commands))}
    return [
        CommandReply(number, worker, verb, answered_us, b"{}" if reply is None else reply)
        for number, worker, verb, answered_us, reply in (rows[command] for command in commands if command in rows)
    ]
