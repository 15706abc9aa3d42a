"""Dask, for real: processes of a local cluster."""

from __future__ import annotations

import importlib
import os
import pickle
import random
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import onnxmi
from onnxmi.execution import dask_cluster
from onnxmi.execution.choose import opened_workers
from onnxmi.execution.dask_local import QUIET, quiet_settings
from onnxmi.execution.executor import Task, WorkerError, run_all
from onnxmi.execution.versions import require_same
from onnxmi.pruning.parallel_capture import capture_in_shards
from onnxmi.statistics.statistics_file import save_statistics
from onnxmi.typing import silent
from tests.execution import tasks
from tests.execution.conftest import OPTIONS, SHARDS, Place

distributed = pytest.importorskip("distributed", reason="Dask is in the extra `dask`")

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 120  # that a process may take to come up on a busy machine


# -- a cluster of this process -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    # Its workers are killed on purpose, which it would report.
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0", silence_logs="CRITICAL"
    ) as made:
        yield made


@pytest.fixture
def client(cluster: Any) -> Iterator[Any]:
    with distributed.Client(cluster) as made:
        made.wait_for_workers(2, timeout=SECONDS)
        yield made


def test_the_bytes_are_those_of_one_machine(place: Place, client: Any, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("onnxmi.pruning.parallel_capture.AT_HOME", 0)  # blocks are added up by workers, too
    measured = onnxmi.collect(place.model, place.samples, OPTIONS, workers=client, shards=SHARDS)
    save_statistics(measured, tmp_path / "s.npz")
    assert (tmp_path / "s.npz").read_bytes() == place.expected
    assert sorted(path.name for path in place.folder.iterdir() if path.name.startswith(".")) == []


def test_stages_are_what_a_dashboard_shows(place: Place, client: Any) -> None:
    how = {"threads": 1, "fresh": True, "workers": client, "shards": SHARDS, "by": "macs", "shares": [0.5]}
    onnxmi.sweep(place.model, place.samples, **how, latency_worker="0")
    names = client.run_on_scheduler(lambda dask_scheduler: list(dask_scheduler.task_prefixes))
    assert {"measure-shards", "rank", "price", "sweep", "time"} <= set(names)


def pids_of(client: Any) -> list[int]:
    """Processes of the workers."""
    return [pid for pid in client.run(os.getpid, on_error="return").values() if isinstance(pid, int)]


def test_kills_at_random_moments_change_no_bit(place: Place, client: Any, tmp_path: Path) -> None:
    """Each worker once: one that dies while it comes up again, its guardian gives up."""
    rng, killed, pids = random.Random(2), list[int](), pids_of(client)

    def kill() -> None:
        for pid in pids:
            time.sleep(rng.uniform(0.3, 1.5))
            os.kill(pid, signal.SIGKILL)
            killed.append(pid)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        with opened_workers(client, SHARDS) as workers:
            capture_in_shards(workers, onnxmi.load(place.model), place.samples, OPTIONS, tmp_path / "s.npz", silent)
    finally:
        thread.join()
    assert killed == pids
    client.wait_for_workers(2, timeout=SECONDS)
    assert (tmp_path / "s.npz").read_bytes() == place.expected


def test_workers_use_freed_memory_again(client: Any) -> None:
    """Though Dask asks glibc to give it back."""
    # A worker that another test has killed may be on its way back.
    environments = client.run(lambda: dict(os.environ), on_error="ignore").values()
    assert any("MALLOC_TRIM_THRESHOLD_" in environment for environment in environments)
    (faults,) = run_all(dask_cluster.DaskExecutor(client), [Task("test", tasks.page_faults, ())], silent)
    assert faults < tasks.ARRAYS * tasks.ARRAY_BYTES // 4096 / 10


def settings_of(name: str) -> tuple[Any, Any]:
    config = importlib.import_module("dask.config")
    return config.get("distributed.worker.profile.enabled"), config.get("distributed.admin.tick.interval")


def test_a_cluster_of_this_machine_watches_little_and_limits_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the user's configuration says of it goes first."""
    monkeypatch.setenv("DASK_DISTRIBUTED__ADMIN__TICK__INTERVAL", "37ms")
    assert "distributed.admin.tick.interval" not in quiet_settings()
    monkeypatch.delenv("DASK_DISTRIBUTED__ADMIN__TICK__INTERVAL")
    assert quiet_settings() == dict(QUIET)
    before = settings_of("home")
    with dask_cluster.connected("local:1") as one:
        assert one.client.run(settings_of, "worker").popitem()[1] == (False, "1s")
        assert one.client.run(lambda dask_worker: dask_worker.memory_manager.memory_limit).popitem()[1] is None
        assert one.client.scheduler_info()["services"] != {"dashboard": 8787}  # which a scheduler of the user's has
    assert settings_of("home") == before


def test_workers_of_this_machine_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dask gives a worker up whose process dies while it comes up."""
    monkeypatch.setattr(dask_cluster, "SECONDS_BETWEEN_QUESTIONS", 0.1)
    with dask_cluster.connected("local:1") as one:
        (guardian,) = one.client.cluster.workers.values()
        one.client.cluster.sync(guardian.close)
        assert run_all(one, [Task("test", tasks.square, (3,))], silent) == [9]


def test_ctrl_c_ends_a_cluster_of_this_machine(place: Place, tmp_path: Path) -> None:
    """One line, and no process is left that would hold standard error open."""
    how = ["--dask", "local:1", "--shards", 97, "--threads", 1, "-q", "-o", tmp_path / "s.npz"]
    capture = [sys.executable, "-m", "onnxmi", "capture", place.model, place.samples, *how]
    quiet = {"cwd": ROOT, "stderr": subprocess.PIPE, "text": True, "start_new_session": True}
    with subprocess.Popen(list(map(str, capture)), **quiet) as process:
        while not list((tmp_path / "s.npz.shards").glob("0*.npz")):
            assert process.poll() is None
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=SECONDS)
    assert (process.returncode, said) == (130, "onnxmi: error: interrupted\n")
    assert not (tmp_path / "s.npz").exists()


def test_a_second_cluster_of_this_machine_warns_of_nothing(cluster: Any) -> None:
    """Their web servers do not want the same port, and are for this machine alone."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always", UserWarning)
        with dask_cluster.connected("local:1"), dask_cluster.connected("local:1") as other:
            assert run_all(other, [Task("test", tasks.square, (3,))], silent) == [9]
    assert not [one for one in seen if issubclass(one.category, UserWarning)]


