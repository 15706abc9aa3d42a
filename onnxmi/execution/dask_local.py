"""A Dask cluster of this machine, set up for tasks that compute for seconds and return next to nothing.

Dask watches its processes closely by default, for tasks of milliseconds and for results that fill memory. On an idle
cluster of one worker, that takes a tenth of a processor.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from multiprocessing import resource_tracker
from typing import Any

QUIET: Mapping[str, Any] = {
    "distributed.worker.profile.enabled": False,  # it samples the stack a hundred times a second, under Python's lock
    "distributed.admin.tick.interval": "1s",  # a check of the event loop, fifty times a second
    "distributed.admin.system-monitor.interval": "10s",
    "distributed.admin.system-monitor.gil.enabled": False,
    "distributed.scheduler.active-memory-manager.start": False,  # for results, of which there are none
    "distributed.deploy.cluster-repr-interval": "1h",  # of notebooks
    "distributed.deploy.lost-worker-timeout": "1h",  # a worker that comes back later than that is given up
}
"""Dask's settings; whatever a user's own configuration says goes before them."""


def quiet_settings() -> dict[str, Any]:
    """Return the settings that the user's configuration, files or environment, does not decide."""
    config = import_module("dask.config")
    own = config.collect()
    return {name: value for name, value in QUIET.items() if config.get(name, None, config=own) is None}


@contextmanager
def local_client(count: int) -> Iterator[Any]:
    """Yield a client of so many worker processes of one thread.

    There is no dashboard: whoever wants one starts a scheduler. Memory has no limit, as for any process of this
    machine: Dask would divide it among the workers, and kill one that takes more than its part.
    """
    distributed, config = import_module("distributed"), import_module("dask.config")
    how = {"threads_per_worker": 1, "memory_limit": 0, "silence_logs": "CRITICAL"}
    web = {"dashboard_address": "127.0.0.1:0", "scheduler_kwargs": {"dashboard": False}}
    _start_tracker()
    with (
        config.set(quiet_settings()),
        distributed.LocalCluster(n_workers=0, **how, **web) as cluster,
        distributed.Client(cluster) as client,
    ):
        cluster.sync(_ignore_interrupts)
        cluster.scale(count)
        client.wait_for_workers(count)
        yield client


async def _ignore_interrupts() -> None:
    """Block Ctrl-C in the thread that starts workers, from which they have it: this process alone decides."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})


def _start_tracker() -> None:
    """Start what removes the semaphores of a process that ends at once, as by Ctrl-C, and let it not warn of them."""
    name, before = "PYTHONWARNINGS", os.environ.get("PYTHONWARNINGS")
    os.environ[name] = "ignore::UserWarning"
    try:
        resource_tracker.ensure_running()
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def bring_back(client: Any) -> None:
    """Start workers anew that are given up because their process died while it came up.

    Parameters
    ----------
    client : distributed.Client
        Of `local_client`.
    """
    cluster = client.cluster
    for name, guardian in list(cluster.workers.items()):
        if guardian.status.name in ("closed", "failed"):
            cluster.workers.pop(name)
    if len(cluster.workers) < len(cluster.worker_spec):
        cluster.scale(len(cluster.worker_spec))
