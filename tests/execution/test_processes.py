"""Worker processes: results whatever the order, tasks of killed processes done anew, errors as they were raised."""

from __future__ import annotations

import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import onnxmi
from onnxmi.errors import CalibrationError, InvariantError
from onnxmi.execution.choose import opened_workers
from onnxmi.execution.executor import Task, WorkerError, run_all
from onnxmi.execution.processes import ProcessExecutor
from onnxmi.pruning.parallel_capture import capture_in_shards
from onnxmi.statistics import merging
from onnxmi.typing import silent
from tests.execution import tasks
from tests.execution.conftest import OPTIONS, SHARDS


def calls(function, *numbers: int, also: tuple = ()) -> list[Task]:
    return [Task("test", function, (number, *also)) for number in numbers]


def test_results_come_in_the_order_of_the_tasks() -> None:
    seen: list[tuple[str, int, int]] = []
    with ProcessExecutor(2) as executor:
        assert run_all(executor, calls(tasks.slow_first, *range(7)), lambda *step: seen.append(step)) == list(range(7))
        assert run_all(executor, calls(tasks.square, 3, 5), silent) == [9, 25]
    assert seen == [("test", done, 7) for done in range(8)]


def test_errors_come_as_they_were_raised() -> None:
    with ProcessExecutor(1) as executor:
        with pytest.raises(CalibrationError, match="sample 3 is wrong"):
            run_all(executor, calls(tasks.refuses, 3), silent)
        with pytest.raises(InvariantError, match="Odd: 4"):
            run_all(executor, calls(tasks.fails_oddly, 4), silent)
        assert run_all(executor, calls(tasks.square, 3), silent) == [9]


def test_a_killed_process_loses_nothing(tmp_path: Path) -> None:
    with ProcessExecutor(2) as executor:
        assert run_all(executor, calls(tasks.dies_once, *range(5), also=(str(tmp_path),)), silent) == list(range(5))


def test_a_task_that_kills_its_process_ends_the_run() -> None:
    with ProcessExecutor(2, tries=3) as executor, pytest.raises(WorkerError, match="killed 3 times") as caught:
        run_all(executor, calls(tasks.dies, 1), silent)
    assert caught.value.exit_code == 3


def test_processes_end_with_the_one_that_started_them(tmp_path: Path) -> None:
    """However it ends: no process goes on for nobody."""
    program = (
        "from onnxmi.execution.executor import Task, run_all\n"
        "from onnxmi.execution.processes import ProcessExecutor\n"
        "from onnxmi.typing import silent\n"
        "from tests.execution import tasks\n"
        "if __name__ == '__main__':\n"
        "    with ProcessExecutor(2) as executor:\n"
        f"        run_all(executor, [Task('t', tasks.sleeps, ({str(tmp_path)!r}, 600.0))] * 2, silent)\n"
    )
    root = Path(__file__).resolve().parents[2]
    (tmp_path / "program.py").write_text(program)
    environment = {**os.environ, "PYTHONPATH": str(root)}
    with subprocess.Popen([sys.executable, tmp_path / "program.py"], env=environment) as process:
        pids: list[int] = []
        while len(pids) < 2:
            time.sleep(0.05)
            pids = [int(path.name) for path in tmp_path.iterdir() if path.name.isdigit()]
        process.kill()
    for pid in pids:
        for _ in range(200):
            if not is_running(pid):
                break
            time.sleep(0.05)
        assert not is_running(pid)


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


# -- statistics --------------------------------------------------------------------------------------------------------


