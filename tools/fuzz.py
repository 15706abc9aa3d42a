"""Feed the command line damaged files: every outcome has to be a verified result or a refusal in one line.

    python tools/fuzz.py --kind models --cases 10000
    python tools/fuzz.py --kind samples --first 1234 --cases 1 --keep DIR

Half of the cases change what files say (fields of models, arrays and headers of samples, entries of plans), half change
bytes. Each case is made from its number and runs in a process of its own, with a bound on time and memory. A finding is
a crash, an exit code that is not documented for bad input, more than one line on standard error, something written in
spite of a refusal, or a result that does not run. The exit code is 1 if there were findings.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np  # noqa: E402
import onnx  # noqa: E402
import onnxruntime  # noqa: E402

from onnxmi.cli import main as command_line  # noqa: E402
from tests.support.build import Build  # noqa: E402
from tests.support.mutations import damage_arrays, damage_bytes, damage_model, damage_plan  # noqa: E402
from tests.support.random_models import random_model  # noqa: E402

REFUSED = {1, 2, 3}
SAMPLES = 16
HALF = ["--keep", "0.5"]


@dataclass(frozen=True)
class Case:
    """Files to write, and the command to run on them."""

    files: dict[str, bytes]
    args: list[str]


@dataclass(frozen=True)
class Outcome:
    """How a run ended: a word for it, what is wrong with it or "", seconds, MiB."""

    word: str
    finding: str
    seconds: float
    memory: float


# -- cases --


def perceptron() -> onnx.ModelProto:
    b = Build(seed=3)
    flow = b.input("N", 13)
    for fan_in, fan_out in pairwise((13, 15, 9, 7)):
        flow = b.gemm(flow, fan_in, fan_out)
        flow = flow if fan_out == 7 else b.op("Relu", flow)
    return b.proto(flow)


def arrays_for(proto: onnx.ModelProto) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    dims = {value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in proto.graph.input}
    return {name: rng.normal(size=(SAMPLES, *sizes[1:])).astype(np.float32) for name, sizes in dims.items()}


def npz(arrays: dict[str, np.ndarray]) -> bytes:
    with tempfile.TemporaryFile() as stream:
        np.savez(stream, **arrays)
        stream.seek(0)
        return stream.read()


def model_case(rng: random.Random) -> Case:
    proto = perceptron() if rng.random() < 0.3 else random_model(random.Random(rng.randrange(200)), longest=4)
    structured = rng.random() < 0.5
    data = damage_model(rng, proto) if structured else damage_bytes(rng, proto.SerializeToString())
    args = ["inspect", "model.onnx", "--json"] if rng.random() < 0.2 else [*prune_args(), *HALF]
    return Case({"model.onnx": data, "calib.npz": npz(arrays_for(proto))}, args)


def sample_case(rng: random.Random) -> Case:
    proto = perceptron()
    arrays = arrays_for(proto) | {"labels": np.arange(SAMPLES) % 7}
    structured = rng.random() < 0.5
    data = damage_arrays(rng, arrays) if structured else damage_bytes(rng, npz(arrays))
    return Case({"model.onnx": proto.SerializeToString(), "calib.npz": data}, [*prune_args(), *HALF])


def plan_case(rng: random.Random) -> Case:
    proto, text = perceptron(), PLAN
    data = damage_plan(rng, text) if rng.random() < 0.5 else damage_bytes(rng, text.encode())
    files = {"model.onnx": proto.SerializeToString(), "plan.json": data}
    if rng.random() < 0.8:
        return Case(files, ["apply", "model.onnx", "plan.json", "-o", "out.onnx"])
    return Case(files | {"calib.npz": npz(arrays_for(proto))}, [*prune_args(), "--plan", "plan.json"])


def prune_args() -> list[str]:
    return ["prune", "model.onnx", "calib.npz", "-o", "out.onnx", "--threads", "1", "--json"]


KINDS: dict[str, Callable[[random.Random], Case]] = {"models": model_case, "samples": sample_case, "plans": plan_case}
PLAN = ""


def make_plan() -> str:
    """The plan that a run on the perceptron makes; in another process, as no session may live in this one."""
    with tempfile.TemporaryDirectory() as folder:
        proto = perceptron()
        write(Path(folder), Case({"model.onnx": proto.SerializeToString(), "calib.npz": npz(arrays_for(proto))}, []))
        child = os.fork()
        if child == 0:
            run_command(Path(folder), [*prune_args(), *HALF], 8 << 30)
        os.waitpid(child, 0)
        return Path(folder, "out.plan.json").read_text(encoding="utf-8")


# -- running --


def write(folder: Path, case: Case) -> None:
    for name, data in case.files.items():
        (folder / name).write_bytes(data)


def run_command(folder: Path, args: list[str], memory: int) -> None:
    """In a forked process: become the command, with its output in files."""
    code = 99
    try:
        os.chdir(folder)
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.dup2(os.open("../stdout", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 1)
        os.dup2(os.open("../stderr", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
        command_line(args, prog_name="onnxmi")
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 98
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def run_case(folder: Path, case: Case, seconds: float, memory: int) -> Outcome:
    work = folder / "work"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    write(work, case)
    start = time.monotonic()
    child = os.fork()
    if child == 0:
        run_command(work, case.args, memory)
    status, usage, late = wait(child, start + seconds)
    took = time.monotonic() - start
    code = os.waitstatus_to_exitcode(status)
    error = (folder / "stderr").read_text(encoding="utf-8", errors="replace") if (folder / "stderr").exists() else ""
    left = sorted(set(os.listdir(work)) - case.files.keys())
    finding = "took too long" if late else judge(code, error, left, work, case)
    return Outcome(f"exit {code}", finding, took, usage.ru_maxrss / 1024)


def wait(child: int, until: float) -> tuple[int, resource.struct_rusage, bool]:
    pause = 0.002
    while True:
        done, status, usage = os.wait4(child, os.WNOHANG)
        if done:
            return status, usage, False
        if time.monotonic() > until:
            os.kill(child, signal.SIGKILL)
            _, status, usage = os.wait4(child, 0)
            return status, usage, True
        time.sleep(pause)
        pause = min(pause * 1.5, 0.05)


def judge(code: int, error: str, left: list[str], work: Path, case: Case) -> str:
    """Return what is wrong with how a run ended, or ""."""
    if code == 0:
        wanted = [] if case.args[0] == "inspect" else ["out.onnx"]
        return "" if all(name in left for name in wanted) else "nothing was written"
    if code not in REFUSED:
        return f"ended with {code}: {error.strip()[-300:]}"
    if error.count("\n") != 1 or not error.startswith("onnxmi: error: ") or not error.rstrip("\n").isprintable():
        return f"not one line: {error.strip()[-300:]!r}"
    if left:
        return f"refused, and left {left}"
    return ""


def passes_checker(path: Path) -> bool:
    try:
        onnx.checker.check_model(str(path))
    except Exception:
        return False
    return True


def check_result(folder: Path) -> str:
    """Return what is wrong with a result, from a process of its own."""
    child = os.fork()
    if child == 0:
        try:
            if passes_checker(folder / "model.onnx"):
                onnx.checker.check_model(str(folder / "out.onnx"))
            options = onnxruntime.SessionOptions()
            options.log_severity_level = 4
            onnxruntime.InferenceSession(str(folder / "out.onnx"), options, providers=["CPUExecutionProvider"])
            os._exit(0)
        finally:
            os._exit(1)
    status, _, _ = wait(child, time.monotonic() + 30)
    return "" if status == 0 else "the result does not load"


# -- all of them --


def main() -> int:
    global PLAN
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", choices=KINDS, required=True, help="what to damage")
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--seconds", type=float, default=30, help="longest time of a case")
    parser.add_argument("--memory", type=float, default=6, help="most address space of a case, GiB")
    parser.add_argument("--keep", type=Path, help="write the files of findings here")
    args = parser.parse_args()
    os.nice(10)
    memory = int(args.memory * 2**30)
    PLAN = make_plan()
    outcomes, findings, slowest, largest = Counter[str](), 0, 0.0, 0.0
    with tempfile.TemporaryDirectory() as folder:
        for number in range(args.first, args.first + args.cases):
            case = KINDS[args.kind](random.Random(f"{args.kind} {number}"))
            outcome = run_case(Path(folder), case, args.seconds, memory)
            finding = outcome.finding
            if not finding and outcome.word == "exit 0" and case.args[0] != "inspect":
                finding = check_result(Path(folder, "work"))
            outcomes[outcome.word] += 1
            slowest, largest = max(slowest, outcome.seconds), max(largest, outcome.memory)
            if finding:
                findings += 1
                print(f"{number}: {finding}", flush=True)
                if args.keep:
                    shutil.copytree(Path(folder, "work"), args.keep / f"{args.kind}.{number}", dirs_exist_ok=True)
            if number % 1000 == 999:
                print(f"# {number + 1}: {dict(outcomes)}, {findings} findings", flush=True)
    print(
        f"{args.cases:,} cases of {args.kind}: {dict(sorted(outcomes.items()))}, {findings} findings; "
        f"longest {slowest:.1f} s, largest {largest:.0f} MiB"
    )
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
