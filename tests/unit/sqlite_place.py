"""What the tests of the SQLite store share: a loop for a test, an open store, an owned bucket, jobs."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

from jobmaster.model.bucket import Bucket, NewBucket
from jobmaster.model.ids import new_job_key
from jobmaster.model.job import Envelope, NewJob, encode_envelope
from jobmaster.model.states import WorkerMode
from jobmaster.model.worker import Registration
from jobmaster.ports.master import MasterRules
from jobmaster.stores.sql.sqlite.store import SqliteStore

ENVELOPE = Envelope("shop.receipt", b"{}", 1, 1)
PAYLOAD = encode_envelope(ENVELOPE)


def in_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run an async test on a loop of its own."""

    @functools.wraps(test)
    def run(*args: Any, **fields: Any) -> None:
        asyncio.run(asyncio.wait_for(test(*args, **fields), 60))

    return run


@contextlib.asynccontextmanager
async def opened(path: Path, **options: Any) -> AsyncIterator[SqliteStore]:
    """A store, closed at the end."""
    store = await SqliteStore.open(str(path), rules=MasterRules(), **options)
    try:
        yield store
    finally:
        await store.close_store()


async def owned_bucket(store: SqliteStore, *, name: str = "w") -> Bucket:
    """A bucket of a new worker, taken in."""
    worker = (await store.register(Registration(name, 1, "here", ("",), WorkerMode.FULL))).worker
    [bucket] = await store.create_buckets(worker, [NewBucket(f"token of {name}", "here", "", 3)])
    await store.fence(bucket.fence)
    return bucket


def new_job(**fields: Any) -> NewJob:
    """A job that is due now."""
    return NewJob(new_job_key(), ENVELOPE, PAYLOAD, **fields)


def names_in(folder: Path) -> list[str]:
    """What is in a folder, in order."""
    return sorted(path.name for path in folder.iterdir())


def write(path: Path, text: str) -> None:
    """Put `text` into a file."""
    path.write_text(text)


def mode_of(path: Path) -> int:
    """The rights of a file or folder."""
    return path.stat().st_mode & 0o777


def remove_empty(folder: Path) -> None:
    """Remove a folder that is empty."""
    folder.rmdir()


def modes_below(folder: Path) -> dict[str, int]:
    """The rights of all files and folders below, sockets left out."""
    return {path.name: mode_of(path) for path in folder.rglob("*") if not path.is_socket()}


def exit_code_of(child: int) -> int:
    """How a forked child ended."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def move(source: Path, target: Path) -> None:
    """Give a file another name."""
    source.replace(target)


def copy(source: Path, target: Path) -> None:
    """Make another file with the same content."""
    target.write_bytes(source.read_bytes())
