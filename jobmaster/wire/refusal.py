"""Why a value cannot travel, and where it sits: the path is built while the error climbs, so success pays nothing."""

from __future__ import annotations

from jobmaster.errors import SerializationError

_SHOWN_STEPS = 8
_SHOWN_KEY = 40


class Refusal(Exception):  # noqa: N818 - never leaves this package: `error` makes the public one
    """A value was refused somewhere inside a payload.

    Args:
        reason: what is wrong and what to do, without the path.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self._steps: list[str] = []

    def below(self, step: str) -> None:
        """Note that the refused value was found under `step` of the container that calls this."""
        self._steps.append(step)

    def error(self, root: str) -> SerializationError:
        """The error for users, with the full path that begins at `root` (`args`, `kwargs`, `result`, ...)."""
        steps = self._steps[::-1]
        if len(steps) > _SHOWN_STEPS:
            steps = [*steps[: _SHOWN_STEPS - 1], " … ", steps[-1]]
        return SerializationError(f"{root}{''.join(steps)}: {self.reason}")


def key_step(key: object) -> str:
    """How a dict's key looks in a path. Only simple keys are shown; no user code runs for the others."""
    if type(key) is str:
        text = key if len(key) <= _SHOWN_KEY else key[:_SHOWN_KEY] + "…"
        quoted = text.encode("utf-8", "backslashreplace").decode().replace('"', '\\"')
        return f'["{quoted}"]'
    if key is None or type(key) is bool:
        return f"[{key}]"
    if type(key) is int and key.bit_length() <= 64:  # noqa: PLR2004 - longer ones would flood the text
        return f"[{key}]"
    return f"[<{type_name(type(key))}>]"


def type_name(cls: type) -> str:
    """`module.QualName` of a class, without the module for built-in ones, and without private ones inside packages."""
    if cls.__module__ == "builtins":
        return cls.__qualname__
    package, _, last = cls.__module__.rpartition(".")
    return f"{package if package and last.startswith('_') else cls.__module__}.{cls.__qualname__}"
