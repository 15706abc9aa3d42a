"""Targets: which targets a layer is scored against, and with which moments."""

from __future__ import annotations

import numpy as np
import pytest

from onnxmi.axes.keeping import Keeping, Kept
from onnxmi.budget.size_grid import uniform
from onnxmi.selection.targets import Targets
from onnxmi.selection.top_down import SelectOptions, select_channels
from tests.statistics.conftest import Scene, image_arrays, image_model, scene_of

COUNT = 24


@pytest.fixture(scope="module")
def scene() -> Scene:
    return scene_of(image_model(), image_arrays(COUNT))


@pytest.fixture(scope="module")
def targets(scene: Scene) -> Targets:
    (found,) = scene.measure(range(COUNT))
    return Targets.of(scene.analysis, found, labels=False)


def test_operators_that_read_the_same_make_one_target(scene: Scene, targets: Targets) -> None:
    first, _ = scene.analysis.graph.layers
    made = targets(first, Keeping())
    assert [(c.covariance.shape, c.weights.shape) for c in made] == [((72, 72), (72, 12)), ((8, 8), (8, 6))]
    assert made[0].units.tolist() == np.repeat(np.arange(8), 9).tolist()


def test_only_what_is_kept_above_is_a_target(scene: Scene, targets: Targets) -> None:
    first, second = scene.analysis.graph.layers
    made = targets(first, Keeping({second.id: Kept(np.array([1, 4]))}))
    whole = targets(first, Keeping())
    assert [c.weights.shape[1] for c in made] == [4, 2]
    np.testing.assert_array_equal(made[0].weights, whole[0].weights[:, [1, 4, 7, 10]])


def test_labels_are_a_target_right_below_the_outputs_alone(scene: Scene) -> None:
    (found,) = scene.measure(range(COUNT))
    analysis = scene.analysis
    told = Targets.of(analysis, found, labels=True)
    plain = Targets.of(analysis, found, labels=False)
    first, second = analysis.graph.layers
    assert told(second, Keeping())[0].weights.shape == (6, 4)
    assert not np.allclose(told(second, Keeping())[0].weights, plain(second, Keeping())[0].weights)
    for one, other in zip(told(first, Keeping()), plain(first, Keeping()), strict=True):
        np.testing.assert_array_equal(one.weights, other.weights)


def test_a_unit_that_alone_tells_the_class_is_kept_for_the_labels() -> None:
    """The classifier hardly reads the unit that tells the class: only the labels say what it is worth."""
    rng = np.random.default_rng(0)
    arrays = image_arrays(200)
    labels = rng.integers(0, 2, size=200)
    arrays["labels"] = labels
    scene = scene_of(image_model(), arrays)
    (found,) = scene.measure(range(200))
    (key,) = found.classes
    means = found.classes[key]
    means.sums[:] = 0.0
    means.sums[0, :, 3], means.sums[1, :, 3] = -50.0, 50.0
    analysis = scene.analysis
    layers = analysis.graph.layers[1:]
    choices = [
        select_channels(
            analysis,
            found,
            uniform(layers, 1 / 6),
            SelectOptions(target=target),
        )
        for target in ("labels", "outputs")
    ]
    assert choices[0][0].kept.tolist() == [3]
    assert choices[1][0].gains[0] != choices[0][0].gains[0]
