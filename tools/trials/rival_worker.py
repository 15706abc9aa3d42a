"""One cut by a rival, in an environment that has it: what it is asked for as JSON in the arguments, its answer as JSON.

Run by tools/rivals.py. A rival knows a ratio of channels only, so the ratio whose result has the number of parameters
that was asked for is searched for; the time is that of one cut.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.machinery import SourceFileLoader
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
    import torch_pruning

    proto = onnx.load(str(source))
    names = [info.name for info in proto.graph.input]
    example = _example(calibration, names)
    code = source.with_name(f"{source.stem.replace('-', '_')}_torch.py")
    module, settings = _of_code(code, names, score) if code.exists() else _of_twin(proto)
    importance = torch_pruning.importance.GroupMagnitudeImportance(p=2)
    torch_pruning.pruner.BasePruner(
        module, example, importance=importance, pruning_ratio=ratio, head_pruning_ratio=ratio, **settings
    ).step()
    _export(module, example, proto, target)


def _example(calibration: Path, names: Sequence[str]) -> tuple[Any, ...]:
    import torch

    with np.load(calibration) as stored:
        return tuple(torch.from_numpy(stored[name][:2]) for name in names)


def _of_twin(proto: onnx.ModelProto) -> tuple[Any, dict[str, Any]]:
    """The graph as torch modules, and what is not to be cut."""
    import torch

    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    from trials.twin import Twin

    twin = Twin(proto)
    return twin, {"ignored_layers": [m for m in twin.modules() if isinstance(m, torch.nn.Linear)][-1:]}


def _of_code(path: Path, names: Sequence[str], score: str) -> tuple[Any, dict[str, Any]]:
    """A text encoder of transformers, and what Torch-Pruning has to be told of it: heads, and what is not to be cut."""
    import torch

    class Logits(torch.nn.Module):
        def __init__(self, model: Any) -> None:
            super().__init__()
            self.model = model

        def forward(self, *inputs: Any) -> Any:
            return self.model(**dict(zip(names, inputs, strict=True))).logits

    model = SourceFileLoader(path.stem, str(path)).load_module().load()
    layers = model.bert.encoder.layer
    attentions = [layer.attention.self for layer in layers]
    heads = {part: a.num_attention_heads for a in attentions for part in (a.query, a.key, a.value)}
    kept = [model.classifier]
    if not score.endswith("width"):  # what puts out the residual stream
        tables = [m for m in model.bert.embeddings.modules() if isinstance(m, torch.nn.Embedding)]
        kept += [*tables, model.bert.pooler.dense]
        kept += [part.dense for layer in layers for part in (layer.attention.output, layer.output)]
    told = {"ignored_layers": kept, "num_heads": heads, "prune_num_heads": True, "prune_head_dims": False}
    return Logits(model), told


def _export(module: Any, example: tuple[Any, ...], like: onnx.ModelProto, target: Path) -> None:
    """Write a file with the same inputs, outputs and free sizes."""
    import torch

    infos = [*like.graph.input, *like.graph.output]
    free = {i.name: {k: d.dim_param for k, d in enumerate(i.type.tensor_type.shape.dim) if d.dim_param} for i in infos}
    names = [[i.name for i in part] for part in (like.graph.input, like.graph.output)]
    settings = {"input_names": names[0], "output_names": names[1], "dynamic_axes": free, "opset_version": 17}
    torch.onnx.export(module.eval(), example, str(target), dynamo=False, **settings)


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
