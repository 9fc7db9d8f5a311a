"""Class handlers: made anew for each run, with what their constructors ask for from `jm.services`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar

from jobmaster.errors import ConfigurationError

if TYPE_CHECKING:
    import svcs

    from jobmaster.context import JobContext
    from jobmaster.model.message_data import MessageData
    from jobmaster.wire.codec import Codec


class Handler(Protocol):
    """What `@jm.handler` takes: a class with `handle(self, job)`, sync or async."""

    def handle(self, job: JobContext) -> Any:
        """Do the work of one job. What it returns is the job's result."""
        ...


H = TypeVar("H", bound=type[Handler])


class HandlerDecorator(Protocol):
    """What `@jm.handler(...)` returns."""

    def __call__(self, handler: H, /) -> H:
        """Register the class."""
        ...


def check_handler(handler: object) -> Callable[..., Any]:
    """The `handle` method of a handler class.

    Raises:
        ConfigurationError: it is no class, or has no `handle` that takes the job.
    """
    handle: Any = getattr(handler, "handle", None)
    if not isinstance(handler, type) or not callable(handle):
        raise ConfigurationError(
            f"@jm.handler was put on {handler!r}, which has no handle(self, job). Give a class that has it; for a "
            "function use @jm.task."
        )
    try:
        inspect.signature(handle).bind(None, None)
    except TypeError:
        raise ConfigurationError(
            f"{handler.__qualname__}.handle cannot be called with a job. Write: def handle(self, job: JobContext)."
        ) from None
    found: Callable[..., Any] = handle
    return found


class Injector:
    """Makes handlers. `services` gives the svcs registry, made when it is first asked for."""

    def __init__(self, services: Callable[[], svcs.Registry]) -> None:
        self._services = services

    def scope(self) -> Scope:
        """What lives as long as one run."""
        return Scope(self._services)


class Scope:
    """One run's services. Those that svcs made for it are cleaned up at its end."""

    def __init__(self, services: Callable[[], svcs.Registry]) -> None:
        self._services = services
        self._container: svcs.Container | None = None

    def make(self, cls: type) -> Any:
        """An instance of `cls`.

        Raises:
            ConfigurationError: a parameter of its constructor has no annotation to look it up by.
            svcs.exceptions.ServiceNotFoundError: nobody registered what it asks for.
        """
        wanted = dependencies(cls)
        if not wanted:
            return cls()
        container = self._opened()
        return cls(**{name: container.get(kind) for name, kind in wanted.items()})

    async def amake(self, cls: type) -> Any:
        """`make`, where services may have async factories."""
        wanted = dependencies(cls)
        if not wanted:
            return cls()
        container = self._opened()
        return cls(**{name: await container.aget(kind) for name, kind in wanted.items()})

    def _opened(self) -> svcs.Container:
        if self._container is None:
            import svcs

            self._container = svcs.Container(self._services())
        return self._container

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._container is not None:
            self._container.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._container is not None:
            await self._container.aclose()


def dependencies(cls: type) -> dict[str, Any]:
    """What a constructor asks for: parameter name to type. Parameters with a default are left to it.

    Raises:
        ConfigurationError: a parameter has neither an annotation nor a default.
    """
    from jobmaster.wire.hints import annotations_of

    constructor = cls.__init__  # type: ignore[misc] # it is looked at, not called
    if constructor is object.__init__:
        return {}
    annotations = annotations_of(constructor)
    wanted: dict[str, Any] = {}
    for name, parameter in list(inspect.signature(constructor).parameters.items())[1:]:
        is_left_out = parameter.kind in {parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD}
        if is_left_out or parameter.default is not parameter.empty:
            continue
        if name not in annotations:
            raise ConfigurationError(
                f"{cls.__qualname__}.__init__ asks for {name!r} without a type that can be looked up in jm.services. "
                f"Write {name}: SomeService, importable from the module of the handler, or give it a default."
            )
        wanted[name] = annotations[name]
    return wanted


def encode_message_data(codec: Codec, data: MessageData | Mapping[str, Any] | None) -> bytes:
    """Message data as a job carries it.

    Raises:
        SerializationError: a value cannot travel.
    """
    return codec.encode_value(dict(data or {}), "msg_data")


def decode_message_data(codec: Codec, payload: bytes) -> MessageData:
    """What `encode_message_data` wrote.

    Raises:
        SerializationError: the bytes are damaged.
    """
    from jobmaster.model.message_data import MessageData

    return MessageData(codec.decode_value(payload, what="msg_data"))
