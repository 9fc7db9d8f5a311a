"""The verbs of the cluster, the coordinator and of commands (ports.master), one line each."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from jobmaster.errors import StoreUnavailable
from jobmaster.rules.storable import check_cluster, check_definition, check_text
from jobmaster.settings.dsn import POSTGRESQL
from jobmaster.stores.sql.enlisting import IDENTITY
from jobmaster.stores.sql.postgresql import cluster, commands, retention, upkeep, weeks
from jobmaster.stores.sql.postgresql.handle import Handle

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jobmaster.model.definition import ClusterRecord, Definition
    from jobmaster.model.ids import JobKey
    from jobmaster.model.worker import Command, CommandReply

logger = logging.getLogger("jobmaster.store")


class UpkeepVerbs(Handle):
    """The cluster's, the coordinator's and the commands' part of MasterStore on PostgreSQL."""

    # -- cluster, definitions

    async def now_us(self) -> int:
        return await self._read(lambda tx: tx.tick())

    async def identity(self) -> str:
        return str(await self._read(lambda tx: tx.value(IDENTITY[POSTGRESQL])))

    async def load_cluster(self) -> ClusterRecord | None:
        return await self._read(cluster.load_cluster)

    async def save_cluster(self, record: ClusterRecord) -> bool:
        check_cluster(record)
        return await self._write(lambda tx: cluster.save_cluster(tx, record))

    async def save_definitions(self, definitions: Sequence[Definition]) -> None:
        for definition in definitions:
            check_definition(definition)
        await self._write(lambda tx: cluster.save_definitions(tx, definitions))

    async def definitions(self, names: Sequence[str] | None = None) -> list[Definition]:
        return await self._read(lambda tx: cluster.definitions(tx, names))

    # -- coordinator

    async def route(self, tasks: Sequence[str]) -> int:
        total = 0
        while True:
            try:
                found = await self._write(lambda tx: upkeep.route(tx, tasks))
            except StoreUnavailable:
                if not total:
                    raise
                return total  # those are told; the next call goes on
            total += found
            if found < upkeep.ROUTED_AT_ONCE:
                return total

    async def sweep(self, *, overdue_us: int, limit: int) -> int:
        return await self._write(lambda tx: upkeep.sweep(tx, overdue_us, limit))

    async def purge(self, *, before_us: int, limit: int) -> int:
        done = await self._write(lambda tx: retention.purge(tx, before_us, limit))
        return done + await self._keep_weeks(before_us)

    async def _keep_weeks(self, before_us: int) -> int:
        """Make the partitions of the next weeks, and drop one that is old; what can't be done now is done later."""
        try:
            await self._write(weeks.make_ahead)
            return await self._write(lambda tx: weeks.drop_oldest(tx, before_us))
        except Exception as error:
            if not weeks.may_wait(error):
                raise
            logger.debug("weeks_left error=%s", error)
            return 0

    async def forget_results(self, *, limit: int) -> int:
        return await self._write(lambda tx: retention.forget_results(tx, limit))

    async def aged(self, *, before_us: int, limit: int) -> list[bytes]:
        return await self._read(lambda tx: retention.aged(tx, before_us, limit))

    async def import_aged(self, records: Sequence[bytes]) -> list[JobKey]:
        return await self._write(lambda tx: retention.import_aged(tx, records))

    async def delete_final(self, keys: Sequence[JobKey]) -> int:
        return await self._write(lambda tx: retention.delete_final(tx, keys))

    # -- commands

    async def send_command(self, workers: Sequence[int], verb: str, args: bytes) -> list[int]:
        check_text(verb, "command")
        return await self._write(lambda tx: commands.send_command(tx, workers, verb, args))

    async def take_commands(self, worker: int) -> list[Command]:
        return await self._read(lambda tx: commands.unanswered(tx, [worker]))

    async def answer_command(self, command: int, reply: bytes) -> None:
        await self._write(lambda tx: commands.answer_command(tx, command, reply))

    async def command_replies(self, sent: Sequence[int]) -> list[CommandReply]:
        return await self._read(lambda tx: commands.command_replies(tx, sent))
