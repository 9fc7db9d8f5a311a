from __future__ import annotations

import pytest
from flask import Flask
from flask.testing import FlaskClient

from jobmaster.web import JobMasterWeb
from tests.web.cluster import Cluster


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


@pytest.fixture
def client(cluster: Cluster) -> FlaskClient:
    """A visitor who may see everything."""
    app = Flask("host")
    JobMasterWeb(cluster, auth=lambda request: True).init_app(app)
    return app.test_client()
