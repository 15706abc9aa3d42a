"""Figures of docs/scale.md about many workers. One command measures them all, on a machine that does nothing else:

    python tools/bench_workers.py

Parts of it: scaling, overhead, kills, million, tree. Seconds of a busy machine say little: runs to compare are taken in
turn, the load is printed, and quotients are medians over the rounds. `scaling` takes about seven minutes on two cores
that do nothing else.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np

import onnxmi
from onnxmi.data.shards import Shard
from onnxmi.execution import dask_cluster
from onnxmi.execution.choose import Workers
from onnxmi.execution.dask_cluster import DaskExecutor
from onnxmi.execution.dask_local import bring_back, local_client
from onnxmi.execution.executor import Executor, Task, WorkerError, run_all
from onnxmi.execution.processes import ProcessExecutor
from onnxmi.pruning.collect import BY_DEFAULT
from onnxmi.pruning.parallel_capture import capture_in_shards, measure_shard, shared_inputs
from onnxmi.typing import silent

ROOT = Path(__file__).resolve().parent.parent
MODEL, CALIB = ROOT / "models" / "digits-resnet.onnx", ROOT / "models" / "digits-resnet.calib.npz"
SMALL, SMALL_CALIB = ROOT / "models" / "digits-mlp.onnx", ROOT / "models" / "digits-mlp.calib.npz"
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
SHARDS = 64
POINTS = 50  # of a sweep


# -- commands ----------------------------------------------------------------------------------------------------------


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "onnxmi", *map(str, arguments), "--threads", "1", "-q"]


def as_installed(folder: Path) -> None:
    """Let what is measured start as pip installs it: compiled, whatever this environment and checkout say."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["PYTHONPYCACHEPREFIX"] = str(folder / "compiled")
    for who in (["--jobs", 1], ["--dask", "local:1"]):
        seconds(command("capture", SMALL, SMALL_CALIB, "--shards", 2, "-o", folder / "first.npz", *who))
        shares = ["--by", "macs", "--at", "0.5", "--fresh"]
        seconds(command("sweep", SMALL, SMALL_CALIB, *shares, *who))


