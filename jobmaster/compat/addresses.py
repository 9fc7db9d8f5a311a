"""Which JobMaster stores the URLs of a Celery app name."""

from __future__ import annotations

import os
import warnings
from typing import Final

from jobmaster.compat.exceptions import NoEffectWarning
from jobmaster.errors import ConfigurationError
from jobmaster.settings.declarations import Agent, Worker
from jobmaster.settings.dsn import SCHEMES, parse_dsn, redacted
from jobmaster.settings.names import folded

BROKER_VARIABLE: Final = "CELERY_BROKER_URL"
MASTER_VARIABLE: Final = "JOBMASTER_MASTER"
BACKEND_VARIABLE: Final = "CELERY_RESULT_BACKEND"
AGENT_NAME: Final = "broker"


class Stores:
    """The master and the agents that an app asks for. `master` None: JOBMASTER_MASTER, or a file, has to name it."""

    def __init__(self, master: str | None = None, agents: tuple[Agent, ...] = ()) -> None:
        self.master = master
        self.agents = agents


def stores_of(broker: str | None, backend: str | None) -> Stores:
    """The stores that broker and backend name; CELERY_BROKER_URL and CELERY_RESULT_BACKEND win, as in Celery.

    One database for both is a standalone cluster. A NATS server, or another database than the backend's, is an agent.

    Raises:
        ConfigurationError: an address is damaged.
    """
    broker = os.environ.get(BROKER_VARIABLE) or broker
    backend = os.environ.get(BACKEND_VARIABLE) or backend
    if broker is None or not is_ours(broker):
        return Stores()
    if backend is not None and not is_ours(backend):
        warnings.warn(
            f"result_backend={redacted(backend)!r} has no effect: the master database keeps the results. Leave it out.",
            NoEffectWarning,
            stacklevel=2,
        )
        backend = None
    to_broker = parse_dsn(broker, name="the broker URL")
    if backend is None or backend == broker:
        return Stores(broker) if to_broker.is_sql else Stores(None, (Agent(AGENT_NAME, broker),))
    if not parse_dsn(backend, name="the result backend").is_sql:
        raise ConfigurationError(
            f"result_backend={redacted(backend)!r} is no SQL database, but results are kept in the cluster's master. "
            "Give a database (postgresql://, mysql://, mssql://, sqlite:///), or leave result_backend out."
        )
    return Stores(backend, (Agent(AGENT_NAME, broker),))


def workers_of(stores: Stores, concurrency: int | None) -> tuple[Worker, ...]:
    """The workers to declare, where the app says how many slots they have."""
    if concurrency is None:
        return ()
    return (Worker(agent=stores.agents[0].name if stores.agents else None, concurrency=concurrency),)


def is_ours(url: str) -> bool:
    """Whether a JobMaster store can be there: by the scheme alone."""
    scheme, mark, _ = url.partition("://")
    parts = [part for part in scheme.lower().split("+") if part != "jobmaster"]
    return bool(mark and parts) and parts[0] in SCHEMES


def no_master(broker: str | None, cluster_id: str) -> ConfigurationError:
    """The error for an app whose URLs name no JobMaster store, where nothing else names the master either."""
    broker = os.environ.get(BROKER_VARIABLE) or broker
    what = "The app has no broker URL"
    if broker:
        fault = "carries tasks, but cannot keep their results" if is_ours(broker) else "is no store of JobMaster"
        what = f"broker={redacted(broker)!r} {fault}"
    variable = MASTER_VARIABLE
    if variable in os.environ:
        # It is set, but speaks to the first app that this process made.
        variable = f"JOBMASTER_CLUSTERS__{folded(cluster_id).upper()}__MASTER"
    return ConfigurationError(
        f"{what}, and {variable} names no master. Give the address of a database, such as "
        f'Celery("proj", broker="postgresql://host/proj") or broker="sqlite:///proj.db", or set {variable} to it.'
    )
