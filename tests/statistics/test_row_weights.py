"""What rows of an operator's results count: against closed forms, and what it changes in a repair."""

from __future__ import annotations

import numpy as np
import onnx

from onnxmi.axes.keeping import Keeping
from onnxmi.data.calibration import Calibration
from onnxmi.data.sources import as_calibration
from onnxmi.repair import RepairSamples, repair_stepwise
from onnxmi.statistics import output_sensitivity, row_weights
from onnxmi.statistics.capture import CaptureOptions
from onnxmi.statistics.row_sampling import Batch, RowSampler
from onnxmi.statistics.row_weights import HEAVIEST, SHARE, RowSquares, RowWeights
from onnxmi.statistics.way_back import WayBack
from onnxmi.transforms.analysis import Analysis, analyze
from onnxmi.transforms.cut import Cut
from onnxmi.transforms.prune_channels import prune_channels
from tests.support.build import Build
from tests.support.measure import yardstick_of
from tests.support.oracle import Case, keep_first, run

GATE = np.array([0.5, -1.0, 0.0, 2.0, 0.25], np.float32)
N, WIDTH = 61, 7


def gated(gate: np.ndarray = GATE, hidden: int = 6) -> onnx.ModelProto:
    """Positions of a sample count in the output as much as a stored gate says."""
    b = Build(seed=2)
    below = b.op("MatMul", b.input("N", len(gate), WIDTH), b.weight(WIDTH, hidden), name="below")
    above = b.op("MatMul", b.op("Tanh", below), b.weight(hidden, 5), name="above")
    last = b.op("MatMul", above, b.weight(5, 1), name="last")
    return b.proto(b.op("Mul", last, b.const(gate[:, None])))


def samples_of(proto: onnx.ModelProto, count: int = N) -> tuple[Analysis, Calibration]:
    analysis = analyze(proto)
    shape = (count, analysis.model.graph.inputs[0].dims[1], WIDTH)
    x = np.random.default_rng(4).normal(size=shape).astype(np.float32)
    return analysis, as_calibration({"x": x}, analysis.model)


def weighted(analysis: Analysis, data: Calibration, fit: int = 41, **options: int) -> RepairSamples:
    samples = RepairSamples(
        data, np.arange(fit), np.arange(fit, data.count), CaptureOptions(batch_size=13, threads=1, **options)
    )
    return samples.weighted(WayBack.of(analysis, data, yardstick_of(analysis, data), samples.options))


def test_weights_follow_the_squared_gradient() -> None:
    analysis, data = samples_of(gated())
    samples = weighted(analysis, data)
    above = next(linear for linear in analysis.linears if linear.label == "above")
    batch, _ = next(samples.batches())
    expected = (1 - SHARE) + SHARE * GATE.astype(np.float64) ** 2 / np.mean(GATE.astype(np.float64) ** 2)
    weights = samples.weights.of(above, batch, batch.fed * 5)
    assert weights is not None
    np.testing.assert_allclose(weights.reshape(-1, 5), np.tile(expected, (batch.count, 1)), rtol=2e-3)


def test_one_row_does_not_outweigh_all_others_by_luck() -> None:
    gate = np.full(211, 0.01, np.float32)
    gate[100] = 1.0
    analysis, data = samples_of(gated(gate))
    samples = weighted(analysis, data)
    batch, _ = next(samples.batches())
    weights = samples.weights.of(analysis.linears[1], batch, batch.fed * 211)
    assert weights is not None
    assert abs(weights.mean() - 1.0) < 1e-2
    assert SHARE * HEAVIEST < weights.max() < SHARE * HEAVIEST + 1.0


def test_weights_do_not_depend_on_batches_or_memory() -> None:
    analysis, data = samples_of(gated())
    whole, parts = weighted(analysis, data), weighted(analysis, data, memory=1)
    for linear in analysis.linears:
        for batch, _ in whole.batches():
            one, other = (samples.weights.of(linear, batch, batch.fed * 5) for samples in (whole, parts))
            assert one is not None
            assert other is not None
            np.testing.assert_allclose(one, other, rtol=2e-3)


def test_rows_of_samples_that_were_not_measured_count_as_the_mean_one(monkeypatch) -> None:
    monkeypatch.setattr(output_sensitivity, "SAMPLES", 20)
    analysis, data = samples_of(gated())
    samples = weighted(analysis, data)
    above = analysis.linears[1]
    assert 5 < len(samples.weights.by_operator[above.key]) < 40
    rows = [samples.weights.of(above, batch, batch.fed * 5) for batch, _ in samples.batches()]
    assert any((weights.reshape(-1, 5) == 1.0).all(1).any() for weights in rows if weights is not None)


