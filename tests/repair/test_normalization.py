"""Scales and shifts of normalisations that lost channels."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from onnxmi.information.paired_moments import PairMoments
from tests.support.build import Build


def pairs(seed: int, rows: int, channels: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(3.0, 2.0, size=(rows, channels))
    return x, x * [2.0, -1.0, 0.5][:channels] + [1.0, 0.0, -7.0][:channels] + rng.normal(size=x.shape)


def test_the_fit_is_numpys_line_through_the_points() -> None:
    x, y = pairs(0, 101)
    scale, shift = PairMoments.of(x, y).fit()
    for channel in range(3):
        slope, intercept = np.polyfit(x[:, channel], y[:, channel], 1)
        np.testing.assert_allclose([scale[channel], shift[channel]], [slope, intercept], rtol=1e-9)


def test_without_a_shift_the_line_goes_through_the_origin() -> None:
    x, y = pairs(1, 101)
    scale, shift = PairMoments.of(x, y).fit(shifted=False)
    np.testing.assert_allclose(scale, (x * y).sum(0) / (x * x).sum(0), rtol=1e-9)
    assert not shift.any()


@given(st.integers(1, 100), st.integers(0, 5))
def test_any_split_gives_the_same_moments(cut: int, seed: int) -> None:
    x, y = pairs(seed, 101)
    whole, merged = PairMoments.of(x, y), PairMoments.of(x[:cut], y[:cut]).merge(PairMoments.of(x[cut:], y[cut:]))
    for part in ("mean_x", "mean_y", "xx", "xy", "yy"):
        np.testing.assert_allclose(getattr(merged, part), getattr(whole, part), rtol=1e-9)


def test_the_error_is_the_mean_squared_distance() -> None:
    x, y = pairs(2, 67)
    scale, shift = np.array([1.5, 0.0, 2.0]), np.array([0.0, 1.0, -1.0])
    wanted = np.square(y - x * scale - shift).sum(1).mean()
    np.testing.assert_allclose(PairMoments.of(x, y).error(scale, shift), wanted, rtol=1e-9)


def test_a_channel_that_does_not_vary_keeps_its_scale() -> None:
    x, y = np.full((11, 1), 4.0), np.arange(11.0)[:, None]
    scale, shift = PairMoments.of(x, y).fit()
    assert scale.tolist() == [1.0]
    assert shift.tolist() == [1.0]


def test_cutting_the_width_refits_its_normalisations(bench) -> None:
    b = Build()
    x = b.dense(b.input("N", 5, 7), 7, 29)
    for _ in range(2):
        inner = b.dense(b.op("Relu", b.dense(x, 29, 13)), 13, 29)
        x = b.op("LayerNormalization", b.op("Add", x, inner), b.vector(29), b.vector(29), axis=-1)
    made = bench(b.proto(b.dense(x, 29, 3)))
    width = {layer.id: kept for layer in made.graph.layers if layer.kind == "width" for kept in [made.keep()[layer.id]]}
    repaired = made.stepwise(width)
    refitted = [note for note in repaired.notes if "layernorm" in note.operator and note.used]
    assert len(refitted) == 2
    assert all(note.error_repaired < note.error_plain for note in refitted)
    assert made.error(width, repaired.replacements) < 0.7 * made.error(width)
