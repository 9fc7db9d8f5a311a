"""Addresses of stores: what may be written, where it points, and which driver it needs.

`sqlite:///relative.db`, `sqlite:////absolute.db`, `postgresql://user:password@host:5432/shop`, `mysql://`, `mssql://`,
`nats://host:4222`; each also as `jobmaster+postgresql://` and so on.
"""

from __future__ import annotations

import os
import re

import msgspec

from jobmaster.errors import ConfigurationError

POSTGRESQL, MYSQL, MSSQL, SQLITE, NATS = "postgresql", "mysql", "mssql", "sqlite", "nats"

SCHEMES = {
    "sqlite": SQLITE,
    "postgresql": POSTGRESQL,
    "postgres": POSTGRESQL,
    "mysql": MYSQL,
    "mariadb": MYSQL,
    "mssql": MSSQL,
    "sqlserver": MSSQL,
    "nats": NATS,
}
"""Every scheme that is understood, and the kind of store that it names."""

DRIVERS = {
    POSTGRESQL: ("asyncpg", "asyncpg 'psycopg[binary]'"),
    MYSQL: ("aiomysql", "aiomysql"),
    MSSQL: ("aioodbc", "aioodbc"),
    NATS: ("nats", "nats-py"),
}
"""Kind of store: the module that talks to it, and what `pip install` is told, as the extra of the same kind has it.

Not the extra itself: on the public index the name jobmaster is another project's. SQLite needs none.
"""

STORED = (SQLITE, POSTGRESQL)
"""The kinds of stores that this version has."""

_KNOWN = "sqlite:///file.db, postgresql://, mysql://, mssql://, nats:// (also as jobmaster+postgresql:// and so on)"
_PARTS = re.compile(r"(?P<scheme>[A-Za-z0-9+.-]+)://(?P<rest>.*)", re.DOTALL)
_WINDOWS_PATH = re.compile(r"/+(?:[A-Za-z]:[\\/]|[^/]*\\)")
_SECRET_OPTION = re.compile(r"(?i)\b([\w-]*(?:password|passwd|pwd|token|secret)[\w-]*=)[^&;\s]+")


class Dsn(msgspec.Struct, frozen=True):
    """Where a store is. `str()` and `repr()` hide the password; `url` has it.

    `kind` is one of `sqlite`, `postgresql`, `mysql`, `mssql`, `nats`. `url` is the whole address with the kind as its
    scheme. For SQLite only `path` is set. `host` may be a list with commas (NATS, PostgreSQL) and then has the ports.
    """

    kind: str
    url: str
    path: str = ""
    host: str = ""
    port: int | None = None
    user: str = ""
    password: str = ""
    database: str = ""
    options: dict[str, str] = {}

    def __str__(self) -> str:
        return redacted(self.url)

    def __repr__(self) -> str:
        return f"Dsn({str(self)!r})"

    @property
    def is_sql(self) -> bool:
        """True for a database, which can be a master; False for NATS, which can only be an agent."""
        return self.kind != NATS


def redacted(text: str) -> str:
    """`text` without the password of an address in it and without values of options such as `password=`."""
    scheme, mark, rest = text.partition("://")
    login, at, place = ("", "", text) if mark else text.rpartition("@")
    if ":" in login or "/" in login:  # a mistyped address: anything that stands there may be a password
        return _SECRET_OPTION.sub(r"\1***", f"***{at}{place}")
    if mark and "@" in rest:
        # The last @: a password that holds an unquoted one is hidden whole.
        login, _, place = rest.rpartition("@")
        user, colon, _ = login.partition(":")
        # NATS takes a token in the user's place, so that a lone user is a secret there.
        shown = user if colon or not scheme.lower().endswith(NATS) else "***"
        rest = f"{shown}{':***' if colon else ''}@{place}"
    return _SECRET_OPTION.sub(r"\1***", f"{scheme}{mark}{rest}")


