"""Templates to responses: an environment of its own, so that the host application's settings change nothing here."""

from __future__ import annotations

from functools import cache
from typing import Final

from flask import Response, url_for
from jinja2 import Environment, PackageLoader, StrictUndefined

import jobmaster
from jobmaster.web import looks
from jobmaster.web.tracebacks import parts_of

CONTENT_SECURITY_POLICY: Final = (
    "default-src 'none'; style-src 'self'; img-src 'self' data:; form-action 'self'; frame-ancestors 'none'; "
    "base-uri 'none'"
)
"""No script runs in these pages, ours included."""

HEADERS: Final = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("jobmaster.web"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        ago=looks.ago_text,
        clock=looks.clock_text,
        duration=looks.duration_text,
        moment=looks.moment_text,
        payload=looks.payload_text,
        short_id=looks.short_id,
        traceback_parts=parts_of,
    )
    environment.globals.update(
        job_look=looks.look_of_job,
        status_look=looks.look_of_status,
        run_time=looks.run_time,
        wait_time=looks.wait_time,
        url_for=url_for,
        version=jobmaster.__version__,
    )
    return environment


def render(template: str, *, status: int = 200, **values: object) -> Response:
    """A page as a response. Half characters in user data are shown escaped, because no page could be sent with them."""
    html = _environment().get_template(template).render(**values)
    return Response(html.encode("utf-8", "backslashreplace"), status=status, mimetype="text/html")
