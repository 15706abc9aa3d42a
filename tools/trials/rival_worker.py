"""One cut by a rival, in an environment that has it: what it is asked for as JSON in the arguments, its answer as JSON.

Run by tools/rivals.py. A rival knows a ratio of channels only, so the ratio whose result has the number of parameters
that was asked for is searched for; the time is that of one cut.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx

STEPS = 8  # of the bisection
BATCH = 32


def parameters(proto: onnx.ModelProto) -> int:
    floats = (t for t in proto.graph.initializer if t.data_type == onnx.TensorProto.FLOAT)
    return sum(int(np.prod(t.dims)) for t in floats)


def by_onnxsim(source: Path, calibration: Path, target: Path, ratio: float, score: str) -> None:
    from onnxsim import pruning

    proto = onnx.load(str(source))
    if score == "l2":
        made = pruning.apply_structured_pruning(proto, sparsity=ratio)
    else:
        samples = _batches(proto, calibration)
        made = pruning.apply_structured_wanda_pruning(proto, samples, num_samples=len(samples), sparsity=ratio)
    onnx.save(made, str(target))


def by_torch_pruning(source: Path, calibration: Path, target: Path, ratio: float, score: str) -> None:
    import torch
    import torch_pruning

    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    from trials.twin import Twin

    proto = onnx.load(str(source))
    twin = Twin(proto)
    names = [info.name for info in proto.graph.input]
    example = tuple(torch.from_numpy(np.load(calibration)[name][:2]) for name in names)
    last = [module for module in twin.modules() if isinstance(module, torch.nn.Linear)][-1]
    importance = torch_pruning.importance.GroupMagnitudeImportance(p=2)
    pruner = torch_pruning.pruner.BasePruner(
        twin, example, importance=importance, pruning_ratio=ratio, ignored_layers=[last]
    )
    pruner.step()
    outputs = [info.name for info in proto.graph.output]
    axes = {name: {0: "batch"} for name in (*names, *outputs)}
    settings = {"input_names": names, "output_names": outputs, "dynamic_axes": axes, "opset_version": 17}
    torch.onnx.export(twin.eval(), example, str(target), dynamo=False, **settings)


RIVALS: Mapping[str, Callable[[Path, Path, Path, float, str], None]] = {
    "onnxsim": by_onnxsim,
    "torch-pruning": by_torch_pruning,
}


def _batches(proto: onnx.ModelProto, calibration: Path) -> list[dict[str, Any]]:
    stored = np.load(calibration)
    arrays = {info.name: stored[info.name] for info in proto.graph.input}
    count = len(next(iter(arrays.values())))
    return [{n: a[i : i + BATCH] for n, a in arrays.items()} for i in range(0, count, BATCH)]


def nearest_ratio(share_at: Callable[[float], float], wanted: float) -> float:
    """The ratio of channels to cut at which the share of parameters left is nearest to the one wanted."""
    low, high = 0.0, 0.98
    tried: dict[float, float] = {}
    for _ in range(STEPS):
        middle = (low + high) / 2
        tried[middle] = share_at(middle)
        low, high = (middle, high) if tried[middle] > wanted else (low, middle)
    return min(tried, key=lambda ratio: abs(tried[ratio] - wanted))


def main() -> None:
    rival, score, source, calibration, target, share = sys.argv[1:]
    files = Path(source), Path(calibration), Path(target)
    before = parameters(onnx.load(source))

    def share_at(ratio: float) -> float:
        RIVALS[rival](*files, ratio, score)
        return parameters(onnx.load(target)) / before

    ratio = nearest_ratio(share_at, float(share))
    start = time.perf_counter()
    share_at(ratio)
    print(json.dumps({"ratio": ratio, "cut_seconds": time.perf_counter() - start}))


if __name__ == "__main__":
    main()
