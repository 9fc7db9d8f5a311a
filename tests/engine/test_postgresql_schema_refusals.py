"""`jobmaster db` reads the addresses that workers read, and tells what they tell."""

from __future__ import annotations

import pytest

from jobmaster.errors import ConfigurationError, StoreUnavailable
from jobmaster.stores.sql import provision

pytestmark = pytest.mark.backend("postgresql")


def test_addresses_through_pgbouncer_and_of_several_hosts(postgres_database: str) -> None:
    login, _, place = postgres_database.rpartition("@")
    host, _, name = place.partition("/")
    machine, _, port = host.partition(":")
    for address in (
        f"{postgres_database}?session_host={machine}&session_port={port}",
        f"{login}@{machine}:1,{host}/{name}?target_session_attrs=primary",
    ):
        assert provision.status(address).is_current
        assert provision.upgrade(address).is_current


async def test_what_is_wrong_is_told_as_workers_tell_it(postgres_database: str) -> None:
    base = postgres_database.rpartition("/")[0]
    for address, told in (
        (f"{base}/jobmaster_no_such", "no such database"),
        (f"{postgres_database}?sslmode=require", "no encrypted connection"),
        (f"{postgres_database}?jobmaster_no_such=1", "Take this option out"),
    ):
        with pytest.raises(ConfigurationError, match=told):
            provision.status(address)
    with pytest.raises(StoreUnavailable, match="cannot be reached"):
        provision.status("postgresql://somebody:hidden@127.0.0.1:1/shop")
    with pytest.raises(StoreUnavailable, match="name of its host is not known here"):
        provision.status("postgresql://somebody:hidden@no-such-host.invalid/shop")
