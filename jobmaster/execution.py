"""Running one job: arguments out of the payload, the user's function, its result or exception back as an `Ended`."""

from __future__ import annotations

import contextlib
import inspect
import os
import sys
import time
import traceback
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, NoReturn

from jobmaster.context import JobContext, enter_job, leave_job
from jobmaster.errors import (
    Ignore,
    MessageTooLarge,
    NotRegistered,
    Reject,
    Retry,
    SerializationError,
)
from jobmaster.handler import decode_message_data
from jobmaster.model.durations import as_timedelta
from jobmaster.model.job import ErrorInfo, exception_name
from jobmaster.model.reasons import IGNORED
from jobmaster.model.run import RETURNED_NOTHING, End, Ended, Run
from jobmaster.options import moment_us

if TYPE_CHECKING:
    from jobmaster.handler import Injector
    from jobmaster.model.policy import TaskPolicy
    from jobmaster.registry import Registry, TaskDefinition
    from jobmaster.settings import Settings
    from jobmaster.wire.codec import Codec

LONGEST_MESSAGE: Final = 4_000
LONGEST_TRACEBACK: Final = 16_000


class TaskWorkload:
    """The app's tasks and handlers as `ports.workload.Workload`.

    Args:
        registry: the definitions.
        codec: reads arguments, writes results.
        settings: limits of results, defaults of tasks.
        injector: makes handlers, with what their constructors ask for.
        in_threads: sync tasks run in threads of this process.
    """

    def __init__(
        self,
        registry: Registry,
        *,
        codec: Codec,
        settings: Settings,
        injector: Injector,
        in_threads: bool = False,
    ) -> None:
        self._registry = registry
        self._in_threads = in_threads
        self._codec = codec
        self._settings = settings
        self._injector = injector
        self._policies: dict[str, tuple[TaskDefinition, TaskPolicy]] = {}

    def policy(self, task: str) -> TaskPolicy | None:
        """The policy of a task, or None where this process does not have it."""
        definition = self._registry.find(task)
        if definition is None:
            return None
        known = self._policies.get(task)
        if known is None or known[0] is not definition:
            known = self._policies[task] = (definition, definition.policy(self._settings, in_threads=self._in_threads))
        return known[1]

    async def invoke_async(self, run: Run) -> Ended:
        """Run an async task. A cancellation passes through."""
        prepared = self._prepare(run)
        if isinstance(prepared, Ended):
            return prepared
        definition, context = prepared
        token = enter_job(context)
        try:
            if definition.handler is not None:
                async with self._injector.scope() as scope:
                    handler = await scope.amake(definition.handler)
                    value = await handler.handle(context)
            elif definition.bound:
                value = await definition.function(context, *context.args, **context.kwargs)
            else:
                value = await definition.function(*context.args, **context.kwargs)
            return self._returned(definition, context, value)
        except Exception as error:  # noqa: BLE001 - every exception of the user's code becomes an outcome
            return self._raised(definition, context, error)
        finally:
            leave_job(token)

    def invoke_sync(self, run: Run) -> Ended:
        """Run a sync task to its end in the calling thread."""
        prepared = self._prepare(run)
        if isinstance(prepared, Ended):
            return prepared
        definition, context = prepared
        token, process = enter_job(context), os.getpid()
        try:
            if definition.handler is not None:
                with self._injector.scope() as scope:
                    value = scope.make(definition.handler).handle(context)
            elif definition.bound:
                value = definition.function(context, *context.args, **context.kwargs)
            else:
                value = definition.function(*context.args, **context.kwargs)
            return self._returned(definition, context, value)
        except Exception as error:  # noqa: BLE001 - as above
            if os.getpid() != process:
                traceback.print_exc()
                _end_a_copy(1)
            return self._raised(definition, context, error)
        finally:
            leave_job(token)
            if os.getpid() != process:
                raised = sys.exception()
                _end_a_copy((raised.code or 0) if isinstance(raised, SystemExit) else 0)

    def _prepare(self, run: Run) -> tuple[TaskDefinition, JobContext] | Ended:
        """The definition and the context of a run; an Ended where it cannot even begin."""
        envelope, codec = run.envelope, self._codec
        try:
            definition = self._registry.get(envelope.task)
            if run.checkpoint is not None or envelope.is_data:
                return definition, self._context_with_data(definition, run)
            args, kwargs = codec.decode_call(envelope.call, definition.hints)
        except (NotRegistered, SerializationError) as error:
            # The same bytes meet the same code in the next attempt: trying again would only repeat it.
            return Ended(End.RAISED, error=_error_info(error), retryable=False)
        return definition, JobContext(run, args=args, kwargs=kwargs, encode=self._encode_checkpoint)

    def _context_with_data(self, definition: TaskDefinition, run: Run) -> JobContext:
        envelope = run.envelope
        args: tuple[Any, ...] = ()
        msg_data = checkpoint = None
        if envelope.is_data:
            msg_data = decode_message_data(self._codec, envelope.call)
            kwargs = dict(msg_data)
        else:
            args, kwargs = self._codec.decode_call(envelope.call, definition.hints)
        if run.checkpoint is not None:
            checkpoint = self._codec.decode_value(run.checkpoint, what="checkpoint")
        return JobContext(
            run, args=args, kwargs=kwargs, checkpoint_data=checkpoint, msg_data=msg_data, encode=self._encode_checkpoint
        )

    def _encode_checkpoint(self, data: object) -> bytes:
        return self._codec.encode_value(data, "checkpoint")

    def _returned(self, definition: TaskDefinition, context: JobContext, value: object) -> Ended:
        """The outcome of a run that came to its end. A result that cannot be kept fails it, for good."""
        if value is None:
            checkpoint = context.stored_checkpoint
            return RETURNED_NOTHING if checkpoint is None else Ended(End.RETURNED, checkpoint=checkpoint)
        if inspect.iscoroutine(value):
            value.close()
            raise SerializationError(
                f"{definition.name} is registered as a sync function and returned a coroutine, which nobody awaits. "
                "Write async def, or put functools.wraps on the decorator that hides it."
            )
        result = self._codec.encode_value(value, "result")
        limit = self._settings.max_result_bytes
        if len(result) > limit:
            raise MessageTooLarge(
                f"The result of {definition.name} has {len(result):,} bytes, and max_result_bytes is {limit:,}. "
                "Keep the data elsewhere and return its key, or raise max_result_bytes."
            )
        return Ended(End.RETURNED, result=result, checkpoint=context.stored_checkpoint)

    def _raised(self, definition: TaskDefinition, context: JobContext, error: Exception) -> Ended:
        try:
            return self._outcome(definition, context, error)
        except Exception as second:  # noqa: BLE001 - a Retry whose values make no sense
            return Ended(End.RAISED, error=_error_info(second), retryable=False)

    def _outcome(self, definition: TaskDefinition, context: JobContext, error: Exception) -> Ended:
        checkpoint = context.stored_checkpoint
        match error:
            case Ignore():
                return Ended(End.IGNORED, reason=IGNORED, checkpoint=checkpoint)
            case Reject():
                end = End.REQUEUED if error.requeue else End.REJECTED
                return Ended(end, reason=error.reason, error=_error_info(error), checkpoint=checkpoint)
            case Retry():
                return _retried(error, checkpoint)
        return Ended(
            End.RAISED, error=_error_info(error), retryable=_retryable(definition, error), checkpoint=checkpoint
        )


