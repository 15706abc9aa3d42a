"""onnxmi against other tools at the same number of parameters left."""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx

from onnxmi.graph.cost import cost
from onnxmi.pruning.pipeline import prune
from onnxmi.runtime.session import open_session
from trials.cases import CUTS, Case, sizes
from trials.records import Records, Row
from trials.rival_worker import nearest_ratio, parameters

WORKER = Path(__file__).with_name("rival_worker.py")
RIVALS = (("onnxsim", "l2"), ("onnxsim", "wanda"), ("torch-pruning", "group l2"))
WIDTH = ("torch-pruning", "group l2, residual width")  # where the width is not cut unless that is asked for
OURS = ("onnxmi --params", "onnxmi --macs", "onnxmi, every layer alike", "onnxmi, every layer alike, no repair")


class Contest:
    """The rows of one model."""

    def __init__(self, case: Case, records: Records, python: Path) -> None:
        self._case, self._records, self._python = case, records, python

    def run(self, shares: Sequence[float]) -> None:
        rivals = (*RIVALS, WIDTH) if self._case.name in CUTS else RIVALS
        for share in shares:
            for tool in OURS:
                key = self._key(tool, share)
                self._records.ensure(key, lambda k=key: self._ours(k))
            for rival, score in rivals:
                key = self._key(f"{rival}, {score}", share)
                self._records.ensure(key, lambda k=key: self._theirs(k))

    def _key(self, tool: str, share: float) -> Row:
        return {"model": self._case.name, "tool": tool, "share": share, "samples": self._case.samples}

    def _ours(self, key: Row) -> Row:
        options = {"seed": 0, "threads": 1, "latency": False, "cut": self._case.options(0).cut}
        options["repair"] = not key["tool"].endswith("no repair")
        budget = key["tool"].partition("--")[2] or "keep"  # the share is of the MACs where these are asked for
        amount = self._keep(key["share"]) if budget == "keep" else key["share"]
        start = time.perf_counter()
        result = self._pruned(options | {budget: amount})
        return {"cut_seconds": time.perf_counter() - start} | self._judged(result)

    def _pruned(self, options: Row) -> onnx.ModelProto:
        from onnxmi import PruneOptions

        return prune(self._case.file("onnx"), self._case.file("calib.npz"), PruneOptions(**options)).proto

    def _keep(self, share: float) -> float:
        """The share of every layer that leaves this share of the parameters."""
        before = parameters(self._case.model.proto)

        def left(ratio: float) -> float:
            options = {"keep": 1 - ratio, "score": "magnitude", "repair": False, "latency": False, "threads": 1}
            return parameters(self._pruned(options | {"cut": self._case.options(0).cut})) / before

        return 1 - nearest_ratio(left, share)

    def _theirs(self, key: Row) -> Row:
        rival, _, score = key["tool"].partition(", ")
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder) / "cut.onnx"
            files = [str(path) for path in (self._case.file("onnx"), self._case.file("calib.npz"), target)]
            command = [str(self._python), str(WORKER), rival, score, *files, str(key["share"])]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                return {"failed": (done.stderr.strip().splitlines() or ["?"])[-1][:200]}
            return json.loads(done.stdout.splitlines()[-1]) | self._judged(onnx.load(str(target)))

    def _judged(self, proto: onnx.ModelProto) -> Row:
        sound = faults(self._case.model.proto, proto, self._case)
        row: Row = {"faults": sound, "share_left": parameters(proto) / parameters(self._case.model.proto)}
        if any(fault.startswith("onnxruntime") for fault in sound):
            return row
        judge = self._case.judge
        one = judge.data.one_run(np.arange(1))
        work = [cost(model, one).macs for model in (proto, self._case.model.proto)]
        return row | {"macs": work[0] / work[1]} | judge.quality(proto) | judge.latency(proto) | sizes(proto)


def faults(source: onnx.ModelProto, made: onnx.ModelProto, case: Case) -> list[str]:
    """What is wrong with a file: for the checker, for onnxruntime at two batch sizes, with its inputs and outputs."""
    found = []
    try:
        onnx.checker.check_model(made, full_check=True)
    except Exception as error:  # the checker raises many types
        found.append(f"checker: {str(error).strip().splitlines()[0][:120]}")
    try:
        session = open_session(made, threads=1)
        for count in (1, 3):
            session.run(case.judge.data.feed(np.arange(count)))
    except Exception as error:
        found.append(f"onnxruntime: {str(error)[:120]}")
    names = [[i.name for i in (*m.graph.input, *m.graph.output)] for m in (source, made)]
    if names[0] != names[1]:
        found.append("inputs or outputs renamed")
    return found
