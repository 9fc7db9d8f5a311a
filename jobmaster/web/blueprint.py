"""`JobMasterWeb`: the dashboard of one cluster as a Flask blueprint."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Final

from flask import Blueprint, Flask, Response, request

from jobmaster.errors import ConfigurationError, SchemaError, StoreUnavailable
from jobmaster.web.access import OPEN, Auth, Verdict, gate_of
from jobmaster.web.job_filters import WrongQuestion
from jobmaster.web.json_api import JsonApi
from jobmaster.web.pages import Pages
from jobmaster.web.probes import ENDPOINTS, Probes
from jobmaster.web.rendering import HEADERS
from jobmaster.web.troubles import Troubles

if TYPE_CHECKING:
    from jobmaster.app import JobMaster


class JobMasterWeb:
    """Read-only pages about a cluster: jobs, one job, workers, buckets; the job list as JSON; healthz and readyz.

    Args:
        jm: the app of the cluster.
        auth: who may see the pages. A function that is given the Flask request and returns True; or a pair
            (user, password) for HTTP basic authentication, which needs HTTPS in front of it; or `JobMasterWeb.OPEN`:
            anybody on this machine, for development. None: nobody, every page answers 403 and says how to open it.
        name: the blueprint's name, for `url_for("jobmaster.jobs")`; a second cluster in one application needs another.

    Raises:
        ConfigurationError: `auth` is none of these.
    """

    OPEN: Final = OPEN

    def __init__(self, jm: JobMaster, *, auth: Auth | None = None, name: str = "jobmaster") -> None:
        self._jm = jm
        self._name = name
        self._gate = gate_of(auth)
        self._troubles = Troubles(jm.cluster_id)

    @cached_property
    def blueprint(self) -> Blueprint:
        """The pages, for `app.register_blueprint(...)`; below /jobs if no `url_prefix` is given there."""
        blueprint = Blueprint(self._name, __name__, url_prefix="/jobs", static_folder="static")
        blueprint.before_request(self._refuse_strangers)
        blueprint.after_request(_add_headers)
        Pages(self._jm).add_to(blueprint)
        JsonApi(self._jm).add_to(blueprint)
        Probes(self._jm).add_to(blueprint)
        for kind, answer in (
            (StoreUnavailable, self._troubles.store_unavailable),
            (SchemaError, self._troubles.store_unavailable),
            (ConfigurationError, self._troubles.store_unavailable),
            (WrongQuestion, self._troubles.bad_request),
        ):
            blueprint.register_error_handler(kind, answer)
        return blueprint

    def init_app(self, app: Flask, *, url_prefix: str = "/jobs", auth: Auth | None = None) -> None:
        """Register the pages with a Flask application.

        Args:
            app: the application.
            url_prefix: below which address.
            auth: as for the class; counts instead of what was given there.

        Raises:
            ConfigurationError: `auth` makes no sense.
        """
        if auth is not None:
            self._gate = gate_of(auth)
        app.register_blueprint(self.blueprint, url_prefix=url_prefix)

    def _refuse_strangers(self) -> Response | None:
        # The style sheet holds no secret, and the page that refuses needs it; probes say yes or no, and nothing else.
        if request.endpoint in {f"{request.blueprint}.{name}" for name in ("static", *ENDPOINTS)}:
            return None
        verdict = self._gate(request)
        return None if verdict is Verdict.ALLOWED else self._troubles.refusal(verdict)


def _add_headers(response: Response) -> Response:
    static = request.endpoint == f"{request.blueprint}.static"
    for name, value in HEADERS.items():
        if not (static and name == "Cache-Control"):
            response.headers[name] = value
    return response
