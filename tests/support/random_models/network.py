"""A whole random network: the model, what is fed to it, and what its outputs are."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import helper

from tests.support.random_models.maker import Fed, Made, Maker


@dataclass(frozen=True, eq=False)
class Network:
    """A model with its inputs and outputs, and the steps that it was made of.

    `batch` is the number of samples in a run, where the model fixes it.
    """

    proto: onnx.ModelProto
    feeds: tuple[Fed, ...]
    outputs: tuple[Made, ...]
    steps: frozenset[str]
    batch: int | None

    @classmethod
    def of(cls, m: Maker) -> Network:
        outputs = list({made.name: made for made in m.outputs}.values())
        proto = m.b.proto(*(made.type or made.name for made in outputs), value_info=m.flag(), untyped=True)
        for made in outputs:
            if made.called:
                _rename(proto, made.name, made.called)
        fill_types(proto, m)
        return cls(
            proto,
            tuple(m.feeds),
            tuple(Made(made.called or made.name, made.columns) for made in outputs),
            frozenset(m.used),
            m.batch if isinstance(m.batch, int) else None,
        )

    def samples(self, count: int, seed: int) -> dict[str, NDArray[Any]]:
        """Arrays by input; `seed` draws other samples of the same distribution."""
        return {fed.name: _draw(fed, count, seed) for fed in self.feeds}


def _draw(fed: Fed, count: int, seed: int) -> NDArray[Any]:
    own = zlib.crc32(fed.name.encode())
    rng, fixed = np.random.default_rng([own, seed]), np.random.default_rng(own)
    if fed.how == "ids":
        return rng.integers(0, fed.most, size=(count, *fed.dims))
    if fed.how == "mask":
        lengths = rng.integers(1, fed.dims[0] + 1, size=(count, 1))
        return (np.arange(fed.dims[0]) < lengths).astype(np.int64)
    size = prod(fed.dims)
    few = max(2, size // 3)  # what is behind the numbers, so that there is something to leave out
    behind = rng.normal(size=(count, few)) @ fixed.normal(size=(few, size)) / np.sqrt(few)
    made = 0.9 * behind + 0.4 * rng.normal(size=(count, size))
    return made.reshape(count, *fed.dims).astype(np.float32)


def fill_types(proto: onnx.ModelProto, m: Maker) -> None:
    """Outputs of operators that onnx does not know have the types that onnxruntime gives them, and their ranks."""
    count = m.batch if isinstance(m.batch, int) else 2
    feeds = {fed.name: _draw(fed, count, 0) for fed in m.feeds}
    missing = [info for info in proto.graph.output if not _typed(info)]
    if not missing:
        return
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL  # it breaks some graphs
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    for info, value in zip(missing, session.run([info.name for info in missing], feeds), strict=True):
        if isinstance(value, list):
            info.CopyFrom(helper.make_tensor_sequence_value_info(info.name, onnx.TensorProto.FLOAT, None))
        else:
            kind = helper.np_dtype_to_tensor_dtype(value.dtype)
            info.CopyFrom(helper.make_tensor_value_info(info.name, kind, [None] * value.ndim))


def _typed(info: onnx.ValueInfoProto) -> bool:
    kind = info.type.WhichOneof("value")
    return kind is not None and (kind != "tensor_type" or info.type.tensor_type.HasField("shape"))


def _rename(proto: onnx.ModelProto, old: str, new: str) -> None:
    for node in proto.graph.node:
        for names in (node.input, node.output):
            names[:] = [new if name == old else name for name in names]
    for info in (*proto.graph.output, *proto.graph.value_info):
        info.name = new if info.name == old else info.name
