"""Addresses of stores: what is understood, what is refused and why, and that no password is ever shown."""

from __future__ import annotations

import contextlib
import importlib.util
import re
import shlex
import sys
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobmaster.errors import ConfigurationError
from jobmaster.settings.dsn import DRIVERS, Dsn, parse_dsn, redacted, require_driver

SECRET = "hunter2"


def test_a_relative_sqlite_path_is_relative_to_the_given_folder(tmp_path: Path) -> None:
    dsn = parse_dsn("sqlite:///data/shop.db", folder=str(tmp_path))

    assert dsn.path == str(tmp_path / "data" / "shop.db")
    assert dsn.url == f"sqlite:///{dsn.path}"


def test_an_absolute_sqlite_path_stays_as_it_is(tmp_path: Path) -> None:
    assert parse_dsn(f"sqlite:///{tmp_path}/x.db", folder="/elsewhere").path == f"{tmp_path}/x.db"


def test_a_parsed_sqlite_address_parses_to_itself_from_any_folder(tmp_path: Path) -> None:
    once = parse_dsn("sqlite:///odd%20name%3F%25.db", folder=str(tmp_path))

    assert once.path == str(tmp_path / "odd name?%.db")
    assert parse_dsn(once.url, folder="/") == once


def test_a_file_may_have_blanks_and_any_letters_in_its_name(tmp_path: Path) -> None:
    plain = parse_dsn("sqlite:///Meine Aufträge/käse 日本.db", folder=str(tmp_path))

    assert plain.path == str(tmp_path / "Meine Aufträge" / "käse 日本.db")
    assert parse_dsn(plain.url, folder="/") == plain
    assert parse_dsn("sqlite:///Meine%20Aufträge/käse%20日本.db", folder=str(tmp_path)) == plain


@pytest.mark.skipif(sys.platform == "win32", reason="there it parts folders")
def test_a_quoted_backslash_is_part_of_a_name(tmp_path: Path) -> None:
    dsn = parse_dsn("sqlite:///odd%5Cname.db", folder=str(tmp_path))

    assert dsn.path == str(tmp_path / "odd\\name.db")
    assert parse_dsn(dsn.url, folder="/") == dsn


def test_the_home_folder_may_be_written_as_a_tilde(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))

    assert parse_dsn("sqlite:///~/jobs.db").path == str(tmp_path / "jobs.db")


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("postgresql://h/d", "postgresql"),
        ("postgres://h/d", "postgresql"),
        ("jobmaster+postgresql://h/d", "postgresql"),
        ("postgresql+psycopg://h/d", "postgresql"),
        ("mysql://h/d", "mysql"),
        ("mariadb+pymysql://h/d", "mysql"),
        ("mssql://h/d", "mssql"),
        ("jobmaster+mssql+pyodbc://h/d", "mssql"),
        ("nats://h", "nats"),
        ("JobMaster+NATS://h", "nats"),
    ],
    ids=lambda text: f"{text!r}",  # a bare store's name would count as a test of that store
)
def test_every_spelling_of_a_scheme_gives_its_kind(text: str, kind: str) -> None:
    dsn = parse_dsn(text)

    assert dsn.kind == kind
    assert dsn.url.startswith(f"{kind}://")
    assert dsn.host == "h"


def test_a_servers_address_is_taken_apart() -> None:
    dsn = parse_dsn("postgresql://shop:p%40ss%2Fword@db.example:6432/orders%20x?sslmode=require&application_name=a")

    assert (dsn.user, dsn.password, dsn.host, dsn.port) == ("shop", "p@ss/word", "db.example", 6432)
    assert dsn.database == "orders x"
    assert dsn.options == {"sslmode": "require", "application_name": "a"}


def test_an_ipv6_host_stands_in_brackets() -> None:
    assert (parse_dsn("mysql://[::1]:3307/d").host, parse_dsn("mysql://[::1]:3307/d").port) == ("::1", 3307)
    assert (parse_dsn("mysql://[fe80::1]/d").host, parse_dsn("mysql://[fe80::1]/d").port) == ("fe80::1", None)


def test_a_folder_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()

    with pytest.raises(ConfigurationError, match="is a folder"):
        parse_dsn("sqlite:///data", folder=str(tmp_path))


def test_several_servers_are_kept_as_a_list() -> None:
    dsn = parse_dsn("nats://a:4222,b:4223")

    assert (dsn.host, dsn.port) == ("a:4222,b:4223", None)


def test_postgresql_without_a_host_is_the_local_socket() -> None:
    assert parse_dsn("postgresql:///shop").host == ""