def test_a_task_that_kills_its_worker_ends_the_run(client: Any) -> None:
    executor = dask_cluster.DaskExecutor(client, tries=1)
    with pytest.raises(WorkerError, match="workers were killed again and again"):
        run_all(executor, [Task("test", tasks.dies, (1,))], silent)
    client.wait_for_workers(2, timeout=SECONDS)


def test_errors_come_as_they_were_raised(client: Any) -> None:
    with pytest.raises(onnxmi.CalibrationError, match="sample 3 is wrong"):
        run_all(dask_cluster.DaskExecutor(client), [Task("test", tasks.refuses, (3,))], silent)


def test_the_scheduler_holds_no_array(place: Place, client: Any, tmp_path: Path) -> None:
    """What goes out and what comes back are a few hundred bytes; sums are in files."""
    sizes: list[int] = []

    class Noting(dask_cluster.DaskExecutor):
        def as_completed(self, handles: Any) -> Iterator[Any]:
            for handle in super().as_completed(handles):
                sizes.append(len(pickle.dumps((handle.task, handle.result()))))
                yield handle

    with opened_workers(Noting(client), SHARDS) as workers:
        capture_in_shards(workers, onnxmi.load(place.model), place.samples, OPTIONS, tmp_path / "s.npz", silent)
    assert len(sizes) == SHARDS
    assert max(sizes) < 10_000 < len(place.expected)


