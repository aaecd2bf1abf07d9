"""The process from which tests fork daemons and ranks: what takes seconds to import is there.

One for each process of the tests, whoever forks first; a second list of modules would replace the
first, so there is one.
"""

import multiprocessing

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    [
        "teacherd.daemon.service",
        "teacherd.models.learner",
        # What the first optimizer, poll or request of a process would import.
        "torch._dynamo",
        "uvicorn.protocols.http.auto",
        "uvicorn.loops.auto",
        "pytest",
    ]
)
