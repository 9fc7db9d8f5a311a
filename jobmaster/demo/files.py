"""The text files of a folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import jobmaster
from jobmaster.errors import ConfigurationError
from jobmaster.model.states import Priority

LARGEST = 256 * 1024
"""Bytes. The words of a larger file might not fit into a result."""
MOST = 2_000

DOCUMENTS = frozenset({".md", ".rst", ".txt", ".tex", ".adoc", ".org"})
CODE = frozenset({".py", ".pyi", ".c", ".h", ".cpp", ".cs", ".go", ".java", ".js", ".ts", ".rs", ".rb", ".sh", ".sql"})
DATA = frozenset({".toml", ".cfg", ".ini", ".json", ".yaml", ".yml", ".xml", ".csv", ".html", ".css"})
PRIORITIES = {Priority.HIGH: DOCUMENTS, Priority.MEDIUM: CODE, Priority.LOW: DATA}
_PRIORITY_OF = {suffix: priority for priority, suffixes in PRIORITIES.items() for suffix in suffixes}
_NOT_OURS = frozenset({"node_modules", "__pycache__", "site-packages", "build", "dist", "venv"})


@dataclass(frozen=True, slots=True)
class TextFile:
    """A file whose words are counted, as it was when it was found."""

    path: str
    priority: Priority
    size: int
    changed_ns: int


@dataclass(frozen=True, slots=True)
class Found:
    """The text files of `folder`, and how many were left out because they are too large or too many."""

    folder: Path
    files: tuple[TextFile, ...]
    too_large: int
    too_many: int


def default_folder() -> Path:
    """The project's own tree; of an installed package its folder."""
    package = Path(jobmaster.__file__).absolute().parent
    project = package.parent
    return project if (project / "Makefile").is_file() and (project / "pyproject.toml").is_file() else package


def find_text_files(folder: Path) -> Found:
    """Look for text files by their endings. Hidden folders and files, links and other people's packages are passed by.

    Raises:
        ConfigurationError: there is no such folder, or no text file in it.
    """
    if not folder.is_dir():
        raise ConfigurationError(f"There is no folder {str(folder)!r}. Give one that has text files: --dir PATH.")
    files: list[TextFile] = []
    too_large = too_many = 0
    for file in _walk(folder):
        if file.size > LARGEST:
            too_large += 1
        elif len(files) == MOST:
            too_many += 1
        else:
            files.append(file)
    if not files:
        raise ConfigurationError(
            f"The folder {str(folder)!r} has no text file of at most {LARGEST // 1024} KiB (looked for "
            f"{', '.join(sorted(_PRIORITY_OF))}). Give another one: --dir PATH."
        )
    return Found(folder, tuple(files), too_large, too_many)


def has_changed(file: TextFile) -> bool:
    """Whether it is another file now, or gone."""
    try:
        about = Path(file.path).stat()
    except OSError:
        return True
    return (about.st_size, about.st_mtime_ns) != (file.size, file.changed_ns)


def _walk(folder: Path) -> Iterator[TextFile]:
    for place, folders, names in os.walk(folder.absolute()):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in _NOT_OURS)
        for name in sorted(names):
            path = Path(place, name)
            priority = _PRIORITY_OF.get(path.suffix.lower())
            if priority is None or name.startswith(".") or path.is_symlink() or not path.is_file():
                continue
            if os.access(path, os.R_OK) and _is_utf8(str(path)):
                about = path.stat()
                yield TextFile(str(path), priority, about.st_size, about.st_mtime_ns)


def _is_utf8(path: str) -> bool:
    """Paths travel in messages, which are UTF-8; Unix allows others."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True