def seconds(command: Sequence[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, env={**os.environ, **ONE_THREAD}, check=True)
    return time.perf_counter() - start


@contextmanager
def samples_of(calib: Path, count: int, files: int, folder: Path) -> Iterator[Path]:
    """Write so many noisy copies of bundled samples as several files."""
    rng = np.random.default_rng(0)
    with np.load(calib) as archive:
        ((name, base),) = ((key, archive[key]) for key in archive.files if key != "labels")
    place = folder / f"samples-{count}"
    place.mkdir()
    for number in range(files):
        own = base[rng.integers(0, len(base), count // files)]
        noise = rng.normal(0, 0.05, own.shape).astype(np.float32)
        np.savez(place / f"{number:05d}.npz", **{name: own + noise})
    yield place
    shutil.rmtree(place)


# -- scaling and overhead ----------------------------------------------------------------------------------------------


Spent = tuple[float, float]  # seconds by the clock, and of processors


def in_turn(runs: dict[str, Callable[[], Spent]], rounds: int) -> dict[str, list[Spent]]:
    spent: dict[str, list[Spent]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            spent[name].append(run())
            wall, cpu = spent[name][-1]
            print(f"  {name}: {wall:.1f} s, {cpu:.1f} CPU s, load {os.getloadavg()[0]:.1f}", flush=True)
    return spent


def compared(title: str, runs: dict[str, Callable[[], Spent]], rounds: int) -> None:
    """Print each run beside the first one: medians, and the median of the quotients of one round."""
    print(
        f"{title}\n| run | s | times as fast | CPU s | times the CPU s |\n| --- | --: | --: | --: | --: |", flush=True
    )
    spent = in_turn(runs, rounds)
    first = spent[next(iter(spent))]
    for name, own in spent.items():
        walls, cpus = zip(*own, strict=True)
        faster = statistics.median(one[0] / other[0] for one, other in zip(first, own, strict=True))
        more = statistics.median(other[1] / one[1] for one, other in zip(first, own, strict=True))
        median = statistics.median(walls), statistics.median(cpus)
        print(f"| {name} | {median[0]:.1f} | {faster:.2f} | {median[1]:.1f} | {more:.2f} |", flush=True)


def spent(command: Sequence[str]) -> Spent:
    before, wall = os.times(), seconds(command)
    after = os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return wall, used


def cpu_of_all(pid: int) -> float:
    """Processor time of a process and of all that it has started and that are alive, s."""
    ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    own = (int(ticks[11]) + int(ticks[12])) / os.sysconf("SC_CLK_TCK")
    return own + sum(cpu_of_all(child) for child in children(pid))


def scaling(folder: Path, rounds: int, count: int) -> None:
    """One worker of one thread, and two, on so much work that starting them is a small part of it."""
    with samples_of(CALIB, count, SHARDS, folder) as samples:
        out = folder / "s.npz"

        def capture(*who: object) -> Callable[[], Spent]:
            return lambda: spent(command("capture", MODEL, samples, "--shards", SHARDS, "-o", out, *who))

        runs = {
            "1 process": capture("--jobs", 1),
            "2 processes": capture("--jobs", 2),
            "1 worker of Dask": capture("--dask", "local:1"),
            "2 workers of Dask": capture("--dask", "local:2"),
        }
        compared(f"capture of digits-resnet, {count:,} samples in {SHARDS} shards", runs, rounds)

    def sweep(*who: object) -> Callable[[], Spent]:
        shares = ",".join(f"{0.95 - 0.015 * number:.3f}" for number in range(POINTS))
        points = ["--by", "macs", "--at", shares, "--fresh", "--statistics", stats]
        return lambda: spent(command("sweep", MODEL, CALIB, *points, *who))

    stats = folder / "stats.npz"
    seconds(command("capture", MODEL, CALIB, "-o", stats))
    runs = {
        "1 process": sweep("--jobs", 1),
        "2 processes": sweep("--jobs", 2),
        "2 workers of Dask": sweep("--dask", "local:2"),
    }
    compared(f"sweep of digits-resnet, {POINTS} points, statistics given", runs, rounds)


def overhead(folder: Path, rounds: int, count: int) -> None:
    """Tasks of one warm worker: through Dask, and through a pipe."""
    with samples_of(CALIB, count, 16, folder) as samples:
        inputs = shared_inputs(onnxmi.load(MODEL), samples, onnxmi.PruneOptions(threads=1))
        marker = folder / "marker"
        marker.touch()

        def run(executor: Executor) -> Callable[[], Spent]:
            def timed() -> Spent:
                for path in folder.glob("o-*.npz"):
                    path.unlink()
                targets = [str(folder / f"o-{number}.npz") for number in range(16)]
                calls = [(inputs, Shard(n, 16), path, str(marker), BY_DEFAULT) for n, path in enumerate(targets)]
                tasks = [Task("measure shards", measure_shard, call) for call in calls]
                start, cpu = time.perf_counter(), cpu_of_all(os.getpid())
                run_all(executor, tasks, silent)
                return time.perf_counter() - start, cpu_of_all(os.getpid()) - cpu

            timed()  # warm: imports, and the first session
            return timed

        with local_client(1) as client, ProcessExecutor(1) as processes:
            compared(
                f"one warm worker, {count:,} samples in 16 shards",
                {"a process": run(processes), "Dask": run(DaskExecutor(client))},
                rounds,
            )


# -- kills -------------------------------------------------------------------------------------------------------------


def kills(folder: Path, times: int, only: str = "") -> None:
    """Kill workers at random moments, so many times, and compare every sum bit for bit with an undisturbed one."""
    shards = 100
    dask_cluster.SECONDS_WITHOUT_WORKERS = 200.0
    with samples_of(SMALL_CALIB, shards * 1000, shards, folder) as samples:
        expected = disturbed(folder, samples, shards, ProcessExecutor(2), lambda: [], 0)[1]
        for name, opened in (("processes", killed_processes), ("Dask", killed_dask)):
            if only not in name:
                continue
            done = rounds = equal = 0
            while done < times:
                with opened(times) as (executor, pids):
                    killed, total = disturbed(folder, samples, shards, executor, pids, times - done)
                done += killed
                if not total:  # all workers were given up: the next round goes on from what is finished
                    continue
                rounds, equal = rounds + 1, equal + (total == expected)
                print(f"  {name}: {done} kills, {equal} of {rounds} sums are equal", flush=True)
            print(f"| {name} | {done} | {rounds} | {equal} |", flush=True)


def disturbed(
    folder: Path, samples: Path, shards: int, executor: Executor, pids: Callable[[], list[int]], most: int
) -> tuple[int, bytes]:
    """Measure and add up while workers die, one in four seconds on average; return how many did, and the sum.

    The sum is empty where nobody was left to measure.
    """
    rng, done, killed = random.Random(), threading.Event(), list[int]()

    def kill() -> None:
        while len(killed) < most and not done.wait(rng.uniform(0, 8)):
            alive = pids()
            if alive:
                killed.append(rng.choice(alive))
                os.kill(killed[-1], signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        target = folder / "kills.npz"
        with executor if isinstance(executor, ProcessExecutor) else nullcontext():
            workers, options = Workers(executor, shards, local=True), onnxmi.PruneOptions(threads=1)
            capture_in_shards(workers, onnxmi.load(SMALL), samples, options, target, silent)
    except WorkerError as error:
        print(f"  {error}", flush=True)
        return len(killed), b""
    finally:
        done.set()
        thread.join()
    return len(killed), target.read_bytes()


@contextmanager
def killed_processes(tries: int) -> Iterator[tuple[Executor, Callable[[], list[int]]]]:
    executor = ProcessExecutor(2, tries=tries)
    yield executor, lambda: executor.pids


@contextmanager
def killed_dask(tries: int) -> Iterator[tuple[Executor, Callable[[], list[int]]]]:
    with local_client(2) as client:

        def pids() -> list[int]:
            return [pid for pid in client.run(os.getpid, on_error="return").values() if isinstance(pid, int)]

        yield DaskExecutor(client, tries=tries, tend=bring_back), pids


# -- a million samples -------------------------------------------------------------------------------------------------


def resident(pid: int) -> int:
    """Largest memory of a process and of its children, in bytes, without what several of them share."""
    total = 0
    for one in (pid, *children(pid)):
        try:
            text = Path(f"/proc/{one}/smaps_rollup").read_text()
        except OSError:
            continue
        total = max(total, 1024 * sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:")))
    return total


def children(pid: int) -> list[int]:
    found = []
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            try:
                if int((path / "stat").read_text().rpartition(")")[2].split()[1]) == pid:
                    found.append(int(path.name))
            except OSError:
                continue
    return found


def million(folder: Path, shards: int, each: int) -> None:
    """Kill the whole run with SIGKILL in the middle, start it again, and look at memory all the time."""
    with samples_of(SMALL_CALIB, shards * each, shards, folder) as samples:
        target = folder / "million.npz"
        capture = command("capture", SMALL, samples, "--shards", shards, "--jobs", 2, "-o", target)
        parts = folder / "million.npz.shards"
        print(f"{shards * each:,} samples in {shards:,} shards, digits-mlp, 2 processes")
        watched(capture, lambda: len(list(parts.glob("0*.npz"))) >= shards // 2, parts)
        print(f"killed with {len(list(parts.glob('0*.npz'))):,} shards finished", flush=True)
        watched(capture, lambda: False, parts)
        print(f"sum of {target.stat().st_size:,} bytes")


def watched(command: Sequence[str], enough: Callable[[], bool], parts: Path) -> None:
    start, peaks = time.perf_counter(), list[tuple[int, int]]()
    with subprocess.Popen(command, env={**os.environ, **ONE_THREAD}) as process:
        while process.poll() is None:
            finished = len(list(parts.glob("0*.npz")))
            peaks.append((finished, resident(process.pid)))
            if enough():
                process.send_signal(signal.SIGKILL)
                break
            time.sleep(2)
    if process.returncode not in (0, -signal.SIGKILL):
        raise SystemExit(f"failed with {process.returncode}")
    quarter = max(len(peaks) // 4, 1)
    first, last = (max(size for _, size in part) / 2**20 for part in (peaks[:quarter], peaks[-quarter:]))
    print(
        f"| {peaks[0][0]:,} to {peaks[-1][0]:,} finished | {time.perf_counter() - start:.0f} s | largest process"
        f" {first:.0f} MiB in the first quarter, {last:.0f} MiB in the last | load {os.getloadavg()[0]:.1f} |",
        flush=True,
    )


# -- the tree on paper -------------------------------------------------------------------------------------------------


def tree(workers: int, shards: int, sizes_mib: Sequence[float], shared_gib_s: float, link_gib_s: float) -> None:
    """Simulate adding up the shards' files, layer by layer, by workers that read them from shared storage.

    Every block of 32 MiB is a task, which reads its term of all shards one after the other. A worker reads as fast as
    its link, and all together as fast as the storage. Beside it: a binary tree over shards, whose partial sums are
    written and read again.
    """
    block = 32.0
    blocks = [min(block, size - at) for size in sizes_mib for at in np.arange(0, size, block)]
    total = sum(sizes_mib) * shards / 1024
    free = [0.0] * workers
    rate = min(link_gib_s, shared_gib_s / min(workers, len(blocks)))
    for size in sorted(blocks, reverse=True):
        place = int(np.argmin(free))
        free[place] += size * shards / 1024 / rate
    flat = max(free)
    depth = int(np.ceil(np.log2(shards)))
    moved = 3 * total  # each of n - 1 sums reads two terms and writes one
    pairs = [max(shards >> (level + 1), 1) * len(blocks) for level in range(depth)]
    mean = sum(blocks) / len(blocks) / 1024
    by_tree = sum(
        max(1.0, count / workers) * 3 * mean / min(link_gib_s, shared_gib_s / min(workers, count)) for count in pairs
    )
    print(
        f"| {workers:,} | {shards:,} | {sum(sizes_mib) / 1024:.3g} | {total:,.1f} | {len(blocks):,} | {flat:,.1f} |"
        f" {moved:,.0f} | {len(blocks) * (shards - 1):,} | {by_tree:,.1f} |"
    )


def trees() -> None:
    print("| workers | shards | sum, GiB | read, GiB | tasks | s | tree: moved, GiB | tasks | s |")
    small = [0.5] * 2 + [0.03]
    decoder = [32.0, 32.0, 32.0, 32.0, 242.0] * 22 + [128.0] * 22  # 1.1 billion parameters: 14 GiB
    for workers, shards in ((2, 16), (32, 128), (1000, 1000), (1000, 10_000)):
        for sizes in (small, decoder):
            tree(workers, shards, sizes, shared_gib_s=20.0, link_gib_s=1.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", default=["scaling", "overhead", "kills", "million", "tree"])
    parser.add_argument("--rounds", type=int, default=1, help="of scaling; the overhead takes five times as many")
    parser.add_argument("--samples", type=int, default=640_000, help="of scaling; the overhead takes a tenth")
    parser.add_argument("--shards", type=int, default=1000)
    parser.add_argument("--each", type=int, default=1000, help="samples of a shard of the million")
    parser.add_argument("--only", default="", help="kills: processes or Dask")
    parser.add_argument("--at", help="a folder with some GB")
    given = parser.parse_args()
    print(f"{os.cpu_count()} cores, load {', '.join(f'{load:.1f}' for load in os.getloadavg())}")
    with tempfile.TemporaryDirectory(dir=given.at) as name:
        folder = Path(name)
        parts: dict[str, Callable[[], None]] = {
            "scaling": lambda: scaling(folder, given.rounds, given.samples),
            "overhead": lambda: overhead(folder, 5 * given.rounds, given.samples // 10),
            "kills": lambda: kills(folder, 50, given.only),
            "million": lambda: million(folder, given.shards, given.each),
            "tree": trees,
        }
        if set(given.parts) & {"scaling", "overhead"}:
            as_installed(folder)
        for part in given.parts:
            parts[part]()


if __name__ == "__main__":
    main()
