"""The options of `jobmaster demo`."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from urllib.parse import quote

import click

from jobmaster.demo.endings import end_as_by_ctrl_c

INTERRUPTED = 130


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--once", is_flag=True, help="End by itself: exit code 0 if every job ended as planned, else 1.")
@click.option(
    "--dir", "folder", type=click.Path(path_type=Path), metavar="PATH",
    help="Count the words of this folder's text files. Default: JobMaster's own files.",
)  # fmt: skip
@click.option(
    "--master", metavar="DSN", help="Use this database and leave it there. Default: an SQLite file that is deleted."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of words.")
def demo(*, once: bool, folder: Path | None, master: str | None, as_json: bool) -> int:
    """Run a small real workload on an SQLite file and watch it.

    A worker is started as a process of its own. It gets one job for each text file of a folder, and five more: one
    that is retried, one that fails, one that is due later, and two that are cancelled; and a schedule in its code fires
    every two seconds. Then every number is checked.
    Variables JOBMASTER_... of your environment are not used.
    """
    for name in [name for name in os.environ if name.startswith("JOBMASTER_")]:
        del os.environ[name]
    end_as_by_ctrl_c()
    with tempfile.TemporaryDirectory(prefix="jobmaster-demo-", ignore_cleanup_errors=True) as temporary:
        os.environ["JOBMASTER_MASTER"] = master or f"sqlite:///{quote(temporary)}/demo.db"
        # The app reads its settings when it is imported.
        from jobmaster.demo.files import default_folder
        from jobmaster.demo.story import Order, run

        order = Order(
            folder=folder.expanduser() if folder else default_folder(),
            temporary=Path(temporary),
            given_master=master,
            once=once,
            as_json=as_json,
        )
        try:
            return run(order)
        except KeyboardInterrupt:
            click.echo("Stopped before all jobs had ended.", err=True)
            return INTERRUPTED