def test_nobody_left_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits for workers that do not come has to be told."""

    class Deserted:
        status, threads = "running", {"tcp://a": 1}

        def nthreads(self) -> dict[str, int]:
            return self.threads

    monkeypatch.setattr(dask_cluster, "SECONDS_BETWEEN_QUESTIONS", 0.0)
    monkeypatch.setattr(dask_cluster, "SECONDS_WITHOUT_WORKERS", 0.0)
    client = Deserted()
    watch = dask_cluster._Watch(client)
    watch.look()
    client.threads = {}
    watch.look()  # for a moment
    with pytest.raises(WorkerError, match="no workers any more"):
        watch.look()
    client.status = "connecting"
    with pytest.raises(WorkerError, match="is gone"):
        watch.look()


@pytest.mark.parametrize("name", ["onnxmi", "onnxruntime"])
def test_another_version_is_refused_by_name(client: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    versions = dask_cluster.own_versions() | {name: "7"}
    monkeypatch.setattr(dask_cluster, "own_versions", lambda: versions)
    with pytest.raises(WorkerError, match=f"has {name} .*; this is {name} 7: results would differ"):
        dask_cluster.DaskExecutor(client)


class Future:
    """Stands in for one of Dask."""

    def __init__(self, error: Exception, status: str = "finished") -> None:
        self.error, self.status = error, status

    def result(self, timeout: float | None = None) -> None:
        raise self.error


def test_a_result_that_cannot_be_fetched_is_not_an_error_of_its_task() -> None:
    handle = dask_cluster._Handle(Task("add", abs, (1,)), "add", Future(OSError("Stream is closed")))
    with pytest.raises(WorkerError, match="is gone"):
        handle.fetch()
    handle.future.status = "error"
    assert handle.fetch()
    with pytest.raises(OSError, match="Stream is closed"):
        handle.result()


def test_a_result_that_went_with_the_last_worker_is_not_waited_for_forever(monkeypatch: pytest.MonkeyPatch) -> None:
    """The scheduler would have it done again, by whoever comes; the run ends as with nobody left."""

    class Deserted:
        status = "running"

        def nthreads(self) -> dict[str, int]:
            return {}

        def submit(self, *_: Any, **__: Any) -> Future:
            return Future(TimeoutError())

        def run(self, *_: Any, **__: Any) -> dict[str, Any]:
            return {"tcp://a": dask_cluster._seen()}

        def cancel(self, *_: Any, **__: Any) -> None:
            pass

    monkeypatch.setattr(dask_cluster, "SECONDS_BETWEEN_QUESTIONS", 0.0)
    monkeypatch.setattr(dask_cluster, "SECONDS_WITHOUT_WORKERS", 0.0)
    with pytest.raises(WorkerError, match="no workers any more"):
        run_all(dask_cluster.DaskExecutor(Deserted()), [Task("add", abs, (1,))], silent)


def test_what_is_not_installed_is_named() -> None:
    with pytest.raises(WorkerError, match="worker on node lacks onnxmi; this is onnxmi 3"):
        require_same({"onnxmi": "3"}, {"onnxmi": None}, "on node")


# -- times at one worker ----------------------------------------------------------------------------------------------


def test_a_task_may_be_for_one_worker(client: Any) -> None:
    """By its name or its address."""
    executor = dask_cluster.DaskExecutor(client)
    there, pids = dask_cluster.workers_of(client), client.run(os.getpid)
    for address, name in there.items():
        for worker in (address, str(name)):
            executor.require_worker(worker)
            calls = [Task("test", tasks.process_id, (number,), worker) for number in range(5)]
            assert set(run_all(executor, calls, silent)) == {pids[address]}


def test_a_worker_that_is_not_there_is_refused(place: Place, client: Any) -> None:
    with pytest.raises(WorkerError, match="--latency-worker phone: no worker has this name or address; there are 0, 1"):
        onnxmi.prune(place.model, place.samples, keep=0.6, workers=client, latency_worker="phone")
    for workers in (None, 1):
        with pytest.raises(onnxmi.UsageError, match="names a worker of Dask"):
            onnxmi.prune(place.model, place.samples, keep=0.6, workers=workers, latency_worker="1")


def test_a_lost_worker_for_times_is_noticed(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dask_cluster, "SECONDS_BETWEEN_QUESTIONS", 0.0)
    monkeypatch.setattr(dask_cluster, "SECONDS_WITHOUT_WORKERS", 0.0)
    with pytest.raises(WorkerError, match="no worker of --latency-worker any more"):
        run_all(dask_cluster.DaskExecutor(client), [Task("time", tasks.process_id, (1,), "tcp://127.0.0.1:1")], silent)


def test_times_are_measured_at_the_worker(place: Place, client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of prune, sweep and check, and none of them at home; the report says so without an address."""
    monkeypatch.setattr("onnxmi.runtime.stopwatch.measure_latency", None)
    how = {"threads": 1, "fresh": True, "force": True, "workers": client, "latency_worker": "1", "shards": SHARDS}
    monkeypatch.setattr("onnxmi.pruning.latency_cache._read", lambda _path: {})
    monkeypatch.setattr("onnxmi.pruning.latency_cache._write", lambda *_: None)
    result = onnxmi.prune(place.model, place.samples, speedup=1.01, best_effort=True, **how)
    assert result.latency is not None
    curve = onnxmi.sweep(place.model, place.samples, by="macs", shares=[0.5], **{**how, "force": False})
    report = onnxmi.check(
        place.model, max_latency="1s", baseline=place.model, threads=1, seconds=0.2, workers=client, latency_worker="1"
    )
    assert report.passed
    for notes in (result.notes, curve.notes, report.notes):
        (note,) = [note for note in notes if "another machine" in note]
        assert "127.0.0.1" not in note
        assert len(note) < 120
