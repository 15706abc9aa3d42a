"""Names as people see them: long ones by their ends, all distinct, and numbers that --skip and --only take."""

from __future__ import annotations

import pytest

from onnxmi.errors import UsageError
from onnxmi.graph.layer_filter import Filter, chosen_layers
from onnxmi.graph.layer_names import short_names
from onnxmi.transforms.analysis import analyze

LONG = "StatefulPartitionedCall/model/conv2d_1/Relu"


@pytest.mark.parametrize(
    ("names", "short"),
    [
        (["/a/b/Conv", "fc1"], ["/a/b/Conv", "fc1"]),
        ([LONG], ["model/conv2d_1/Relu"]),
        ([f"{LONG};{LONG}/BiasAdd;{LONG}/Conv2D"], ["model/conv2d_1/Relu"]),
        ([f"{LONG};a", f"{LONG};b"], [f"{LONG};a", f"{LONG};b"]),
        (
            ["transformer/encoder/layer.0/output/dense/MatMul", "transformer/encoder/layer.1/output/dense/MatMul"],
            ["layer.0/output/dense/MatMul", "layer.1/output/dense/MatMul"],
        ),
        (["one/very/long/path/of/parts/to/Conv", "to/Conv"], ["parts/to/Conv", "to/Conv"]),
        (["parts/to/Conv", "one/very/long/path/of/parts/to/Conv"], ["parts/to/Conv", "of/parts/to/Conv"]),
        ([LONG, LONG], ["model/conv2d_1/Relu"]),
        ([";".join(["x" * 40] * 3)], ["x" * 40]),
    ],
)
def test_long_names_are_shown_by_their_ends(names, short):
    assert list(short_names(names).values()) == short


@pytest.fixture
def layers(mlp):
    """Three hidden layers, the second of which is called `1`."""

    def choose(**patterns):
        proto = mlp(sizes=(6, 11, 12, 13, 4))
        proto.graph.node[2].name = "1"
        analysis = analyze(proto)
        return [layer.name for layer in chosen_layers(analysis.model, analysis.graph, Filter(**patterns))[0]]

    return choose


def test_a_number_is_that_of_the_layer_unless_a_name_is(layers):
    assert layers() == ["fc0", "1", "fc2"]
    assert layers(only=("3",)) == ["fc2"]
    assert layers(skip=("2", "3")) == ["fc0"]
    assert layers(only=("1",)) == ["1"]


def test_patterns_do_not_match_numbers_and_numbers_are_exact(layers):
    for pattern in ("[23]", "03", "4", "0"):
        with pytest.raises(UsageError, match="no layer matches"):
            layers(only=(pattern,))
