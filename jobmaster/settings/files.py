"""Find and read `jobmaster.toml` and `[tool.jobmaster]` in `pyproject.toml`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from jobmaster.errors import ConfigurationError

OWN_FILE = "jobmaster.toml"
PROJECT_FILE = "pyproject.toml"


def read_files(folder: str, *, config: str | None = None) -> list[tuple[str, dict[str, object]]]:
    """The settings files that count, each with its path and its content, the one that decides first.

    Looked for in `folder` and its parents up to the first one with a `pyproject.toml`. Where no parent has one, only
    `folder` counts: what lies further up belongs to somebody else.

    Args:
        folder: the folder of the file that makes the app.
        config: a file that is read instead (JOBMASTER_CONFIG).

    Raises:
        ConfigurationError: a file cannot be read; the text says where and why.
    """
    if config is not None:
        if not Path(config).is_file():
            raise ConfigurationError(f"JOBMASTER_CONFIG is {config!r}, but there is no such file. Correct or unset it.")
        found = [Path(config).resolve()]
    else:
        found = _find(Path(folder))
    contents = ((str(path), _own_part(path)) for path in found)
    return [(path, table) for path, table in contents if table]


def app_in_files(folder: str, *, config: str | None = None) -> str | None:
    """Where the files say the app is (`app = "shop:jm"`), for commands without `-A`.

    Raises:
        ConfigurationError: a file cannot be read, or `app` is no text.
    """
    for path, table in read_files(folder, config=config):
        app = table.get("app")
        if app is not None and not isinstance(app, str):
            raise ConfigurationError(
                f'{path}: app is {app!r}, but it is the place of the app as text. Write app = "shop:jm".'
            )
        if app:
            return app
    return None


def _find(folder: Path) -> list[Path]:
    folders = [folder.absolute(), *folder.absolute().parents]
    last = next((i for i, place in enumerate(folders) if (place / PROJECT_FILE).is_file()), 0)
    searched = folders[: last + 1]
    own = [place / OWN_FILE for place in searched if (place / OWN_FILE).is_file()][:1]
    project = [place / PROJECT_FILE for place in searched[-1:] if (place / PROJECT_FILE).is_file()]
    return own + project


def _own_part(path: Path) -> dict[str, object]:
    import tomllib

    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(
            f"{path} cannot be read: {error.strerror}. Allow it, or move the file away."
        ) from error
    except ValueError as error:
        # The text of the file stays out: it may hold a password.
        raise ConfigurationError(f"{path} is no valid TOML{_position(error)}. Correct it.") from None
    if path.name != PROJECT_FILE:
        return content
    tool = content.get("tool", {})
    own = tool.get("jobmaster", {}) if isinstance(tool, Mapping) else {}
    if not isinstance(own, dict):
        raise ConfigurationError(f"{path}: tool.jobmaster is no table. Write [tool.jobmaster] and settings below it.")
    return own


def _position(error: ValueError) -> str:
    text = str(error)
    return f" {text[text.rindex('(at ') :]}" if "(at " in text else ""
