"""Costs predicted for other sizes against those of models that were cut to them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import onnxmi
from onnxmi.axes.terms import Dim, Product, Sum
from onnxmi.budget.latency_model import keep_first_units, sample_sizes
from onnxmi.budget.size_grid import candidate_sizes
from onnxmi.graph.cost import Cost, cost
from onnxmi.graph.cost_model import CostModel, Piece, byte_pieces, mac_pieces, parameter_pieces
from onnxmi.runtime.probe import run_shapes
from onnxmi.transforms.analysis import Analysis
from onnxmi.transforms.cut import Cut
from onnxmi.transforms.prune_channels import prune_channels

MODELS = Path(__file__).resolve().parents[2] / "models"


def test_a_piece_is_proportional_to_each_of_its_axes() -> None:
    piece = Piece(60.0, (Dim(0, 4), Product((Dim(1, 3), Dim(2, 5)))))
    assert piece.at({0: 1, 1: 2}) == 60.0 * (1 / 4) * (2 * 5) / 15
    assert piece.at({0: np.array([1, 2, 4])}).tolist() == [15.0, 30.0, 60.0]


def test_a_concatenation_adds_its_parts() -> None:
    assert Piece(10.0, (Sum((Dim(0, 4), Dim(1, 6))),)).at({0: 1, 1: 3}) == pytest.approx(4.0)


def test_whole_blocks_are_paid() -> None:
    piece = Piece(40.0, (Dim(0, 64),), block=16)
    assert piece.at({0: np.array([1, 16, 17, 48, 63])}).tolist() == [10.0, 10.0, 20.0, 30.0, 40.0]


def test_pieces_of_the_same_axes_are_one_and_what_no_layer_changes_is_fixed() -> None:
    one, other = Dim(0, 4), Dim(1, 7)
    model = CostModel.of([Piece(1.0, (one,)), Piece(2.0, (one,)), Piece(5.0, (other,))], {0})
    assert (model.fixed, model.pieces) == (5.0, (Piece(3.0, (one,)),))
    assert model.total({0: 2}) == 6.5
    assert model.of_layer(0, np.array([1, 2]), {}).tolist() == [0.75, 1.5]
    assert model.of_layer(9, np.array([1, 2]), {}).tolist() == [0.0, 0.0]


def models_of(analysis: Analysis, feeds: dict[str, np.ndarray], samples: int) -> tuple[CostModel, CostModel, CostModel]:
    graph, layers = analysis.model.graph, [layer.id for layer in analysis.graph.layers]
    shapes = dict(run_shapes(analysis.model.proto, feeds)) | {n: graph.constant_shape(n) for n in graph.constants}
    shapes |= {name: np.shape(value) for name, value in feeds.items()}
    return (
        CostModel.of(parameter_pieces(graph, analysis.graph), layers),
        CostModel.of(byte_pieces(graph, analysis.graph, analysis.model.proto.ByteSize()), layers),
        CostModel.of(mac_pieces(graph, analysis.graph, shapes, samples), layers),
    )


@pytest.mark.parametrize("name", sorted(path.stem for path in MODELS.glob("*.onnx")))
def test_predicted_is_what_a_cut_model_has(name: str) -> None:
    analysis = onnxmi.analyse(MODELS / f"{name}.onnx")
    data = onnxmi.load_calibration(MODELS / f"{name}.calib.npz", analysis.model.graph)
    feeds = data.one_run(np.arange(3), 3)
    parameters, size, macs = models_of(analysis, feeds, 3)
    layers = analysis.graph.layers
    sizes = {layer.id: candidate_sizes(analysis, layer, 1) for layer in layers}
    for draw in sample_sizes(sizes, 5, seed=3):
        cut = prune_channels(Cut(analysis, keep_first_units(layers, draw)))
        found: Cost = cost(cut, feeds, 3)
        assert parameters.total(draw) == pytest.approx(found.parameters, rel=1e-9)
        assert macs.total(draw) == pytest.approx(found.macs, rel=1e-6)
        assert size.total(draw) == pytest.approx(found.size, rel=0.01)