def _retried(retry: Retry, checkpoint: bytes | None) -> Ended:
    countdown = None
    if retry.at is not None:
        countdown = max(0.0, moment_us(retry.at, "Retry(at)") / 1_000_000 - time.time())
    elif retry.countdown is not None:
        countdown = max(0.0, as_timedelta(retry.countdown, "Retry(countdown)").total_seconds())
    # `raise Retry() from error` and a Retry in an except block both keep what was wrong.
    shown = retry.__cause__ or retry.__context__ or retry
    return Ended(
        End.RETRY,
        reason=retry.reason,
        error=_error_info(shown),
        countdown=countdown,
        max_retries=retry.max_retries,
        checkpoint=checkpoint,
    )


def _retryable(definition: TaskDefinition, error: Exception) -> bool:
    """Whether the task tries again after this exception: its own give-up types win, then its retry types."""
    limits = definition.limits
    if isinstance(error, limits.give_up_on):
        return False
    if isinstance(error, (MessageTooLarge, SerializationError)):
        # The next attempt would make the same result again, unless the task asked for just that.
        return isinstance(error, _named_types(limits.retry_on))
    return isinstance(error, limits.retry_on)


def _named_types(types: tuple[type[BaseException], ...]) -> tuple[type[BaseException], ...]:
    return tuple(kind for kind in types if kind not in {Exception, BaseException})


def _error_info(error: BaseException) -> ErrorInfo:
    """The exception as it is stored; never raises, whatever its `__str__` does."""
    try:
        message = str(error)
    except Exception:  # noqa: BLE001 - the user's class, the user's __str__
        message = "<its text cannot be read>"
    try:
        trace = "".join(traceback.format_exception(type(error), error, _users_part(error.__traceback__)))
    except Exception:  # noqa: BLE001 - same
        trace = ""
    return ErrorInfo(
        type=exception_name(error),
        message=_text(message, LONGEST_MESSAGE),
        traceback=_text(trace, LONGEST_TRACEBACK, tail=True),
    )


def _users_part(trace: TracebackType | None) -> TracebackType | None:
    """The traceback from the task's own function on; all of it, where that never began."""
    own = trace
    while own is not None and own.tb_frame.f_code.co_filename == __file__:
        own = own.tb_next
    return own or trace


def _text(text: str, most: int, *, tail: bool = False) -> str:
    """Text that every store takes: no NUL, no half characters, at most `most` characters."""
    clean = text.replace("\x00", "\\x00").encode("utf-8", "backslashreplace").decode()
    if len(clean) <= most:
        return clean
    return "…" + clean[-most:] if tail else clean[:most] + "…"


def _end_a_copy(code: object) -> NoReturn:
    """End a child that a task forked and that came back here: the run and its answer are its parent's."""
    with contextlib.suppress(Exception):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code if isinstance(code, int) else 1)