REFUSED = [
    ("sqlite://", ["in memory", "sqlite:///jobmaster.db"]),
    ("sqlite:///", ["in memory"]),
    ("sqlite:///:memory:", ["in memory", "worker"]),
    ("sqlite:///file::memory:?cache=shared", ["in memory"]),
    ("sqlite:///x.db?mode=memory", ["in memory"]),
    ("sqlite:///x.db?timeout=5", ["options", "Leave them out"]),
    ("sqlite://x.db", ["three slashes"]),
    ("sqlite:///C:\\shop\\x.db", ["a path of Windows", "sqlite:////folder/jobmaster.db"]),
    ("sqlite:///C:/shop/x.db", ["a path of Windows"]),
    ("sqlite:///shop\\x.db", ["a path of Windows"]),
    ("sqlite:///x.db ", ["blank"]),
    ("sqlite:///x\t.db", ["control character"]),
    ("sqlite:///folder/", ["is a folder", "sqlite:///folder/jobmaster.db"]),
    ("postgresql://h", ["names no database", "postgresql://HOST/DATABASE"]),
    ("mysql:///d", ["names no server"]),
    ("nats://", ["names no server"]),
    ("nats://h/shop", ["no databases"]),
    ("postgresql://h/a/b", ["%2F"]),
    ("postgresql://h:port/d", ["no port", "1 to 65535"]),
    ("postgresql://h:0/d", ["no port"]),
    ("postgresql://h:65536/d", ["no port"]),
    ("postgresql://h:" + "9" * 5000 + "/d", ["no port"]),
    ("postgresql://h:٣/d", ["no port"]),
    ("postgresql://h/d x", ["%20"]),
    ("postgresql://h/d\n", ["control character"]),
    ("postgresql://h/\x00", ["control character"]),
    ("redis://localhost", ["'redis'", "sqlite:///file.db, postgresql://, mysql://, mssql://, nats://"]),
    ("postgresl://h/d", ["Did you mean postgresql://?"]),
    ("jobmaster+mysqll://h/d", ["Did you mean mysql://?"]),
    ("shop.db", ["no scheme", "sqlite:///file.db"]),
    ("", ["is empty"]),
    ("   ", ["is empty"]),
    (None, ["NoneType"]),
    (5, ["int"]),
]


@pytest.mark.parametrize(("text", "parts"), REFUSED, ids=[repr(case[0]) for case in REFUSED])
def test_what_cannot_work_is_refused_with_the_reason(text: object, parts: list[str]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_dsn(text, folder="/srv/shop", name="master")

    assert str(caught.value).startswith("master ")
    for part in parts:
        assert part in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        f"postgresql://shop:{SECRET}@h:port/d",
        f"postgresql://shop:{SECRET}@h",
        f"postgresql://shop:{SECRET}@h/d x",
        f"postgresql://shop:a#{SECRET}@h/d",
        f"postgresql://shop:a@{SECRET}@h:x/d",
        f"postgresql://shop:a/{SECRET}@h:x/d",
        f"postgresql://shop:{SECRET}/b@h:x/d",
        f"postgresl://shop:{SECRET}@h/d",
        f"redis://:{SECRET}@h/0",
        f"nats://{SECRET}@h/path",
        f"nats://me:{SECRET}@h/path",
        f"mysql://h?password={SECRET}",
        f"mssql://h?Pwd={SECRET}&x=1",
        f"postgresql://h?sslpassword={SECRET}",
    ],
)
def test_no_error_shows_a_password(text: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_dsn(text)

    assert SECRET not in str(caught.value)
    assert "***" in str(caught.value)


def test_an_address_shows_no_password_as_text() -> None:
    dsn = parse_dsn(f"postgresql://shop:{SECRET}@h/d?sslpassword={SECRET}")

    assert str(dsn) == "postgresql://shop:***@h/d?sslpassword=***"
    assert SECRET not in repr(dsn)
    assert SECRET in dsn.url


@given(st.text(st.characters(codec="ascii", exclude_characters="%/?#@ ", exclude_categories=["Cc"]), min_size=4))
def test_any_password_survives_parsing_and_is_hidden(password: str) -> None:
    dsn = parse_dsn(f"postgresql://someone:{password}@host/db")

    assert dsn.password == password
    assert str(dsn) == "postgresql://someone:***@host/db"


@given(st.text())
def test_any_text_is_an_address_or_a_configuration_error(text: str) -> None:
    with contextlib.suppress(ConfigurationError):
        assert isinstance(parse_dsn(text), Dsn)


def test_text_without_an_address_is_not_changed() -> None:
    assert redacted("jobs@example.org") == "jobs@example.org"


@pytest.mark.parametrize(
    "text",
    [
        f"postgres//shop:{SECRET}@h/d",
        f"postgresql:/shop:{SECRET}@h/d",
        f"shop:{SECRET}@h/d",
        f"shop:a@{SECRET}@h/d",
        f"nats//{SECRET}@h",
        f"shop:x@h/d?password={SECRET}",
    ],
)
def test_a_mistyped_address_is_refused_without_its_password(text: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_dsn(text)

    assert SECRET not in str(caught.value)
    assert "@h" in str(caught.value)


@pytest.mark.parametrize(
    ("address", "extra"),
    [("postgresql://h/d", "postgres"), ("mysql://h/d", "mysql"), ("mssql://h/d", "sqlserver"), ("nats://h", "nats")],
    ids=lambda text: f"{text!r}",
)
def test_a_missing_driver_is_named_with_the_command_that_installs_it(
    address: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    packages = [re.split("[<>=]", named)[0] for named in project["optional-dependencies"][extra]]

    with pytest.raises(ConfigurationError) as told:
        require_driver(parse_dsn(address))

    assert shlex.split(str(told.value).partition("pip install ")[2]) == packages


def test_an_installed_driver_is_found_and_not_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: asked.append(name) or object())
    before = set(sys.modules)

    for kind in DRIVERS:
        require_driver(Dsn(kind=kind, url=f"{kind}://h"))

    assert asked == ["asyncpg", "aiomysql", "aioodbc", "nats"]
    assert set(asked).isdisjoint(set(sys.modules) - before)


def test_sqlite_needs_no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)

    require_driver(parse_dsn("sqlite:///x.db"))
