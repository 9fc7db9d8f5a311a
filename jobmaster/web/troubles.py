"""The pages for what is not shown: refused, not found, asked wrongly, or the master does not answer."""

from __future__ import annotations

import logging
from typing import Final

from flask import Response, jsonify, request

from jobmaster.web.access import Verdict
from jobmaster.web.rendering import render

_log = logging.getLogger("jobmaster.web")

_STATUS: Final = {Verdict.CLOSED: 403, Verdict.ASK: 401, Verdict.REFUSED: 403, Verdict.NOT_LOCAL: 403}
_TITLE: Final = {
    Verdict.CLOSED: "This dashboard is closed",
    Verdict.ASK: "Name and password, please",
    Verdict.REFUSED: "You may not see this dashboard",
    Verdict.NOT_LOCAL: "Open on its own machine only",
}


class Troubles:
    """Answers in the form that was asked for: JSON below /api, else a page."""

    def __init__(self, cluster_id: str) -> None:
        self._cluster_id = cluster_id

    def refusal(self, verdict: Verdict) -> Response:
        """The answer to somebody who may not see the pages."""
        response = self._answer("refused.html", status=_STATUS[verdict], title=_TITLE[verdict], verdict=verdict.name)
        if verdict is Verdict.ASK:
            response.headers["WWW-Authenticate"] = 'Basic realm="JobMaster", charset="UTF-8"'
        return response

    def store_unavailable(self, error: Exception) -> Response:
        """503: the master does not answer, or its schema or the settings do not fit. The details stand in the log."""
        _log.warning("dashboard_cannot_ask error=%s", error)
        response = self._answer("unavailable.html", status=503, title="The master database does not answer")
        response.headers["Retry-After"] = "5"
        return response

    def bad_request(self, error: Exception) -> Response:
        """400: what was asked for cannot be."""
        return self._answer("bad_request.html", status=400, title="This cannot be asked", text=str(error))

    def _answer(self, template: str, *, status: int, title: str, **values: object) -> Response:
        if request.path.startswith(f"{_prefix()}/api/"):
            response = jsonify(error=title)
            response.status_code = status
            return response
        shown = status in {400, 503}
        return render(
            template, status=status, title=title, cluster=self._cluster_id if shown else "", page="", **values
        )


def _prefix() -> str:
    """The address below which the blueprint that answers is registered."""
    rule = request.url_rule.rule if request.url_rule is not None else ""
    return rule.partition("/api/")[0]