def parse_dsn(text: object, *, folder: str | None = None, name: str = "address") -> Dsn:
    """The store that `text` points to.

    Args:
        text: the address.
        folder: a relative SQLite path is relative to this folder; None: to the current one, and no file is looked at.
        name: what the address is called, for the error's text.

    Raises:
        ConfigurationError: it is no address that JobMaster knows; the text says why, without the password.
    """
    if not isinstance(text, str) or not text.strip():
        what = "empty" if isinstance(text, str) else type(text).__name__
        raise ConfigurationError(f"{name} is {what}, but an address is text. Known are {_KNOWN}.")
    if text != text.strip() or re.search(r"[\x00-\x1f\x7f]" if _is_file(text) else r"[\x00-\x20\x7f]", text):
        raise ConfigurationError(
            f"{name} {redacted(text)!r} holds a blank or a control character, which no address may. "
            "Write a blank as %20."
        )
    parts = _PARTS.fullmatch(text)
    kind = SCHEMES.get(_dialect(parts["scheme"])) if parts else None
    if parts is None or kind is None:
        raise ConfigurationError(_unknown(name, text, parts["scheme"] if parts else ""))
    if kind == SQLITE:
        return _sqlite(parts["rest"], text=text, folder=folder, name=name)
    return _server(kind, parts["rest"], text=text, name=name)


def require_store(dsn: Dsn) -> None:
    """Make sure that this version has stores of the kind that `dsn` names.

    Raises:
        ConfigurationError: it has none.
    """
    if dsn.kind not in STORED:
        raise ConfigurationError(
            f"{dsn} names a {dsn.kind} store, and this version of JobMaster has stores for SQLite and PostgreSQL only. "
            "Use sqlite:///jobmaster.db or postgresql://HOST/DATABASE."
        )


def require_driver(dsn: Dsn) -> None:
    """Make sure that the driver of `dsn` is installed. Imports nothing; to be called when the store is opened.

    Raises:
        ConfigurationError: it is not; the text has the command that installs it.
    """
    if dsn.kind not in DRIVERS:
        return
    import importlib.util

    module, packages = DRIVERS[dsn.kind]
    if importlib.util.find_spec(module) is None:
        raise ConfigurationError(
            f"{dsn} needs the driver {module}, which is not installed. Run: pip install {packages}"
        )


def _is_file(text: str) -> bool:
    """Folders have blanks in their names, and programs put them into addresses as they are."""
    return SCHEMES.get(_dialect(text.partition("://")[0])) == SQLITE


def _dialect(scheme: str) -> str:
    """`jobmaster+postgresql+asyncpg` gives `postgresql`: our own driver is used, whichever the address names."""
    return scheme.lower().removeprefix("jobmaster+").partition("+")[0]


def _unknown(name: str, text: str, scheme: str) -> str:
    if not scheme:
        return f"{name} {redacted(text)!r} has no scheme. An address begins with one of {_KNOWN}."
    import difflib

    close = difflib.get_close_matches(_dialect(scheme), SCHEMES, n=1)
    hint = f" Did you mean {close[0]}://?" if close else ""
    shown = redacted(text)
    return f"{name} {shown!r} has the scheme {scheme!r}, which JobMaster has no store for.{hint} Known are {_KNOWN}."


def _sqlite(rest: str, *, text: str, folder: str | None, name: str) -> Dsn:
    from pathlib import Path

    location, _, options = rest.partition("?")
    if ":memory:" in rest or "mode=memory" in options or not location.strip("/"):
        raise ConfigurationError(
            f"{name} {text!r} is a database in memory: other processes, such as the worker, could not see it. "
            "Name a file: sqlite:///jobmaster.db"
        )
    if not location.startswith("/"):
        raise ConfigurationError(
            f"{name} {text!r} has a server's name where SQLite has none. "
            "Write three slashes before a relative path (sqlite:///jobmaster.db), four before an absolute one."
        )
    if options:
        raise ConfigurationError(
            f"{name} {text!r} has options after '?', but JobMaster sets SQLite's options itself. Leave them out."
        )
    if os.sep == "/" and _WINDOWS_PATH.match(location):
        raise ConfigurationError(
            f"{name} {text!r} is a path of Windows, and this system has no drives: it would be one odd file name. "
            "Write sqlite:////folder/jobmaster.db, or a path relative to the app: sqlite:///jobmaster.db"
        )
    path = _unquoted(location[1:])
    full = _full_path(path, folder=folder, name=name)
    if location.endswith("/") or (folder is not None and Path(full).is_dir()):
        raise ConfigurationError(
            f"{name} {text!r} is a folder ({full}). Name a file in it: sqlite:///{path.rstrip('/')}/jobmaster.db"
        )
    return Dsn(kind=SQLITE, url=f"sqlite:///{_quoted_path(full)}", path=full)