def test_the_bytes_are_those_of_shards_one_by_one(place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onnxmi.pruning.parallel_capture.AT_HOME", 0)  # blocks are added up by workers, too
    monkeypatch.setattr(merging, "BLOCK", 900)
    for jobs in (1, 2):
        target = tmp_path / f"{jobs}.npz"
        with opened_workers(jobs, SHARDS) as workers:
            capture_in_shards(workers, onnxmi.load(place.model), place.samples, OPTIONS, target, silent)
        assert target.read_bytes() == place.expected
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1.npz", "2.npz"]


def test_kills_at_random_moments_change_no_bit(place, tmp_path: Path) -> None:
    """Nothing is lost and nothing counted twice."""
    kills, rng, done = 4, random.Random(1), threading.Event()
    killed: list[int] = []
    with opened_workers(2, SHARDS) as workers:

        def kill() -> None:
            while not done.wait(rng.uniform(0.3, 1.5)) and len(killed) < kills:
                pids = workers.executor.pids
                if pids:
                    killed.append(rng.choice(pids))
                    os.kill(killed[-1], signal.SIGKILL)

        thread = threading.Thread(target=kill)
        thread.start()
        try:
            capture_in_shards(workers, onnxmi.load(place.model), place.samples, OPTIONS, tmp_path / "s.npz", silent)
        finally:
            done.set()
            thread.join()
    assert killed
    assert (tmp_path / "s.npz").read_bytes() == place.expected


def test_what_is_finished_is_kept_and_used(place, tmp_path: Path) -> None:
    class Stops(Exception):  # noqa: N818
        pass

    def stop(_stage: str, done: int, _total: int) -> None:
        if done == 2:
            raise Stops

    target, model = tmp_path / "s.npz", onnxmi.load(place.model)
    with opened_workers(1, SHARDS) as workers, pytest.raises(Stops):
        capture_in_shards(workers, model, place.samples, OPTIONS, target, stop)
    kept = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "s.npz.shards").iterdir()}
    assert {"000000.npz", "000001.npz"} <= kept.keys()
    assert not [name for name in kept if "running" in name]
    after: dict[str, int] = {}

    def look(_stage: str, done: int, total: int) -> None:
        if done == total:
            after.update({path.name: path.stat().st_mtime_ns for path in (tmp_path / "s.npz.shards").iterdir()})

    with opened_workers(1, SHARDS) as workers:
        capture_in_shards(workers, model, place.samples, OPTIONS, target, look)
    assert after["000000.npz"] == kept["000000.npz"]
    assert target.read_bytes() == place.expected


def test_a_full_disk_at_a_worker_is_one_line(place, tmp_path: Path) -> None:
    folder = tmp_path / "s.npz.shards"
    folder.mkdir()
    (folder / "000003.npz").mkdir()  # whatever keeps a worker from writing its shard
    with opened_workers(1, SHARDS) as workers, pytest.raises(onnxmi.DataError, match=r"000003\.npz: cannot be written"):
        capture_in_shards(workers, onnxmi.load(place.model), place.samples, OPTIONS, tmp_path / "s.npz", silent)
    assert not (tmp_path / "s.npz").exists()


def test_a_disk_that_is_really_full_is_one_line(place, tmp_path: Path) -> None:
    """On a file system of 8 KiB, in a name space of its own."""
    alone = ["unshare", "--user", "--map-root-user", "--mount"]
    if shutil.which("unshare") is None or subprocess.run([*alone, "true"], capture_output=True).returncode:
        pytest.skip("this machine allows no name spaces")
    small, target = tmp_path / "small", tmp_path / "s.npz"
    small.mkdir()
    words = ["capture", place.model, place.samples, "--jobs", 2, "--shards", SHARDS, "--shared", small, "-o", target]
    command = shlex.join([sys.executable, "-m", "onnxmi", "-q", *map(str, words)])
    script = f"mount -t tmpfs -o size=8k tmpfs {shlex.quote(str(small))} && exec {command}"
    done = subprocess.run([*alone, "sh", "-c", script], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr.count("\n")) == (3, 1), done.stderr
    assert "cannot be written: No space left on device" in done.stderr
    assert not target.exists()


# -- trials and answers ------------------------------------------------------------------------------------------------


