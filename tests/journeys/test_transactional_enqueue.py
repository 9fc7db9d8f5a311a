"""`options(transaction=...)`: the job exists if and only if the caller's transaction commits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session, scoped_session, sessionmaker
from sqlalchemy.pool import NullPool

from jobmaster import ConfigurationError, JobMaster, JobStatus
from tests.servers.databases import Databases

pytestmark = pytest.mark.backend("postgresql")


@pytest.fixture
def jm(postgres_database: str) -> Iterator[JobMaster]:
    app = JobMaster("shop", master=postgres_database, accept_timeout=30)
    yield app
    app.close()


@pytest.fixture
def hello(jm: JobMaster) -> Any:
    @jm.task
    def hello(name: str) -> str:
        return f"Hello {name}"

    return hello


def engine_of(dsn: str) -> sqlalchemy.Engine:
    return sqlalchemy.create_engine(dsn.replace("postgresql://", "postgresql+psycopg://"), poolclass=NullPool)


@contextmanager
def psycopg_connection(dsn: str) -> Iterator[Any]:
    with psycopg.connect(dsn) as connection:
        yield connection


@contextmanager
def psycopg_with_dict_rows(dsn: str) -> Iterator[Any]:
    with psycopg.connect(dsn, row_factory=psycopg.rows.dict_row) as connection:
        yield connection


@contextmanager
def alchemy_connection(dsn: str) -> Iterator[Any]:
    with engine_of(dsn).connect() as connection:
        yield connection


@contextmanager
def alchemy_session(dsn: str) -> Iterator[Any]:
    with Session(engine_of(dsn)) as session:
        yield session


@contextmanager
def alchemy_scoped_session(dsn: str) -> Iterator[Any]:
    session = scoped_session(sessionmaker(engine_of(dsn)))
    yield session
    session.remove()


SYNC = [psycopg_connection, psycopg_with_dict_rows, alchemy_connection, alchemy_session, alchemy_scoped_session]


@pytest.mark.parametrize("opened", SYNC)
def test_a_job_waits_for_the_commit_and_then_runs(
    jm: JobMaster, hello: Any, postgres_database: str, opened: Callable[[str], Any]
) -> None:
    with jm, opened(postgres_database) as transaction:
        result = hello.options(transaction=transaction).delay(name="John")
        assert jm.jobs.get(result.id) is None
        transaction.commit()
        assert result.get(timeout=30) == "Hello John"


@pytest.mark.parametrize("opened", SYNC)
def test_a_job_is_rolled_back_with_its_transaction(
    jm: JobMaster, hello: Any, postgres_database: str, opened: Callable[[str], Any]
) -> None:
    with opened(postgres_database) as transaction:
        lost = hello.options(transaction=transaction).delay(name="nobody")
        transaction.rollback()
        kept = hello.options(transaction=transaction).delay(name="somebody")
        transaction.commit()
    assert jm.jobs.get(lost.id) is None
    assert jm.jobs.get(kept.id).status is JobStatus.HELD_ON_MASTER


def test_options_travel_and_a_repeated_id_is_the_same_job(jm: JobMaster, hello: Any, postgres_database: str) -> None:
    with psycopg.connect(postgres_database) as transaction:
        for name in ("first", "second"):
            inside = hello.options(transaction=transaction, job_id="order 17", delay=60, priority="high")
            inside.delay(name=name)
    job = jm.jobs.get("order 17")
    assert (job.status, job.priority.name) == (JobStatus.HELD_ON_MASTER, "HIGH")
    assert 55 < (job.due_at - job.created_at).total_seconds() < 65


def test_many_jobs_of_one_transaction(jm: JobMaster, hello: Any, postgres_database: str) -> None:
    with psycopg.connect(postgres_database) as transaction:
        inside = hello.options(transaction=transaction)
        results = jm.enqueue_many([inside.job(name=str(number)) for number in range(20)])
        assert [jm.jobs.get(result.id) for result in results] == [None] * 20
    assert all(jm.jobs.get(result.id) is not None for result in results)


def test_async_transactions(jm: JobMaster, hello: Any, postgres_database: str) -> None:
    async def scenario() -> None:
        inside = await psycopg.AsyncConnection.connect(postgres_database)
        lost = await hello.options(transaction=inside).adelay(name="nobody")
        await inside.rollback()
        kept = [await hello.options(transaction=inside).adelay(name="psycopg")]
        await inside.commit()
        await inside.close()

        for driver in ("psycopg", "asyncpg"):
            engine = create_async_engine(postgres_database.replace("postgresql://", f"postgresql+{driver}://"))
            async with engine.begin() as connection:
                kept.append(await hello.options(transaction=connection).adelay(name=driver))
            async with AsyncSession(engine) as session:
                kept.append(await hello.options(transaction=session, delay=1).adelay(name=f"{driver} session"))
                await session.commit()
            await engine.dispose()

        assert await jm.jobs.aget(lost.id) is None
        assert [await jm.jobs.aget(result.id) is None for result in kept] == [False] * 5
        await jm.aclose()

    asyncio.run(scenario())


def test_a_transaction_on_another_database_is_refused(
    jm: JobMaster, hello: Any, postgres_databases: Databases, tmp_path: Path
) -> None:
    with postgres_databases.lent() as other, psycopg.connect(other) as transaction:
        with pytest.raises(ConfigurationError, match="another database"):
            hello.options(transaction=transaction).delay(name="John")
        assert transaction.execute("SELECT count(*) FROM jm_job").fetchone() == (0,)
    elsewhere = sqlalchemy.create_engine(f"sqlite:///{tmp_path}/a.db")
    with elsewhere.connect() as connection, pytest.raises(ConfigurationError, match="another database"):
        hello.options(transaction=connection).delay(name="John")


def test_a_refused_connection_may_be_put_right(hello: Any, postgres_database: str) -> None:
    """What was wrong with it is not remembered, only what was right."""
    with psycopg.connect(postgres_database, options="-c search_path=pg_catalog") as transaction:
        with pytest.raises(ConfigurationError, match="another database"):
            hello.options(transaction=transaction).delay(name="John")
        transaction.execute("SET search_path = public")
        hello.options(transaction=transaction).delay(name="John")
        assert transaction.execute("SELECT count(*) FROM jm_job").fetchone() == (1,)


def test_autocommit_outside_of_a_transaction_is_refused(hello: Any, postgres_database: str) -> None:
    with psycopg.connect(postgres_database, autocommit=True) as connection:
        with pytest.raises(ConfigurationError, match="autocommit"):
            hello.options(transaction=connection).delay(name="John")
        with connection.transaction():
            hello.options(transaction=connection).delay(name="John")
        assert connection.execute("SELECT count(*) FROM jm_job").fetchone() == (1,)


def test_what_is_no_transaction_is_refused_when_it_is_named(hello: Any, postgres_database: str) -> None:
    with pytest.raises(ConfigurationError, match="type int, but a job can be put into the transaction of a psycopg"):
        hello.options(transaction=17)
    blocking = pytest.raises(ConfigurationError, match="would block the event loop")
    with psycopg.connect(postgres_database) as transaction, blocking:
        asyncio.run(hello.options(transaction=transaction).adelay(name="John"))


def test_an_async_transaction_needs_adelay(hello: Any, postgres_database: str) -> None:
    async def scenario() -> None:
        async with await psycopg.AsyncConnection.connect(postgres_database) as inside:
            with pytest.raises(ConfigurationError, match="adelay"):
                await asyncio.to_thread(hello.options(transaction=inside).delay, name="John")

    asyncio.run(scenario())


def test_flask_sqlalchemys_session(jm: JobMaster, hello: Any, postgres_database: str) -> None:
    flask = pytest.importorskip("flask")
    from flask_sqlalchemy import SQLAlchemy

    web = flask.Flask("shop")
    web.config["SQLALCHEMY_DATABASE_URI"] = postgres_database.replace("postgresql://", "postgresql+psycopg://")
    web.config["SQLALCHEMY_ENGINE_OPTIONS"] = {"poolclass": NullPool}
    db = SQLAlchemy(web)
    with web.app_context():
        result = hello.options(transaction=db.session).delay(name="John")
        assert jm.jobs.get(result.id) is None
        db.session.commit()
        assert jm.jobs.get(result.id).status is JobStatus.HELD_ON_MASTER


@pytest.mark.backend("sqlite")
def test_on_a_file(tmp_path: Path) -> None:
    app = JobMaster("shop", master=f"sqlite:///{tmp_path}/shop.db", accept_timeout=30)

    @app.task
    def hello(name: str) -> str:
        return f"Hello {name}"

    with app, sqlalchemy.create_engine(f"sqlite:///{tmp_path}/shop.db").connect() as connection:
        result = hello.options(transaction=connection).delay(name="John")
        connection.commit()
        assert result.get(timeout=30) == "Hello John"
        lost = hello.options(transaction=connection).delay(name="John")
        connection.rollback()
        assert app.jobs.get(lost.id) is None
