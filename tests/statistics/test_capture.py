"""Capture: the same statistics whatever the batches and the order, without padding, in one pass or several."""

from __future__ import annotations

import numpy as np
import pytest

from onnxmi.errors import UsageError
from onnxmi.graph.linear import feature_rows, row_count
from onnxmi.graph.padding_mask import padding_masks
from onnxmi.information import Moments
from onnxmi.runtime.session import open_session
from onnxmi.statistics import capture as capturing
from onnxmi.statistics.capture import plan_passes
from onnxmi.statistics.row_sampling import RowSampler
from onnxmi.statistics.shared_inputs import find_linear_inputs, inputs_below_outputs
from onnxmi.statistics.statistics import Statistics
from tests.statistics.conftest import Scene, token_arrays

ALL = range(24)


def assert_alike(left: Statistics, right: Statistics, tolerance: float = 1e-5) -> None:
    assert left.keys == right.keys
    for kind in ("sources", "scores"):
        one, other = getattr(left, kind), getattr(right, kind)
        assert one.keys() == other.keys()
        for key in one:
            assert one[key].count == other[key].count
            scale = max(float(np.abs(one[key].scatter).max()), 1e-12)
            np.testing.assert_allclose(one[key].mean, other[key].mean, atol=tolerance * np.sqrt(scale))
            np.testing.assert_allclose(one[key].scatter, other[key].scatter, atol=tolerance * scale)
    for key, means in left.classes.items():
        np.testing.assert_allclose(means.sums, right.classes[key].sums, rtol=1e-4, atol=1e-4)


@pytest.fixture(params=["tokens", "images"])
def scene(request: pytest.FixtureRequest) -> Scene:
    return request.getfixturevalue(request.param)


# -- what is measured --------------------------------------------------------------------------------------------------


def test_moments_are_those_of_the_rows(scene: Scene) -> None:
    (found,) = scene.measure(ALL)
    analysis = scene.analysis
    masks = padding_masks(analysis.model, analysis.graph, analysis.linears)
    for linear in analysis.linears:
        activation = open_session(analysis.model.proto, taps=linear.taps, threads=1).run(scene.data.feed(np.arange(24)))
        value = activation[linear.taps[0]]
        row_indices = np.arange(row_count(linear, value))
        mask = masks.get(linear.key)
        if mask is not None:
            row_indices = row_indices[scene.data.arrays[mask.name].reshape(-1) != 0]
        wanted = Moments.of(feature_rows(linear, value, row_indices))
        made = found.moments[linear.key]
        assert made.count == wanted.count == len(row_indices)
        np.testing.assert_allclose(made.mean, wanted.mean, atol=1e-5)
        np.testing.assert_allclose(made.covariance, wanted.covariance, atol=1e-4)


def test_what_is_read_alike_is_measured_once(tokens: Scene, images: Scene) -> None:
    (of_tokens,), (of_images,) = tokens.measure(ALL), images.measure(ALL)
    assert (len(of_tokens.keys), len(of_tokens.sources)) == (6, 4)  # queries, keys and values read the same
    assert (len(of_images.keys), len(of_images.sources)) == (5, 4)  # so do the two convolutions of one kernel
    assert all(of_tokens.moments[key] is of_tokens.sources[source] for key, source in of_tokens.keys.items())


def test_top_sources_are_those_below_the_outputs(tokens: Scene, images: Scene) -> None:
    for scene in (tokens, images):
        graph = scene.analysis.model.graph
        sources = find_linear_inputs(scene.analysis.linears, {})
        assert inputs_below_outputs(graph, sources) == {sources[-1].key}


def test_class_means_are_measured_right_below_the_outputs(images: Scene) -> None:
    (found,) = images.measure(ALL)
    (means,) = found.classes.values()
    assert means.count.tolist() == np.bincount(images.data.labels).tolist()
    (key,) = found.classes
    np.testing.assert_allclose(means.sums.sum(axis=0), found.sources[key].mean * 24, rtol=1e-4)


# -- batches, order and sets -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 5, 24, 100])
def test_batches_change_nothing(scene: Scene, size: int) -> None:
    assert_alike(scene.measure(ALL, batch_size=7)[0], scene.measure(ALL, batch_size=size)[0])


def test_the_order_changes_nothing(scene: Scene) -> None:
    assert_alike(scene.measure(ALL)[0], scene.measure(np.random.default_rng(0).permutation(24))[0])