def _full_path(path: str, *, folder: str | None, name: str) -> str:
    from pathlib import Path

    try:
        return str(Path(folder or ".", Path(path).expanduser()).resolve())
    except (RuntimeError, OSError, ValueError) as error:
        raise ConfigurationError(f"{name}: no file can be found at {path!r} ({error}). Give another path.") from None


def _server(kind: str, rest: str, *, text: str, name: str) -> Dsn:
    if "#" in rest:
        raise ConfigurationError(
            f"{name} {redacted(text)!r} holds a '#', which ends an address. In a password write it as %23."
        )
    place, _, query = rest.partition("?")
    login, _, address = place.rpartition("@")
    hosts, _, database = address.partition("/")
    user, _, password = login.partition(":")
    host, port = _host_and_port(hosts, text=text, name=name)
    dsn = Dsn(
        kind=kind,
        url=f"{kind}://{rest}",
        host=host,
        port=port,
        user=_unquoted(user),
        password=_unquoted(password),
        database=_unquoted(database),
        options=_options(query),
    )
    _check_server(dsn, name=name)
    return dsn


def _host_and_port(hosts: str, *, text: str, name: str) -> tuple[str, int | None]:
    """One server gives (host, port). A list is kept as it is: which server answers is the driver's affair."""
    servers = [_one_server(server, text=text, name=name) for server in hosts.split(",")]
    return (hosts, None) if len(servers) > 1 else servers[0]


def _one_server(server: str, *, text: str, name: str) -> tuple[str, int | None]:
    # The colons of an IPv6 address stand in brackets.
    host, colon, digits = ("", "", "") if server.endswith("]") else server.rpartition(":")
    if not colon:
        return server.strip("[]"), None
    if re.fullmatch("[0-9]{1,5}", digits) and 0 < int(digits) < 65_536:  # noqa: PLR2004 - a port
        return host.strip("[]"), int(digits)
    # What stands there may be the rest of a password with an unquoted slash: it is not shown.
    raise ConfigurationError(
        f"{name} {redacted(text)!r}: what stands after the host's ':' is no port (1 to 65535). "
        "Give a number, and write '/', '@' and ':' in a password as %2F, %40 and %3A."
    )


def _check_server(dsn: Dsn, *, name: str) -> None:
    shown = f"{name} {str(dsn)!r}"
    # PostgreSQL without a host is its local socket.
    if not dsn.host and dsn.kind != POSTGRESQL:
        raise ConfigurationError(f"{shown} names no server. Write {dsn.kind}://HOST…")
    if dsn.kind == NATS and dsn.database:
        raise ConfigurationError(f"{shown} has a path, but a NATS server has no databases. Write nats://HOST:4222")
    if dsn.is_sql and not dsn.database:
        raise ConfigurationError(f"{shown} names no database. Write {dsn.kind}://HOST/DATABASE")
    if "/" in dsn.database:
        raise ConfigurationError(f"{shown} has a '/' in the database's name. Write it as %2F if it belongs there.")


def _options(query: str) -> dict[str, str]:
    if not query:
        return {}
    from urllib.parse import parse_qsl

    return dict(parse_qsl(query, keep_blank_values=True))


def _unquoted(text: str) -> str:
    if "%" not in text:
        return text
    from urllib.parse import unquote

    return unquote(text)


def _quoted_path(path: str) -> str:
    quoted = path.replace("%", "%25").replace("?", "%3F").replace("#", "%23").replace(" ", "%20")
    return quoted.replace("\\", "%5C") if os.sep == "/" else quoted
