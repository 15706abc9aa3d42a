"""What a result is held against that no code of the package under test makes: nothing of it is imported here.

A plain cut leaves some numbers of the stored tensors out. So the original with those numbers at zero has to give the
same outputs, on any number of samples. Random numbers occur once, which is what this rests on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import numpy_helper

from tests.support.random_models.network import Network

Array = NDArray[np.generic]
Feeds = dict[str, Array]

SAME = 2e-4  # of the largest number of an output: sums in another order
LOST = 0.95  # error over the variance: as bad as a constant
STILL = 1e-3  # spread over size: a column that hardly moves has nothing to lose
MANY = 100  # columns of plain numbers: of more, one by itself may be lost
SHARE = 0.01  # of the variance of all probabilities: a class of less carries nothing that docs/outputs.md promises

# Where a number may be set to zero: what it is multiplied with or added to, never what something is divided by.
_READERS = frozenset(
    {"Add", "Constant", "Conv", "ConvTranspose", "Einsum", "Expand", "GRU", "Gather", "Gemm", "Identity", "LSTM"}
    | {"MatMul", "Mul", "RNN", "Slice", "Sub", "Transpose"}
    | {"Attention", "BiasGelu", "FastGelu", "FusedConv", "FusedGemm", "FusedMatMul"}
)


def run(proto: onnx.ModelProto, feeds: Feeds) -> list[Array]:
    """Outputs in order, without onnxruntime's optimizer."""
    return list(_session(proto).run(None, feeds))


def run_all(network: Network, proto: onnx.ModelProto, feeds: Feeds) -> list[Array]:
    """Outputs in order, of as many runs as a fixed batch needs; of those that cannot be joined, the first run's."""
    if network.batch is None:
        return run(proto, feeds)
    session, size = _session(proto), network.batch
    starts = range(0, len(next(iter(feeds.values()))) - size + 1, size)
    parts = [session.run(None, {name: one[at : at + size] for name, one in feeds.items()}) for at in starts]
    return [np.concatenate(one) if _join(one) else one[0] for one in zip(*parts, strict=True)]


def _session(proto: onnx.ModelProto) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    return onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _join(parts: tuple[Array, ...]) -> bool:
    return len({one.shape[1:] if isinstance(one, np.ndarray) and one.ndim else id(one) for one in parts}) == 1


# -- plain cuts -------------------------------------------------------------------------------------------------------


def judgeable(proto: onnx.ModelProto) -> bool:
    """Whether what was left out can be told by its numbers: not where weights are rounded or read twice."""
    rounded = any("quantize" in node.op_type.lower() for node in _nodes(proto.graph))
    half = any(one.data_type == onnx.TensorProto.FLOAT16 for one in proto.graph.initializer)
    return not rounded and not half and not shared(proto, 2) and not _stored_twice(proto)


def _stored_twice(proto: onnx.ModelProto) -> bool:
    """Whether two matrices hold the same numbers, as a weight and its transpose do that an optimizer worked out."""
    matrices = [numpy_helper.to_array(one).ravel() for _, one in _stored(proto) if len(one.dims) > 1]
    digests = Counter(np.sort(one).tobytes() for one in matrices if np.unique(one).size > 2)
    return max(digests.values(), default=0) > 1


def shared(proto: onnx.ModelProto, rank: int) -> bool:
    """Whether any stored tensor of so many axes is read twice: one reader's numbers may stay where the other's went."""
    names = {name for name, one in _stored(proto) if min(len(one.dims), 2) == rank}
    uses = Counter(name for node in _nodes(proto.graph) for name in node.input if name in names)
    return max(uses.values(), default=0) > 1


def masked(original: onnx.ModelProto, cut: onnx.ModelProto) -> onnx.ModelProto:
    """The original with zeros for the numbers that the cut model has not."""
    kept = np.concatenate([np.zeros(1), *(numpy_helper.to_array(one).ravel() for _, one in _stored(cut))])
    made = onnx.ModelProto()
    made.CopyFrom(original)
    readers = _readers(made)
    for name, tensor in _stored(made):
        values = numpy_helper.to_array(tensor)
        if values.size > 1 and readers.get(name, set()) <= _READERS:
            zeroed = np.where(np.isin(values, kept), values, 0).astype(values.dtype)
            tensor.CopyFrom(numpy_helper.from_array(zeroed, tensor.name))
    return made


def _stored(proto: onnx.ModelProto) -> Iterator[tuple[str, onnx.TensorProto]]:
    """Float tensors by name, those of Constant nodes too."""
    tensors = [(one.name, one) for graph in _graphs(proto.graph) for one in graph.initializer]
    for node in _nodes(proto.graph):
        if node.op_type == "Constant":
            tensors += [(node.output[0], one.t) for one in node.attribute if one.name == "value"]
    return ((name, one) for name, one in tensors if one.data_type == onnx.TensorProto.FLOAT)


def _readers(proto: onnx.ModelProto) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for node in _nodes(proto.graph):
        for name in node.input:
            found.setdefault(name, set()).add(node.op_type)
    return found


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """The graph, and those inside its nodes."""
    yield graph
    for attribute in (attribute for node in graph.node for attribute in node.attribute):
        if attribute.HasField("g"):
            yield from _graphs(attribute.g)


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    return (node for one in _graphs(graph) for node in one.node)


def difference(wanted: list[Any], got: list[Any]) -> float:
    """The largest of any output, relative to its largest number; infinite where shapes or labels differ."""
    return max((_apart(a, b) for a, b in zip(wanted, got, strict=True)), default=0.0)


def _apart(a: Any, b: Any) -> float:
    if isinstance(a, list):  # a sequence of tensors, or of maps from classes to numbers
        return difference(a, b)
    first, second = (np.array(list(one.values())) if isinstance(one, dict) else one for one in (a, b))
    if first.shape != second.shape:
        return np.inf
    if first.dtype.kind != "f":
        return 0.0 if np.array_equal(first, second) else np.inf
    gap = np.abs(first.astype(np.float64) - second.astype(np.float64)).max(initial=0.0)
    return float(gap / max(np.abs(first).max(initial=0.0), 1e-2))


# -- results ----------------------------------------------------------------------------------------------------------


def lost_columns(network: Network, wanted: list[Array], got: list[Array]) -> dict[str, float]:
    """Columns of outputs that a constant would tell as well: output and column -> error over the variance."""
    found = {}
    for made, original, cut in zip(network.outputs, wanted, got, strict=True):
        if made.columns is None:
            continue
        was, now = (np.moveaxis(one, made.columns, -1).astype(np.float64) for one in (original, cut))
        was, now = was.reshape(-1, was.shape[-1]), now.reshape(-1, now.shape[-1])
        variance, error = was.var(0), np.square(was - now).mean(0)
        if was.shape[1] > MANY and not _chances(was):
            continue  # docs/outputs.md promises nothing of one among so many plain numbers
        moves = variance > np.square(STILL * np.abs(was).max(0, initial=1e-6))
        if _chances(was):
            moves &= variance > SHARE * variance.sum()
        for column in np.flatnonzero(moves & (error >= LOST * variance)):
            found[f"{made.name}[{column}]"] = float(error[column] / variance[column])
    return found


def _chances(rows: Array) -> bool:
    """Whether rows are probabilities."""
    return bool((rows >= 0).all() and np.allclose(rows.sum(1), 1.0, atol=1e-3))
