"""What every command is told: which app is meant, and whether it answers in JSON. The options may stand anywhere."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from jobmaster.app import JobMaster

F = TypeVar("F", bound=Callable[..., Any])

APP_VARIABLE = "JOBMASTER_APP"


class Invocation:
    """One call of the program.

    Attributes:
        place: what `-A` says, else None.
        as_json: `--json` was given.
    """

    def __init__(self) -> None:
        self.place: str | None = None
        self.as_json = False

    def located(self) -> tuple[str, str]:
        """Where the app is, and the folder from which it can be imported.

        Raises:
            click.UsageError: nothing says where it is.
        """
        here = str(Path.cwd())
        if self.place:
            return self.place, here
        if os.environ.get(APP_VARIABLE):
            return os.environ[APP_VARIABLE], here
        from jobmaster.settings import app_in_files

        named = app_in_files(here, config=os.environ.get("JOBMASTER_CONFIG"))
        if named:
            return named, _project_of(here)
        raise click.UsageError(
            "No app is named. Give -A myapp (module, module:attribute or package), set JOBMASTER_APP, or write "
            'app = "myapp:jm" in [tool.jobmaster] of pyproject.toml.'
        )

    def app(self) -> JobMaster:
        """The app, with all its tasks.

        Raises:
            click.UsageError: nothing says where it is.
            ConfigurationError: it cannot be found or imported.
        """
        place, folder = self.located()
        from jobmaster.locating import find_app

        app = find_app(place, folder=folder)
        app.load_tasks()
        return app


def common_options(command: F) -> F:
    """Give a command or group `-A` and `--json`."""
    command = click.option(
        "--json",
        "as_json",
        is_flag=True,
        expose_value=False,
        callback=_remember_json,
        help="Answer in JSON, errors too.",
    )(command)
    return click.option(
        "-A",
        "--app",
        metavar="APP",
        expose_value=False,
        callback=_remember_place,
        help="Your app: module, module:attribute or package.",
    )(command)


pass_invocation = click.make_pass_decorator(Invocation, ensure=True)


def _remember_place(ctx: click.Context, _param: click.Parameter, value: str | None) -> None:
    if value is not None:
        ctx.ensure_object(Invocation).place = value


def _remember_json(ctx: click.Context, _param: click.Parameter, value: bool) -> None:  # noqa: FBT001 - click's signature
    if value:
        ctx.ensure_object(Invocation).as_json = True


def _project_of(folder: str) -> str:
    """The folder of the settings file that counts for `folder`."""
    for place in [Path(folder), *Path(folder).parents]:
        if (place / "pyproject.toml").is_file() or (place / "jobmaster.toml").is_file():
            return str(place)
    return folder
