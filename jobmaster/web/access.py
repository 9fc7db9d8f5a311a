"""Who may see the dashboard. Closed until the program says otherwise; what is in doubt is refused."""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING, Final, Literal, TypeGuard
from urllib.parse import urlsplit

from jobmaster.errors import ConfigurationError

if TYPE_CHECKING:
    from flask import Request

OPEN: Final = "open"
"""Anybody on this machine, for development: requests from elsewhere, or through a proxy, are refused."""

Auth = Callable[["Request"], object] | tuple[str, str] | Literal["open"]
"""A function that says yes or no to a request, a user with a password, or `OPEN`."""

_FORWARDED: Final = ("Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-IP", "Via")


class Verdict(Enum):
    """Answer to one request."""

    ALLOWED = 1
    CLOSED = 2
    """Nobody may: the program gave no `auth=`."""
    ASK = 3
    """The browser may ask its user for a name and a password."""
    REFUSED = 4
    NOT_LOCAL = 5
    """Open for development, and the request is not certainly from this machine."""


Gate = Callable[["Request"], Verdict]
"""Decides about one request."""


def gate_of(auth: object) -> Gate:
    """The gate that `auth` describes; None: closed.

    Raises:
        ConfigurationError: it is none of the three forms; the text says which there are.
    """
    if auth is None:
        return _closed
    if auth == OPEN:
        return _local_only
    if callable(auth):
        return _ask_program(auth)
    if _is_pair(auth):
        return _basic(*auth)
    raise ConfigurationError(
        f"JobMasterWeb(auth=...) was given a {type(auth).__name__}, which does not say who may see the jobs. Give a "
        "function that takes the request and returns True or False, a pair (user, password) of two texts that are not "
        "empty, or JobMasterWeb.OPEN for development on this machine."
    )


def _is_pair(auth: object) -> TypeGuard[tuple[str, str]]:
    return isinstance(auth, tuple) and len(auth) == 2 and all(isinstance(part, str) and part for part in auth)  # noqa: PLR2004 - user and password


def _closed(_request: Request) -> Verdict:
    return Verdict.CLOSED


def _local_only(request: Request) -> Verdict:
    """A page of another site could reach 127.0.0.1 by a name of its own, so that the Host must be local, too."""
    proxied = any(name in request.headers for name in _FORWARDED)
    local = _is_loopback(request.remote_addr) and _is_loopback(_host(request.host))
    return Verdict.ALLOWED if local and not proxied else Verdict.NOT_LOCAL


def _ask_program(allows: Callable[[Request], object]) -> Gate:
    return lambda request: Verdict.ALLOWED if allows(request) is True else Verdict.REFUSED


def _basic(user: str, password: str) -> Gate:
    def ask(request: Request) -> Verdict:
        given = request.authorization
        if given is None or given.type != "basic":
            return Verdict.ASK
        right_user = _same(given.username or "", user)
        right_password = _same(given.password or "", password)
        return Verdict.ALLOWED if right_user and right_password else Verdict.ASK

    return ask


def _same(given: str, wanted: str) -> bool:
    """Whether both texts are equal, in a time that does not tell where they differ."""
    return hmac.compare_digest(given.encode("utf-8", "surrogatepass"), wanted.encode("utf-8", "surrogatepass"))


def _host(netloc: str) -> str:
    try:
        return urlsplit(f"//{netloc}").hostname or ""
    except ValueError:
        return ""


def _is_loopback(address: str | None) -> bool:
    if address == "localhost":
        return True
    try:
        return ipaddress.ip_address(address or "").is_loopback
    except ValueError:
        return False
