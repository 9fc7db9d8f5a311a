"""Hides secrets before something is logged, shown or put into an error. Pure functions; what is in doubt is hidden.

They work on text, not on parsed URLs, because an address that cannot be parsed ends in an error text most of all.
Every pattern is anchored at the start of a word, so the time grows with the length of the text and no faster.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

HIDDEN: Final = "***"

_DEEPEST: Final = 20

# Parts of a key's name that make its value a secret: DB_PASSWORD, apiKey, X-Auth-Token, aws_secret_access_key, ...
_WORD = (
    r"pass(?:word|wd|phrase|code)?s?|pwd|secrets?|token|api[\W_]?keys?|(?:access|private|signing|account)[\W_]?key"
    r"|credentials?|creds|authorization|authentication|cookies?|session[\W_]?id|jwt|nkey|odbc_connect"
)
_SECRET_NAME = re.compile(
    rf"(?:^|[^a-z])(?:{_WORD})(?:$|[^a-z])|(?:password|passwd|secret|token|apikey)$", re.IGNORECASE
)
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")

_URL = re.compile(
    r"(?<![A-Za-z0-9+.\-])(?P<scheme>[A-Za-z][A-Za-z0-9+.\-]*)://"
    r"(?P<rest>(?:(?!,[A-Za-z][A-Za-z0-9+.\-]*://)[^\s\"'<>])*)"
)
_HOST_AND_PATH = re.compile(r"(?:[A-Za-z0-9.\-_,]|\[[^\]@]*\])*(?::\d{1,5})?/.*", re.DOTALL)
_PAIRS_OF_QUERY = re.compile(r"[\w.\-]+=.*", re.DOTALL)
_QUERY = re.compile(r"(?<=[?&;#])(?P<name>[^?&#;=\s]+)=(?P<value>[^&#\s]*)")
# A user alone before the @ is a token there, and a name elsewhere.
_TOKEN_SCHEMES: Final = frozenset({"nats", "tls", "ws", "wss", "http", "https"})

# password=secret of libpq and ODBC, "password": "secret" of JSON and repr: the name with its sign, then the value.
_NAME = re.compile(r"(?<![\w\-])(?P<name>[A-Za-z_][\w\-]*)\\?[\"']?\s*[=:]\s*(?![=:/])")
_VALUE = re.compile(
    r"\{(?:[^}]|\}\})*\}|'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|\\\"[^\"]*\"|[^\s;,&\"'}\])]+", re.DOTALL
)
_AUTHORIZATION = re.compile(r"\b(?P<scheme>Bearer|Basic)\s+[A-Za-z0-9._~+/=\-]{6,}", re.IGNORECASE)


def is_secret_name(name: str) -> bool:
    """Whether a setting, header or key of this name holds a secret."""
    return _SECRET_NAME.search(_CAMEL.sub("_", name)) is not None


def redact_text(text: str) -> str:
    """Any text, such as a driver's error, with the secrets of the URLs, DSNs and key=value pairs in it hidden.

    Understands `scheme://user:password@host/db?token=...` (several hosts, or several URLs separated by commas;
    passwords in which nobody escaped `@`, `/` or `?`; NATS tokens in place of the user), and the `key=value` strings of
    libpq and ODBC, also inside of a URL.
    """
    text = _URL.sub(_redact_found_url, text)
    text = _AUTHORIZATION.sub(rf"\g<scheme> {HIDDEN}", text)
    return _redact_pairs(text)


def redact_mapping(mapping: Mapping[str, object]) -> dict[str, object]:
    """A copy in which the values under secret names are hidden, and secrets in other texts, at every level.

    Lists, tuples and mappings inside are copied too; deeper than 20 levels everything is hidden. Whether a secret is
    set (not None, not empty) stays visible.
    """
    return {str(name): _redact_item(str(name), value, 1) for name, value in mapping.items()}


def _redact_item(name: str, value: object, depth: int) -> object:
    if value is None or isinstance(value, bool) or value in ("", b""):
        return value
    return HIDDEN if is_secret_name(name) else _redact_value(value, depth)


def _redact_value(value: object, depth: int) -> object:
    if isinstance(value, str):
        return redact_text(value)
    if isinstance(value, Mapping | list | tuple) and depth >= _DEEPEST:
        return HIDDEN
    if isinstance(value, Mapping):
        return {str(name): _redact_item(str(name), inner, depth + 1) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        copies = [_redact_value(inner, depth + 1) for inner in value]
        return copies if isinstance(value, list) else tuple(copies)
    return value


def _redact_found_url(found: re.Match[str]) -> str:
    scheme, rest = found["scheme"], found["rest"]
    credentials, host = _split_credentials(rest)
    if credentials:
        user, colon, password = credentials.partition(":")
        if not colon and scheme.lower() in _TOKEN_SCHEMES:
            user = HIDDEN
        credentials = f"{user}{colon}{HIDDEN if password else ''}@"
    return f"{scheme}://{credentials}{_QUERY.sub(_redact_query, host)}"


def _split_credentials(rest: str) -> tuple[str, str]:
    """What stands before the @ that precedes the host, and the rest. A password may hold any character unescaped."""
    split = rest.rfind("@")
    address, question, query = rest[:split].partition("?")
    if split >= 0 and question and _PAIRS_OF_QUERY.fullmatch(query):
        # The last @ belongs to a value of the query (user=joe@tenant), unless there is no host before it.
        if "@" in address:
            split = address.rindex("@")
        elif _HOST_AND_PATH.fullmatch(address):
            split = -1
    if split < 0:
        return "", rest
    return rest[:split], rest[split + 1 :]


def _redact_query(found: re.Match[str]) -> str:
    return f"{found['name']}={HIDDEN}" if found["value"] and is_secret_name(found["name"]) else found[0]


def _redact_pairs(text: str) -> str:
    kept: list[str] = []
    done = 0
    for found in _NAME.finditer(text):
        if found.start() < done or not is_secret_name(found["name"]):
            continue
        value = _VALUE.match(text, found.end())
        if value is not None:
            kept += [text[done : found.end()], HIDDEN]
            done = value.end()
    return "".join([*kept, text[done:]])
