"""`healthz` and `readyz` of the program that shows the dashboard: for orchestrators, which do not log in."""

from __future__ import annotations

import json
import threading
import time
from typing import TYPE_CHECKING, Final

from flask import Response

from jobmaster.errors import JobMasterError, StoreUnavailable

if TYPE_CHECKING:
    from flask import Blueprint

    from jobmaster.app import JobMaster

FRESH: Final = 1.0
"""Seconds for which an answer of the master holds. Strangers may ask: however often they do, it is asked once."""
ENDPOINTS: Final = ("healthz", "readyz")


class Probes:
    """`GET healthz`: this program answers. `GET readyz`: its master does, too. Both tell nothing about the cluster."""

    def __init__(self, jm: JobMaster) -> None:
        self._jm = jm
        self._lock = threading.Lock()
        self._why = ""
        self._asked_at = float("-inf")

    def add_to(self, blueprint: Blueprint) -> None:
        """Register the views."""
        for name, view in (("healthz", self.healthz), ("readyz", self.readyz)):
            blueprint.add_url_rule(f"/{name}", name, view, methods=["GET"], provide_automatic_options=False)

    def healthz(self) -> Response:
        """200 for as long as the program answers at all. No store is asked."""
        return _answer("")

    def readyz(self) -> Response:
        """200 where the master answers, else 503 with the reason in words."""
        with self._lock:  # those who come while it is asked share the answer
            if time.monotonic() - self._asked_at >= FRESH:
                self._why = self._ask()
                self._asked_at = time.monotonic()
            return _answer(self._why)

    def _ask(self) -> str:
        """Why the pages could not be shown now, or nothing. Not the error's own text, which names places."""
        try:
            self._jm.client.ask(lambda gate: gate.store.now_us())
        except StoreUnavailable:
            return "the master does not answer"
        except JobMasterError:
            return "the master cannot be used as it is: see `jobmaster doctor`"
        except Exception:  # noqa: BLE001 - whatever a driver raises, the answer is: not ready
            return "the master could not be asked: see `jobmaster doctor`"
        return ""


def _answer(why: str) -> Response:
    body = {"ok": False, "why": why} if why else {"ok": True}
    return Response(json.dumps(body) + "\n", status=503 if why else 200, mimetype="application/json")