def test_a_sweep_has_the_same_points(place) -> None:
    how = {"by": "macs", "shares": [0.6, 0.4], "threads": 1, "fresh": True, "shards": SHARDS}
    alone = onnxmi.sweep(place.model, place.samples, **how, statistics=None, workers=1)
    curve = onnxmi.sweep(place.model, place.samples, **how, workers=2)
    by_file = onnxmi.sweep(place.model, place.samples, **how, statistics=place.folder / "expected.npz")
    for one, other in zip(alone.points, curve.points, strict=True):
        assert (one.share, one.cost, one.value, one.drop, one.quality) == (
            other.share,
            other.cost,
            other.value,
            other.drop,
            other.quality,
        )
    assert [point.cost for point in by_file.points] == [point.cost for point in curve.points]


def test_a_gate_has_the_same_verdict(place, tmp_path: Path) -> None:
    result = onnxmi.prune(place.model, place.samples, keep=0.6, threads=1, latency=False, force=True)
    result.save(tmp_path / "small.onnx")
    how = {"baseline": place.model, "data": place.samples, "max_drop": "3%", "threads": 1, "batch_size": 17}
    here = onnxmi.check(tmp_path / "small.onnx", **how)
    there = onnxmi.check(tmp_path / "small.onnx", **how, workers=2)
    assert there.verdicts == here.verdicts
    assert [output.readings for output in there.outputs] == [output.readings for output in here.outputs]


def test_pruning_is_the_same_whatever_the_number_of_workers(place) -> None:
    how = {"keep": 0.6, "threads": 1, "latency": False, "force": True, "fresh": True, "shards": SHARDS}
    one, two = (onnxmi.prune(place.model, place.samples, workers=jobs, **how) for jobs in (1, 2))
    assert one.model.SerializeToString() == two.model.SerializeToString()


def test_samples_in_memory_are_refused(place) -> None:
    arrays = dict(onnxmi.load_calibration(place.samples, onnxmi.load(place.model).graph).arrays)
    with pytest.raises(onnxmi.UsageError, match="read the samples from files"):
        onnxmi.collect(place.model, arrays, threads=1, workers=1)
    with pytest.raises(onnxmi.UsageError, match="expected a number, an address"):
        onnxmi.collect(place.model, place.samples, threads=1, workers=1.5)


@pytest.mark.parametrize("quantize", ["none", "dynamic"])
def test_a_search_has_the_same_trials_and_bytes(
    place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quantize: str
) -> None:
    """Curves and whole plans come from workers; times, which differ from run to run, from the first run's plan."""
    how = {
        "max_drop": 0.2,
        "threads": 1,
        "fresh": True,
        "statistics": place.folder / "expected.npz",
        "few_samples": True,
        "quantize": quantize,
    }
    first = onnxmi.prune(place.model, place.samples, output=tmp_path / "first.onnx", **how)
    how["timings"] = tmp_path / "first.plan.json"
    here = onnxmi.prune(place.model, place.samples, **how)
    for name in ("onnxmi.pruning.sizing.measured_curves", "onnxmi.pruning.loss_search.execute_plan"):
        monkeypatch.setattr(name, None)  # nothing of that is done at home
    there = onnxmi.prune(place.model, place.samples, **how, workers=2)
    assert first.trials
    assert there.trials == here.trials
    assert there.model.SerializeToString() == here.model.SerializeToString()
    assert there.plan.to_json() == here.plan.to_json()


def test_workers_read_an_address_by_themselves(place, tmp_path: Path) -> None:
    """The sum is that of the same file at home."""
    pytest.importorskip("fsspec", reason="fsspec is in the extra `remote`")
    samples, target = f"file://{place.samples}", tmp_path / "s.npz"
    with opened_workers(2, SHARDS) as workers:
        capture_in_shards(workers, onnxmi.load(place.model), samples, OPTIONS, target, silent)
    assert target.read_bytes() == place.expected
