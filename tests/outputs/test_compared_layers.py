"""Layers that no compared tensor depends on."""

from __future__ import annotations

import numpy as np

from onnxmi.outputs.compared_layers import layers_not_compared
from onnxmi.transforms.analysis import analyze, find_meaning
from tests.support.build import Build


def test_layers_behind_a_size_that_depends_on_values_are_unseen() -> None:
    """A first stage says how many rows there are; a second one works on them."""
    b = Build()
    hidden = b.op("Relu", b.gemm(b.input("N", 7), 7, 13))
    first = b.gemm(hidden, 13, 5)
    some = b.op("Compress", first, b.op("Greater", b.reshape(first, -1), b.const(np.float32(0))), axis=0)
    second = b.op("Relu", b.gemm(some, 5, 17))
    found = analyze(b.proto(b.gemm(second, 17, 3)))
    meaning = find_meaning(found)
    assert meaning.tensors == (first,)
    layers = {layer.size: layer for layer in found.graph.layers}
    assert layers[13] not in layers_not_compared(found.model.graph, found.graph, meaning)
    assert layers[17] in layers_not_compared(found.model.graph, found.graph, meaning)


def test_every_layer_of_a_plain_network_is_seen() -> None:
    b = Build()
    hidden = b.op("Relu", b.gemm(b.input("N", 7), 7, 13))
    found = analyze(b.proto(b.op("Softmax", b.gemm(hidden, 13, 5))))
    assert found.graph.layers
    assert layers_not_compared(found.model.graph, found.graph, find_meaning(found)) == ()
