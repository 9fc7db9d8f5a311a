"""What a task can be called with, found out where the call is made and not by a worker."""

from __future__ import annotations

import inspect
from typing import Any, Final

_BY_NAME: Final = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


class Parameters:
    """The parameters of a plain function, so that most calls are found good without binding them.

    Args:
        signature: of a function whose parameters can all be given by name.
    """

    __slots__ = ("_missing", "_names", "_taken")

    def __init__(self, signature: inspect.Signature) -> None:
        known = signature.parameters.values()
        by_position = [each.name for each in known if each.kind is each.POSITIONAL_OR_KEYWORD]
        required = frozenset(each.name for each in known if each.default is each.empty)
        self._names = frozenset(signature.parameters)
        # After n positional arguments: the names that they took, and those that must still be given.
        self._taken = [frozenset(by_position[:count]) for count in range(len(by_position) + 1)]
        self._missing = [required - taken for taken in self._taken]

    @classmethod
    def of(cls, signature: inspect.Signature) -> Parameters | None:
        """Those of a signature; None where some can be given by position only, or under any name."""
        by_name = all(each.kind in _BY_NAME for each in signature.parameters.values())
        return cls(signature) if by_name else None

    def take(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Whether the function can be called so."""
        count = len(args)
        return (
            count < len(self._taken)
            and self._names.issuperset(kwargs)
            and kwargs.keys() >= self._missing[count]
            and (not count or self._taken[count].isdisjoint(kwargs))
        )


def refusal(signature: inspect.Signature, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
    """Why a function of this signature cannot be called so, and what it takes; None if it can."""
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        # Python names what is missing first; a misspelt name may be the reason why it is missing.
        what = _misspelt(signature, kwargs) or f"{error}."
        plain = [known.replace(annotation=known.empty) for known in signature.parameters.values()]
        return f"{what} Its parameters are {inspect.Signature(plain)}."
    return None


def _misspelt(signature: inspect.Signature, kwargs: dict[str, Any]) -> str:
    known = signature.parameters
    unknown = next((name for name in kwargs if name not in known), None)
    if unknown is None or any(each.kind is each.VAR_KEYWORD for each in known.values()):
        return ""
    import difflib

    close = difflib.get_close_matches(unknown, known, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return f"got an unexpected keyword argument {unknown!r}.{hint}"
