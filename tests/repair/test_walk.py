"""The model that the step-by-step repair walks through is the model that it writes."""

from __future__ import annotations

import random

import numpy as np
import onnx
import pytest

from onnxmi.axes.keeping import Keeping, Kept
from onnxmi.repair import stepwise
from onnxmi.runtime.session import open_session
from onnxmi.runtime.stepper import Stepper
from onnxmi.transforms.prune_channels import prune_channels
from tests.support.build import Build
from tests.support.random_models import random_model


def deep_cnn() -> onnx.ModelProto:
    """Pointwise and depthwise convolutions in turn."""
    b = Build(seed=7)
    x, wide = b.input("N", 3, 7, 5), 3
    for width in (11, 13, 17, 11, 13):
        x = b.op("HardSwish", b.conv(x, wide, width, (1, 1)))
        x, wide = b.op("HardSwish", b.conv(x, width, width, group=width, pads=[1, 1, 1, 1])), width
    return b.proto(b.gemm(b.op("Flatten", b.op("GlobalAveragePool", x)), wide, 5))


def with_constant_nodes(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Hold every weight in a Constant node, as Paddle's exporter does."""
    made = onnx.ModelProto()
    made.CopyFrom(proto)
    nodes = [onnx.helper.make_node("Constant", [], [held.name], value=held) for held in made.graph.initializer]
    del made.graph.initializer[:]
    nodes.extend(made.graph.node)
    del made.graph.node[:]
    made.graph.node.extend(nodes)
    return made


def test_weights_in_constant_nodes_are_repaired_alike(bench) -> None:
    plain, held = bench(deep_cnn()), bench(with_constant_nodes(deep_cnn()))
    errors = [made.error(made.keep(0.5), made.stepwise(made.keep(0.5)).replacements) for made in (plain, held)]
    assert errors[0] == pytest.approx(errors[1], rel=1e-6)
    assert errors[1] < plain.error(plain.keep(0.5))


@pytest.fixture
def walked(monkeypatch) -> list[Stepper]:
    """The cut model of every walk."""
    found: list[Stepper] = []

    class Watched(Stepper):
        def __init__(self, *given) -> None:
            super().__init__(*given)
            self.fed = [dict(feeds) for feeds in given[1]]
            found.append(self)

    monkeypatch.setattr(stepwise, "Stepper", Watched)
    return found


@pytest.mark.parametrize("held", [False, True], ids=["initializers", "Constant nodes"])
@pytest.mark.parametrize("seed", range(12))
def test_the_walk_ends_where_the_written_model_does(bench, walked: list[Stepper], seed: int, held: bool) -> None:
    proto = random_model(random.Random(seed))
    made = bench(with_constant_nodes(proto) if held else proto, samples=41)
    made.fit, made.validation = np.arange(29), np.arange(29, 41)
    keeping = Keeping(
        {
            layer.id: Kept(np.tile(kept, (layer.parts, 1)) if layer.outer_atom else kept, layer.outer_atom)
            for layer in made.graph.layers
            if (kept := np.arange(0, layer.size, 2)).size < layer.size
        }
    )
    repaired = made.stepwise(keeping)
    session = open_session(prune_channels(made.cut(keeping), repaired.replacements), threads=1)
    (cut,) = walked
    for feeds, seen in zip(cut.fed, list(cut.to(session.outputs)), strict=True):
        for name, wanted in session.run(feeds).items():
            scale = float(np.abs(wanted).max()) or 1.0
            np.testing.assert_allclose(seen[name] / scale, wanted / scale, atol=2e-4)
