"""From a call to a stored job: by task, by handler, by name, one or many, here or in another cluster."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from jobmaster.errors import ConfigurationError, NotRegistered
from jobmaster.options import PLAIN, CallPlan
from jobmaster.registry import Target, TaskDefinition, target_of, unknown_task
from jobmaster.result import Result
from jobmaster.task import Job, Task

if TYPE_CHECKING:
    from jobmaster.app import JobMaster
    from jobmaster.client import Client, Order
    from jobmaster.gateway import Gateway
    from jobmaster.handler import Handler
    from jobmaster.model.definition import Definition
    from jobmaster.model.message_data import MessageData

    What: TypeAlias = Task[..., Any] | type[Handler] | str
    Data: TypeAlias = MessageData | Mapping[str, Any] | None

R = TypeVar("R")


def task_behind(what: object) -> object:
    """`what`, or the task that it carries as its attribute `_jobmaster_task`, as the tasks of `jobmaster.compat` do."""
    return what if isinstance(what, (Task, str, type)) else getattr(what, "_jobmaster_task", what)


def arguments_of(data: Data) -> dict[str, Any]:
    """Arguments by name, or the entries of message data, as a dict.

    Raises:
        TypeError: they have no names.
    """
    if data is not None and not hasattr(data, "keys"):
        raise TypeError(f"arguments are given by name, as in {{'name': 'John'}}, and this is a {type(data).__name__}")
    return dict(data or {})


class Enqueuer:
    """Prepares calls and hands them to the client. Methods with the prefix `a` are for a running event loop."""

    def __init__(self, app: JobMaster) -> None:
        self._app = app
        self._stored: dict[str, Target] = {}

    def call(
        self, definition: TaskDefinition, args: tuple[Any, ...], kwargs: dict[str, Any], plan: CallPlan
    ) -> Result[Any]:
        """Enqueue one call of a task; see `Task.delay` for the errors."""
        definition.check_call(args, kwargs)
        return self._one(definition.target, self._app.codec.encode_call(args, kwargs), plan, definition)

    async def acall(
        self, definition: TaskDefinition, args: tuple[Any, ...], kwargs: dict[str, Any], plan: CallPlan
    ) -> Result[Any]:
        """`call` on the running loop."""
        definition.check_call(args, kwargs)
        return await self._aone(definition.target, self._app.codec.encode_call(args, kwargs), plan, definition)

    def many(self, jobs: Sequence[Job[R]]) -> list[Result[R]]:
        """Enqueue prepared calls; see `JobMaster.enqueue_many`."""
        prepared = []
        for job in jobs:
            client = self._client(job.plan)
            prepared.append((client, self._order(client, job, self._clock_ahead_us(client, job.plan))))
        for client, transaction, orders in _journeys(prepared, jobs):
            client.accept(orders) if transaction is None else client.enlist(orders, transaction)
        return _results(prepared, jobs)

    async def amany(self, jobs: Sequence[Job[R]]) -> list[Result[R]]:
        """`many` on the running loop."""
        prepared = []
        for job in jobs:
            client = self._client(job.plan)
            prepared.append((client, self._order(client, job, await self._aclock_ahead_us(client, job.plan))))
        for client, transaction, orders in _journeys(prepared, jobs):
            await (client.aaccept(orders) if transaction is None else client.aenlist(orders, transaction))
        return _results(prepared, jobs)

    def by_name(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Result[Any]:
        """Enqueue by name; see `JobMaster.send`."""
        definition = self._app.registry.find(name)
        if definition is not None and definition.handler is None:
            return self.call(definition, args, kwargs, PLAIN)
        target = self._target(name)
        return self._one(target, self.encode(target, args, kwargs), PLAIN, definition)

    async def aby_name(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Result[Any]:
        """`by_name` on the running loop."""
        definition = self._app.registry.find(name)
        if definition is not None and definition.handler is None:
            return await self.acall(definition, args, kwargs, PLAIN)
        target = await self._atarget(name)
        return await self._aone(target, self.encode(target, args, kwargs), PLAIN, definition)

    def named(self, what: What, data: Data, plan: CallPlan) -> Result[Any]:
        """Enqueue a task, a handler or a name with data by name; see `Scheduler`."""
        definition = self.definition_of(what)
        if definition is not None and definition.handler is None:
            return self.call(definition, (), arguments_of(data), plan)
        target = definition.target if definition is not None else self._target(str(what))
        return self._one(target, self.encode(target, (), arguments_of(data)), plan, definition)

    async def anamed(self, what: What, data: Data, plan: CallPlan) -> Result[Any]:
        """`named` on the running loop."""
        definition = self.definition_of(what)
        if definition is not None and definition.handler is None:
            return await self.acall(definition, (), arguments_of(data), plan)
        target = definition.target if definition is not None else await self._atarget(str(what))
        return await self._aone(target, self.encode(target, (), arguments_of(data)), plan, definition)

    def _one(self, target: Target, call: bytes, plan: CallPlan, definition: TaskDefinition | None) -> Result[Any]:
        client = self._client(plan)
        order = client.order(target, call, plan, clock_ahead_us=self._clock_ahead_us(client, plan))
        if plan.transaction is None:
            client.accept([order])
        else:
            client.enlist([order], plan.transaction)
        return _result(client, order, definition, plan)

    async def _aone(
        self, target: Target, call: bytes, plan: CallPlan, definition: TaskDefinition | None
    ) -> Result[Any]:
        client = self._client(plan)
        order = client.order(target, call, plan, clock_ahead_us=await self._aclock_ahead_us(client, plan))
        if plan.transaction is None:
            await client.aaccept([order])
        else:
            await client.aenlist([order], plan.transaction)
        return _result(client, order, definition, plan)

    def _order(self, client: Client, job: Job[Any], clock_ahead_us: int) -> Order:
        call = self._app.codec.encode_call(job.args, job.kwargs)
        return client.order(job.definition.target, call, job.plan, clock_ahead_us=clock_ahead_us)

    def _client(self, plan: CallPlan) -> Client:
        return self._app.client if plan.cluster is None else self._app.cluster(plan.cluster).client

    def _clock_ahead_us(self, client: Client, plan: CallPlan) -> int:
        """Only `expires` after a time needs the store's clock; everything else asks nobody."""
        return 0 if plan.expires_after_us is None else client.ask(lambda gate: gate.clock_ahead_us())

    async def _aclock_ahead_us(self, client: Client, plan: CallPlan) -> int:
        return 0 if plan.expires_after_us is None else await client.aask(lambda gate: gate.clock_ahead_us())

    def encode(self, target: Target, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
        """Arguments as the target's jobs carry them.

        Raises:
            SerializationError: they cannot travel.
            ConfigurationError: a handler was given arguments by position.
        """
        if not target.is_data:
            return self._app.codec.encode_call(args, kwargs)
        if args:
            raise ConfigurationError(
                f"{target.name!r} is a handler, which takes data by name only: send({target.name!r}, Name=...)."
            )
        from jobmaster.handler import encode_message_data

        return encode_message_data(self._app.codec, kwargs)

    def definition_of(self, what: What) -> TaskDefinition | None:
        """What this process registered; None for a name that only the master may know.

        Raises:
            NotRegistered: it is a class that is no handler.
        """
        behind = task_behind(what)
        if isinstance(behind, Task):
            return behind.definition
        if isinstance(what, str):
            return self._app.registry.find(what)
        for definition in self._app.registry:
            if definition.handler is what:
                return definition
        raise NotRegistered(f"{what!r} is neither a task nor a registered handler. Put @jm.task or @jm.handler on it.")

    def _target(self, name: str) -> Target:
        return self._known(name) or self._remember(name, self._app.client.ask(_definitions))

    async def _atarget(self, name: str) -> Target:
        return self._known(name) or self._remember(name, await self._app.client.aask(_definitions))

    def _known(self, name: str) -> Target | None:
        definition = self._app.registry.find(name)
        return self._stored.get(name) if definition is None else definition.target

    def _remember(self, name: str, definitions: Sequence[Definition]) -> Target:
        self._stored = {definition.name: target_of(definition) for definition in definitions}
        if name not in self._stored:
            known = {**dict.fromkeys(definition.name for definition in self._app.registry), **self._stored}
            raise unknown_task(name, known)
        return self._stored[name]


async def _definitions(gate: Gateway) -> Sequence[Definition]:
    return await gate.store.definitions()


def _result(client: Client, order: Order, definition: TaskDefinition | None, plan: CallPlan) -> Result[Any]:
    returns = None if definition is None else definition.returns
    # A job in somebody's transaction is accepted when that commits, which nobody tells us.
    accepted = plan.transaction is None
    return Result(client, order.job.key, order.job.envelope.custom_id, returns=returns, accepted=accepted)


def _journeys(
    prepared: Sequence[tuple[Client, Order]], jobs: Sequence[Job[Any]]
) -> list[tuple[Client, object, list[Order]]]:
    """Orders that go the same way: to the stores of one cluster, or into one transaction."""
    ways: dict[tuple[int, int], tuple[Client, object, list[Order]]] = {}
    for (client, order), job in zip(prepared, jobs, strict=True):
        transaction = job.plan.transaction
        ways.setdefault((id(client), id(transaction)), (client, transaction, []))[2].append(order)
    return list(ways.values())


def _results(prepared: Sequence[tuple[Client, Order]], jobs: Sequence[Job[Any]]) -> list[Result[Any]]:
    pairs = zip(prepared, jobs, strict=True)
    return [_result(client, order, job.definition, job.plan) for (client, order), job in pairs]
