"""Kill `onnxmi prune` at random moments, and look at what it leaves: the old files, whole new ones, or nothing.

    python tools/kill.py --model models/digits-mlp.onnx --calib models/digits-mlp.calib.npz --times 200

Each run gets SIGKILL, SIGTERM or SIGINT at a moment drawn over the time a run takes. Then the output has to be the old
file or the new one, byte by byte (the same options give the same bytes), its plan has to be there with it or not at
all, and SIGINT and SIGTERM must have ended the run with the exit code and in the time promised. After a last run that
is left alone, no temporary file may be there. The exit code is 1 if anything was wrong.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
CODES = {signal.SIGKILL: {-9}, signal.SIGTERM: {143, -15}, signal.SIGINT: {130}}
PATIENCE = 2.0  # seconds from SIGINT or SIGTERM to the end; tools like this one may look at the clock, tests may not


@dataclass(frozen=True)
class Run:
    """A folder, and the command that is killed in it."""

    folder: Path
    command: list[str]

    def start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            self.command,
            cwd=self.folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )

    def files(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.folder.iterdir() if path.is_file()}


def judge(run: Run, old: dict[str, bytes], new: dict[str, bytes]) -> str:
    """Return what is wrong with the files, or ""."""
    files = run.files()
    if set(files) - set(new):
        return f"files that nobody asked for: {sorted(set(files) - set(new))}"
    for name, data in files.items():
        if data not in (old.get(name), new[name]):
            return f"{name} is neither the old file nor the new one"
    if all(files.get(name) == data for name, data in old.items()) and set(files) == set(old):
        return ""
    return "" if all(files[name] == new[name] for name in files) else "new files stand beside old ones"


def reached(error: bytes) -> bool:
    """Whether Python had got to the first line of this project; what pip puts in place to find it comes before."""
    return b"onnxmi: " in error or f"{os.sep}onnxmi{os.sep}".encode() in error


def strike(run: Run, number: signal.Signals, moment: float) -> tuple[str, str]:
    """Kill one run; return how it ended, and what is wrong with that."""
    process = run.start()
    try:
        _, error = process.communicate(timeout=moment)
        return "had ended", "" if process.returncode == 0 else f"failed: {error.decode()[-300:]}"
    except subprocess.TimeoutExpired:
        pass
    process.send_signal(number)
    sent = time.monotonic()
    _, error = process.communicate()
    took = time.monotonic() - sent
    if process.returncode == 0:
        return "ended in time", ""
    if number == signal.SIGINT and process.returncode != 130 and not reached(error):
        return "SIGINT while Python started", ""
    if process.returncode not in CODES[number]:
        return number.name, f"exit code {process.returncode} after {moment:.3f} s: {error.decode()[-300:]}"
    if took > PATIENCE:
        return number.name, f"took {took:.1f} s to end"
    if number == signal.SIGINT and error != b"onnxmi: error: interrupted\n":
        return number.name, f"said {error.decode()[-300:]!r}"
    return number.name, ""


def duration(run: Run) -> float:
    start = time.monotonic()
    assert run.start().wait() == 0
    return time.monotonic() - start


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--calib", type=Path, required=True)
    parser.add_argument("--times", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--writing", action="store_true", help="aim at the last fifth of a run")
    args = parser.parse_args()
    os.nice(10)
    rng, ends, wrong = random.Random(args.seed), Counter[str](), 0
    with tempfile.TemporaryDirectory() as name:
        command = [sys.executable, "-m", "onnxmi", "prune", str(args.model.resolve()), str(args.calib.resolve())]
        run = Run(Path(name), [*command, "-o", "out.onnx", "--overwrite", "--threads", "1", "--keep", "0.5"])
        old_run = Run(run.folder, [*run.command, "--keep", "0.3"])
        assert old_run.start().wait() == 0
        old = run.files()
        length, new = min(duration(run) for _ in range(3)), run.files()
        for turn in range(args.times):
            for path in run.folder.iterdir():
                if path.is_file():
                    path.unlink()
            before = old if turn % 2 else {}
            for path, data in before.items():
                (run.folder / path).write_bytes(data)
            number = rng.choice(SIGNALS)
            first = 0.8 if args.writing else 0.0
            ended, trouble = strike(run, number, length * rng.uniform(first, 1.05))
            trouble = trouble or judge(run, before, new)
            ends[ended] += 1
            if trouble:
                wrong += 1
                print(f"{turn}: {ended}: {trouble}", flush=True)
        assert run.start().wait() == 0
        left = [path.name for path in run.folder.iterdir() if path.name not in new]
        if left or run.files() != new:
            wrong += 1
            print(f"after the last run: {left}")
    print(f"{args.times} runs of {length:.1f} s: {dict(sorted(ends.items()))}, {wrong} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
