"""`jobmaster demo`: a small real workload from end to end, and a check of every number that it prints.

`app` has the tasks as a user would write them, `plan` says as data how each job must end, `worker_process` starts a
worker the way users do, `story` is what happens. `recount` counts again by other code, so that nobody has to believe
the jobs.
"""

from __future__ import annotations

from collections.abc import Sequence


def main(arguments: Sequence[str]) -> int:
    """Run `jobmaster demo` with these arguments; the answer is the exit code.

    Raises:
        click.UsageError: the arguments cannot be.
        ConfigurationError: there is no such folder, no text file in it, or the master's address cannot be used.
        StoreUnavailable: the master cannot be reached.
    """
    from jobmaster.demo.command import demo

    code = demo.main(list(arguments), prog_name="jobmaster demo", standalone_mode=False)
    return code if isinstance(code, int) else 0
