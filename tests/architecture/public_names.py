"""The public names as text, for a snapshot that a review can read.

    python -m tests.architecture.public_names             prints them
    python -m tests.architecture.public_names --write     writes the snapshot (`make public-names`)

One line per name: a class, each of its public members, a function with its parameters' names, or a value. Types and
defaults are left out: they may grow; a name or a parameter that vanishes breaks a program.
"""

from __future__ import annotations

import inspect
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

SNAPSHOT = Path(__file__).with_name("public_names.txt")
MODULES = ("jobmaster", "jobmaster.compat", "jobmaster.schedules", "jobmaster.testing", "jobmaster.web")


def public_names() -> list[str]:
    """Every public name of every public module that exists, one per line."""
    lines: list[str] = []
    for name in MODULES:
        if find_spec(name) is not None:
            lines += describe_module(import_module(name))
    return lines


def describe_module(module: ModuleType) -> Iterator[str]:
    for name in sorted(getattr(module, "__all__", None) or own_names(module)):
        yield from describe(f"{module.__name__}.{name}", getattr(module, name))


def own_names(module: ModuleType) -> list[str]:
    """Names of a module without `__all__`: what it, or the package below it, defines."""
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and str(getattr(value, "__module__", "")).startswith(module.__name__)
    ]


def describe(path: str, value: object) -> Iterator[str]:
    if inspect.isclass(value):
        yield f"{path}  class"
        for name in sorted(members_of(value)):
            yield from describe_member(f"{path}.{name}", inspect.getattr_static(value, name))
    elif callable(value):
        yield f"{path}{parameters_of(value)}"
    else:
        yield path


def members_of(cls: type) -> set[str]:
    """Public members that this project defines, those of its base classes included."""
    ours = [base for base in cls.__mro__ if base.__module__.split(".")[0] == "jobmaster"]
    return {name for base in ours for name in vars(base) if not name.startswith("_")}


def describe_member(path: str, member: object) -> Iterator[str]:
    function = getattr(member, "__func__", member)
    yield f"{path}{parameters_of(function)}" if inspect.isfunction(function) else path


def parameters_of(function: object) -> str:
    parameters = [
        parameter.replace(annotation=parameter.empty, default=parameter.empty)
        for parameter in inspect.signature(function).parameters.values()
        if parameter.name not in {"self", "cls"}
    ]
    return str(inspect.Signature(parameters))


if __name__ == "__main__":
    text = "\n".join(public_names()) + "\n"
    if "--write" in sys.argv:
        SNAPSHOT.write_text(text, encoding="utf-8")
    else:
        sys.stdout.write(text)
