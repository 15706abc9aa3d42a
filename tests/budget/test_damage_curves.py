"""Damage of layers that are cut alone, against running the whole cut model."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import onnx
import pytest

import onnxmi
from onnxmi.budget.damage_curves import DamageCurve, measure_damage_curves
from onnxmi.budget.size_grid import candidate_sizes
from onnxmi.evaluation.damage_reference import DamageReference
from onnxmi.pruning.options import PruneOptions
from onnxmi.pruning.session import session_statistics, start_session
from onnxmi.runtime.session import open_session
from onnxmi.selection.top_down import SelectOptions, rank_channels
from onnxmi.transforms.cut import Cut
from onnxmi.transforms.prune_channels import prune_channels
from onnxmi.typing import silent


def test_between_the_sizes_damage_falls_geometrically() -> None:
    curve = DamageCurve(np.array([0, 4, 8]), np.array([1.0, 0.01, 0.0]))
    assert curve.at(np.array([0, 2, 4])).tolist() == pytest.approx([1.0, 0.1, 0.01])
    assert 0.0 < curve.at(np.array([7]))[0] < 0.01
    assert curve.at(np.array([8])).tolist() == [0.0]


def run(proto: onnx.ModelProto, batches) -> np.ndarray:
    session = open_session(proto, threads=1)
    return np.concatenate([session.run(feeds)[session.outputs[0]] for feeds in batches]).astype(np.float64)


@pytest.mark.parametrize("name", ["digits-mlp", "digits-resnet"])
def test_damage_is_that_of_the_whole_cut_model(bundled, name: str) -> None:
    model = onnxmi.load(bundled / f"{name}.onnx")
    study = start_session(model, bundled / f"{name}.calib.npz", PruneOptions(threads=1))
    measured = session_statistics(study, None, silent, selects=True)
    rankings = rank_channels(study.analysis, measured.fit, study.layers, SelectOptions())
    sizes = {layer.id: candidate_sizes(study.analysis, layer, 8) for layer in study.layers}
    batches = list(study.data.batches(study.split.fit[:41], 32))
    ruler = DamageReference.of(model, study.outputs.yardstick, batches, (), 1)
    curves = dict(measure_damage_curves(study.analysis, rankings, sizes, None, ruler, 1))
    whole, spread = run(model.proto, ruler.feeds), study.outputs.yardstick.scales[0].spread
    for layer in study.layers:
        curve = curves[layer.id]
        assert set(curve.sizes.tolist()) <= set(sizes[layer.id].tolist())
        assert curve.damage[-1] == 0.0
        assert (np.diff(curve.damage) <= 0.0).all()
        largest = int(curve.sizes[-2])  # below others the largest damage so far may stand
        cut = run(prune_channels(Cut(study.analysis, rankings[layer.id].keeping(largest))), ruler.feeds)
        assert curve.damage[-2] == pytest.approx((np.square(cut - whole) / spread).mean(), rel=1e-3)


def test_rankings_are_nested_and_ragged_ones_part_by_part(bundled) -> None:
    model = onnxmi.load(bundled / "digits-mlp.onnx")
    study = start_session(model, bundled / "digits-mlp.calib.npz", PruneOptions(threads=1))
    measured = session_statistics(study, None, silent, selects=True)
    rankings = rank_channels(study.analysis, measured.fit, study.layers, SelectOptions())
    for layer in study.layers:
        kept = [set(rankings[layer.id].kept(count).indices.tolist()) for count in (0, 3, 7, layer.size)]
        assert [len(found) for found in kept] == [0, 3, 7, layer.size]
        assert all(less <= more for less, more in pairwise(kept))
