"""The dashboard: a Flask blueprint with read-only pages about a cluster's jobs, workers and buckets.

    app.register_blueprint(JobMasterWeb(jm, auth=("admin", password)).blueprint)

Without `auth=` every page answers 403, also to requests from this machine.
"""

from jobmaster.web.blueprint import JobMasterWeb

__all__ = ["JobMasterWeb"]
