"""From a call of `recurring`, or a line of code that names a schedule, to the `Schedule` that a store keeps."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from jobmaster.enqueuing import arguments_of
from jobmaster.model.job import Envelope, decode_envelope, encode_envelope
from jobmaster.model.schedule import Rule, Schedule, ScheduleKey, ScheduleKind
from jobmaster.options import CallPlan
from jobmaster.recurring import Terms, check_fires, edited_rule, read_terms, rule_of
from jobmaster.registry import Target, TaskDefinition, target_of, unknown_task
from jobmaster.rules.compiling import compiled

if TYPE_CHECKING:
    from jobmaster.app import JobMaster
    from jobmaster.enqueuing import Data, What
    from jobmaster.gateway import Gateway
    from jobmaster.recurring import When


class Draft(msgspec.Struct, frozen=True):
    """A schedule whose every word was checked, but for the lane and priority of a task that is not here."""

    task: str
    definition: TaskDefinition | None
    data: dict[str, Any]
    rule: Rule
    terms: Terms


class ScheduleMaker:
    """Makes schedules for the jobs of an app.

    Args:
        app: knows the tasks.
        cluster: the app of the cluster that gets the schedules; `app` itself if it is its own.
    """

    def __init__(self, app: JobMaster, cluster: JobMaster | None = None) -> None:
        self._app = app
        self._cluster = cluster or app

    def draft(
        self, what: What, when: When, data: Data, options: Mapping[str, Any], *, may_have_ended: bool = False
    ) -> Draft:
        """Everything that can be checked without the master. `may_have_ended`: also one that never fires.

        Raises:
            ScheduleSyntaxError: the expression cannot be read.
            ConfigurationError: an option cannot be, or it never fires.
            TypeError: the task cannot take the data.
            NotRegistered: `what` is neither a task nor a handler.
        """
        terms = read_terms(options)
        rule = rule_of(when, terms)
        expression = compiled(rule, zone=self._cluster.settings.time_zone)
        if not may_have_ended:
            check_fires(rule, expression, datetime.now(UTC))
        definition = self._app.enqueuer.definition_of(what)
        arguments = arguments_of(data)
        if definition is not None and definition.handler is None:
            definition.check_call((), arguments)
        task = definition.name if definition is not None else str(what)
        return Draft(task, definition, arguments, rule, terms)

    async def target(self, gate: Gateway, task: str) -> Target:
        """What is known of a task, here or in the master.

        Raises:
            NotRegistered: nothing.
        """
        definition = self._app.registry.find(task)
        if definition is not None:
            return definition.target
        stored = {known.name: known for known in await gate.store.definitions()}
        if task not in stored:
            raise unknown_task(task, {**dict.fromkeys(known.name for known in self._app.registry), **stored})
        return target_of(stored[task])

    def schedule(
        self,
        draft: Draft,
        target: Target,
        *,
        key: ScheduleKey,
        kind: ScheduleKind = ScheduleKind.DYNAMIC,
        source: str = "",
    ) -> Schedule:
        """The schedule, ready to be stored.

        Raises:
            ClusterArchived: the cluster takes no work.
            ConfigurationError: the priority is switched off.
            SerializationError, MessageTooLarge: the data cannot travel.
        """
        mould = self._mould(target, draft.data, draft.terms.plan)
        return Schedule(
            key=key,
            name=draft.terms.name,
            kind=kind,
            rule=draft.rule,
            task=target.name,
            template=encode_envelope(mould),
            lane=mould.lane,
            priority=mould.priority,
            source=source,
        )

    async def edited(self, gate: Gateway, stored: Schedule, when: When | None, data: Data, terms: Terms) -> Schedule:
        """A schedule after an edit; what neither `when`, `data` nor `terms` name stays. Raises as `draft`."""
        rule = edited_rule(stored.rule, when, terms)
        if rule != stored.rule:
            check_fires(rule, compiled(rule, zone=self._cluster.settings.time_zone, key=stored.key), datetime.now(UTC))
        envelope = decode_envelope(stored.template)
        if data is not None or terms.given & {"lane", "priority", "max_retries", "timeout", "metadata"}:
            target = await self.target(gate, stored.task)
            definition = self._app.registry.find(stored.task)
            if data is not None and definition is not None and definition.handler is None:
                definition.check_call((), arguments_of(data))
            envelope = self._changed(envelope, target, data, terms)
        name = terms.name if "name" in terms.given else stored.name
        return msgspec.structs.replace(
            stored,
            name=name,
            rule=rule,
            template=encode_envelope(envelope),
            lane=envelope.lane,
            priority=envelope.priority,
        )

    def _changed(self, envelope: Envelope, target: Target, data: Data, terms: Terms) -> Envelope:
        plan, given = terms.plan, terms.given
        fresh = self._mould(target, arguments_of(data), plan)
        names = given & {"lane", "priority", "max_retries", "timeout", "metadata"}
        if data is not None:
            names |= {"call"}
        return msgspec.structs.replace(envelope, **{name: getattr(fresh, name) for name in names})

    def _mould(self, target: Target, data: dict[str, Any], plan: CallPlan) -> Envelope:
        """What all jobs of the schedule have in common; the planner adds what tells them apart."""
        call = self._app.enqueuer.encode(target, (), data)
        order = self._cluster.client.order(target, call, plan)
        return msgspec.structs.replace(order.job.envelope, created_us=0, scheduled_us=0, reply_to="")