def test_weights_take_no_more_room_than_there_is(monkeypatch) -> None:
    analysis, data = samples_of(gated())
    samples, above = weighted(analysis, data, memory=1), analysis.linears[1]
    whole = len(samples.weights.by_operator[above.key])
    monkeypatch.setattr(row_weights, "MOST_BYTES", whole * len(analysis.linears) * 5 * 4 // 3)
    fewer = len(weighted(analysis, data, memory=1).weights.by_operator[above.key])
    assert 0 < fewer < 0.6 * whole


def test_what_another_stage_found_on_the_way_gives_the_same_weights_to_the_last_bit() -> None:
    """What a run finds with a cache, and workers by themselves, must be what a run without them finds."""
    analysis, data = samples_of(gated())
    options = CaptureOptions(batch_size=13, threads=1)
    fit, validation = np.arange(41), np.arange(41, N)
    way = WayBack.of(analysis, data, yardstick_of(analysis, data), options)
    drawn = output_sensitivity.drawn_samples(analysis.model.graph, data, fit, options.seed)
    squares = RowSquares(analysis, options.seed)
    squares.add_all(way, way.batches(drawn), len(drawn))
    squares.complete = True
    samples = RepairSamples(data, fit, validation, options)
    shared, own = samples.weighted(way, squares), weighted(analysis, data)
    for linear in analysis.linears:
        one, other = (of.weights.by_operator[linear.key] for of in (shared, own))
        assert one.keys() == other.keys()
        assert all(np.array_equal(one[sample], other[sample]) for sample in one)


def test_rows_that_are_gone_and_operators_without_gradient_have_no_weights() -> None:
    analysis, data = samples_of(gated())
    samples = weighted(analysis, data)
    batch, _ = next(samples.batches())
    assert samples.weights.of(analysis.linears[1], batch, batch.fed * 4) is None
    assert RowWeights().of(analysis.linears[1], batch, batch.fed * 5) is None


def test_rows_are_drawn_as_often_as_their_weights_say() -> None:
    _, data = samples_of(gated())
    sampler = RowSampler(data, np.arange(N), seed=0)
    feeds = next(data.batches(np.arange(N), N))[1]
    batch = Batch.of(data, np.arange(N), feeds)
    weights = np.tile([0.2, 0.4, 0.4, 3.0, 1.0], N)
    for wanted, most in ((N * 5 // 2, 0.5), (10**6, 4.0)):
        rows = sampler.sample(N * 5, batch, None, wanted, weights=weights)
        times = np.bincount(rows, minlength=N * 5).reshape(N, 5).mean(0)
        assert (np.diff(rows) >= 0).all()
        np.testing.assert_allclose(times, most * weights[:5], atol=4 * np.sqrt(0.25 / N))
    alike = sampler.sample(N * 5, batch, None, N * 2, weights=np.ones(N * 5))
    np.testing.assert_array_equal(alike, sampler.sample(N * 5, batch, None, N * 2))


def test_a_repair_is_right_where_the_outputs_feel_it() -> None:
    gate = np.full(23, 0.02, np.float32)
    gate[7] = 1.0
    proto = gated(gate, hidden=16)
    case = Case.of(proto)
    shift = np.zeros((1, 23, 1), np.float32)
    shift[:, 7] = 1.5  # the position that counts reads other inputs than the rest
    x = np.random.default_rng(5).normal(size=(261, 23, WIDTH)).astype(np.float32) + shift
    data = as_calibration({"x": x}, case.model)
    (layer,) = (layer for layer in case.graph.layers if layer.size == 16)
    cut = case.cut_of(Keeping({layer.id: keep_first(layer, 7)}))
    options = CaptureOptions(batch_size=32, threads=1)
    samples = RepairSamples(data, np.arange(131), np.arange(131, 161), options)
    way = WayBack.of(case.analysis, data, yardstick_of(case.analysis, data), options)
    alike, by_gradient = (error(cut, repairing, x[161:]) for repairing in (samples, samples.weighted(way)))
    assert by_gradient < 0.7 * alike


def error(cut: Cut, samples: RepairSamples, x: np.ndarray) -> float:
    """Mean squared error of the outputs on samples that nothing was fitted to."""
    made = prune_channels(cut, repair_stepwise(cut, samples).replacements)
    before, after = (run(proto, {"x": x})[0].astype(np.float64) for proto in (cut.model.proto, made))
    return float(np.mean((after - before) ** 2))
