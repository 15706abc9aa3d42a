"""Models with bodies: If, Loop and Scan around what a test builds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from tests.support.build import Build

Given = str | Sequence[str]
Typed = tuple[str, type]


def body(b: Build, make: Callable[..., Given], *inputs: Typed, inside: bool = True) -> onnx.GraphProto:
    """A graph of what `make` builds from its inputs; what it stores is inside, or in the graph around it."""
    before, stored, b.nodes = b.nodes, set(b.initializers), []
    names = [b.name(stem) for stem, _ in inputs]
    given = make(*names)
    nodes, b.nodes = b.nodes, before
    values = [
        helper.make_tensor_value_info(
            name, helper.np_dtype_to_tensor_dtype(np.dtype(kind)), [] if stem in ("iteration", "going") else None
        )
        for name, (stem, kind) in zip(names, inputs, strict=True)
    ]
    own = [name for name in b.initializers if name not in stored] if inside else []
    tensors = [numpy_helper.from_array(b.initializers.pop(name), name) for name in own]
    outputs = [onnx.ValueInfoProto(name=name) for name in ([given] if isinstance(given, str) else given)]
    return helper.make_graph(nodes, b.name("body"), values, outputs, tensors)


def branch(b: Build, condition: str, then: Callable[[], Given], otherwise: Callable[[], Given], **how: Any) -> Any:
    """An If."""
    graphs = {"then_branch": body(b, then, **how), "else_branch": body(b, otherwise, **how)}
    return b.op("If", condition, outputs=len(graphs["then_branch"].output), **graphs)


def loop(b: Build, times: int, step: Callable[..., Given], *states: str, kinds: Sequence[type] = (), **how: Any) -> Any:
    """A Loop that runs so often; `step` gets the iteration and the states, and gives the states and what is stacked."""
    inputs = [
        ("iteration", np.int64),
        ("going", np.bool_),
        *(("state", kind) for kind in kinds or [np.float32] * len(states)),
    ]

    def whole(iteration: str, going: str, *inner: str) -> list[str]:
        given = step(iteration, *inner)
        return [b.op("Identity", going), *([given] if isinstance(given, str) else given)]

    graph = body(b, whole, *inputs, **how)
    count, going = b.const(np.array(times)), b.const(np.array(True))
    return b.op("Loop", count, going, *states, body=graph, outputs=len(graph.output) - 1)


def scan(b: Build, step: Callable[..., Given], states: Sequence[str], read: Sequence[str], **attrs: Any) -> Any:
    """A Scan over matrices; `step` gets states and slices of the inputs, and gives states and what is stacked."""
    inside = attrs.pop("inside", True)
    graph = body(b, step, *[("state", np.float32)] * len(states), *[("slice", np.float32)] * len(read), inside=inside)
    for value in graph.output:  # onnxruntime wants to know how many axes there are
        value.CopyFrom(helper.make_tensor_value_info(value.name, onnx.TensorProto.FLOAT, [None] * 2))
    return b.op("Scan", *states, *read, body=graph, num_scan_inputs=len(read), outputs=len(graph.output), **attrs)
