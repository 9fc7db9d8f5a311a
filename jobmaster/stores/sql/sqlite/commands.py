"""Orders to workers, and their answers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from jobmaster.model.worker import Command, CommandReply

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jobmaster.stores.sql.sqlite.transaction import Transaction

INSERT = "INSERT INTO jm_command (worker, verb, args, created_us) VALUES (?, ?, ?, ?) RETURNING id"
UNANSWERED = "SELECT id, verb, args FROM jm_command WHERE worker = ? AND answered_us IS NULL ORDER BY id LIMIT 1000"
ANSWER = "UPDATE jm_command SET answered_us = ?, reply = ? WHERE id = ? AND answered_us IS NULL"
REPLIES = """
SELECT id, worker, verb, answered_us, reply FROM jm_command WHERE id IN (SELECT value FROM json_each(?)) ORDER BY id
"""


def send_command(transaction: Transaction, workers: Sequence[int], verb: str, args: bytes) -> list[int]:
    """One command per worker."""
    transaction.topics.update(f"worker:{worker}" for worker in workers)
    return [transaction.rows(INSERT, (worker, verb, args, transaction.now_us))[0][0] for worker in workers]


def unanswered(transaction: Transaction, worker: int) -> list[Command]:
    """What the worker has not answered yet."""
    return [Command(*row) for row in transaction.rows(UNANSWERED, (worker,))]


def answer_command(transaction: Transaction, command: int, reply: bytes) -> None:
    """The first answer stays."""
    transaction.execute(ANSWER, (transaction.now_us, reply, command))


def command_replies(transaction: Transaction, commands: Sequence[int]) -> list[CommandReply]:
    """The present state of those that are known, in the order asked."""
    rows = {row[0]: row for row in transaction.rows(REPLIES, (json.dumps(list(commands)),))}
    return [
        CommandReply(number, worker, verb, answered_us, b"{}" if reply is None else reply)
        for number, worker, verb, answered_us, reply in (rows[command] for command in commands if command in rows)
    ]