def test_sets_add_up(scene: Scene) -> None:
    parts = scene.measure(range(5), range(5, 6), range(6, 24))
    (whole,) = scene.measure(ALL)
    assert [part.samples for part in parts] == [5, 1, 18]
    assert_alike(parts[0].merge(parts[1]).merge(parts[2]), whole)
    assert_alike(parts[0].merge(parts[1].merge(parts[2])), whole)
    assert_alike(parts[2].merge(parts[0]).merge(parts[1]), whole)


def test_rows_are_drawn_by_content(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ROWS", "PATCHES"):
        monkeypatch.setattr(capturing, name, 30)
    for name in ("ROWS_PER_FEATURE", "PATCHES_PER_FEATURE"):
        monkeypatch.setattr(capturing, name, 0)
    drawn = scene.measure(ALL, batch_size=7)[0]
    assert 10 < drawn.rows[1] < 60
    assert_alike(drawn, scene.measure(np.random.default_rng(0).permutation(24), batch_size=5)[0])
    other = scene.measure(ALL, seed=1)[0]
    assert any(drawn.sources[key].count != other.sources[key].count for key in drawn.sources)


def test_about_as_many_rows_are_drawn_as_are_wanted(images: Scene) -> None:
    linear = images.analysis.linears[1]
    sampler = RowSampler(images.data, np.arange(24), seed=0)
    rows = row_count(linear, np.zeros((24, 8, 9, 7), np.float32))
    from_all = next(iter(batches(images)))
    for wanted in (50, 500):
        assert abs(len(sampler.sample(rows, from_all, None, wanted)) - wanted) < 4 * np.sqrt(wanted)
    assert len(sampler.sample(rows, from_all, None, 10_000)) == 24 * 63


def test_a_batch_may_give_no_row(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ROWS", "PATCHES"):
        monkeypatch.setattr(capturing, name, 3)
    for name in ("ROWS_PER_FEATURE", "PATCHES_PER_FEATURE"):
        monkeypatch.setattr(capturing, name, 0)
    assert scene.measure(ALL, batch_size=1)[0].samples == 24


def batches(scene: Scene):  # type: ignore[no-untyped-def]
    parts = capturing._parts(scene.data, [np.arange(24)], 24, seed=0)
    for _, batch, _ in capturing._batches(scene.data, parts, 24):
        yield batch


# -- padding -----------------------------------------------------------------------------------------------------------


def test_padding_changes_nothing(tokens: Scene) -> None:
    arrays = token_arrays()
    arrays["x"][arrays["attention_mask"] == 0] = 7.5
    assert_alike(tokens.measure(ALL)[0], tokens.with_arrays(arrays).measure(ALL)[0])


def test_more_padding_changes_nothing(tokens: Scene) -> None:
    arrays = token_arrays()
    longer = {
        name: np.pad(arrays[name], [(0, 0), (0, 3), (0, 0)][: arrays[name].ndim]) for name in ("x", "attention_mask")
    }
    assert_alike(tokens.measure(ALL)[0], tokens.with_arrays({**arrays, **longer}).measure(ALL)[0])


def test_the_mask_can_be_named(tokens: Scene) -> None:
    (found,), (named,) = tokens.measure(ALL), tokens.measure(ALL, mask="attention_mask")
    assert_alike(found, named)
    with pytest.raises(UsageError, match="no input 'nonsense' to be the padding mask"):
        tokens.measure(ALL, mask="nonsense")


# -- memory ------------------------------------------------------------------------------------------------------------


def test_passes_hold_what_fits() -> None:
    assert plan_passes([], 10) == []
    assert plan_passes([4, 4, 4], None) == [[0, 1, 2]]
    assert plan_passes([4, 4, 4, 1], 9) == [[0, 1], [2, 3]]
    assert plan_passes([4, 40, 4], 9) == [[0], [1], [2]]
    assert plan_passes([5, 5], 10) == [[0, 1]]


def test_passes_change_nothing(scene: Scene) -> None:
    told: list[tuple[str, int, int]] = []
    (whole,) = scene.measure(ALL)
    options = capturing.CaptureOptions(threads=1, memory=1)
    (parts,) = capturing.capture(scene.analysis, scene.data, [np.arange(24)], options, lambda *step: told.append(step))
    assert_alike(whole, parts, tolerance=0.0)
    assert told[-1][1] == told[-1][2] == 24 * (len(whole.sources) + len(whole.scores))
    assert all(isinstance(moments.scatter, np.memmap) for moments in parts.sources.values())
