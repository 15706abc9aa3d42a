"""Query and key dimensions: the closed form of their shares in the scores against every pair, and what is chosen."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from onnxmi.axes.keeping import Keeping
from onnxmi.budget.size_grid import uniform
from onnxmi.graph.padding_mask import mask_inputs
from onnxmi.runtime.session import open_session
from onnxmi.selection.scores import SCORERS
from onnxmi.selection.targets import Targets
from onnxmi.selection.top_down import SelectOptions, select_channels, unscored
from onnxmi.statistics.attention_scores import ScoreProduct, find_score_products
from onnxmi.statistics.capture import CaptureOptions, capture
from onnxmi.statistics.row_sampling import Batch
from tests.statistics.conftest import DIMS, HEADS, Scene, scene_of, token_arrays, token_model

COUNT = 24


@pytest.fixture(scope="module", params=[True, False], ids=["softmax", "no softmax"])
def scene(request: pytest.FixtureRequest) -> Scene:
    return scene_of(token_model(softmax=request.param), token_arrays(COUNT))


def product_of(scene: Scene) -> ScoreProduct:
    analysis = scene.analysis
    masks = mask_inputs(analysis.model, analysis.graph)
    products = find_score_products(analysis.model.graph, analysis.graph, masks)
    return next(product for product in products if product.term.size == DIMS)


def tapped(scene: Scene, product: ScoreProduct) -> tuple[np.ndarray, np.ndarray]:
    session = open_session(scene.analysis.model.proto, taps=product.taps, threads=1)
    values = session.run(scene.data.feed(np.arange(COUNT)))
    return values[product.taps[0]].astype(np.float64), values[product.taps[1]].astype(np.float64)


def test_the_closed_form_is_the_mean_over_all_pairs(scene: Scene) -> None:
    product = product_of(scene)
    assert product.masks == ("attention_mask", "attention_mask")
    queries, keys = tapped(scene, product)
    mask = scene.data.arrays["attention_mask"] != 0
    wanted, count = np.zeros((HEADS, DIMS, DIMS)), 0
    for sample in range(COUNT):
        seen = np.flatnonzero(mask[sample])
        for head in range(HEADS):
            q, k = queries[sample, head][seen], keys[sample, head][:, seen].T
            shares = q[:, None, :] * k[None, :, :]  # (queries, keys, dimensions)
            if product.softmax:
                shares = shares - shares.mean(axis=1, keepdims=True)
            wanted[head] += np.einsum("ijd,ije->de", shares, shares) / len(seen)
        count += len(seen)
    (found,) = scene.measure(range(COUNT))
    made = found.scores[product.key]
    assert made.count == count
    np.testing.assert_allclose(made.scatter, wanted, rtol=1e-4, atol=1e-4 * wanted.max())


def test_the_shares_add_up_to_the_score(scene: Scene) -> None:
    """The variance of the full score, as the scorer sees it, is that of the scores themselves."""
    product = product_of(scene)
    queries, keys = tapped(scene, product)
    mask = scene.data.arrays["attention_mask"] != 0
    total = np.zeros(HEADS)
    for sample in range(COUNT):
        seen = np.flatnonzero(mask[sample])
        scores = queries[sample][:, seen] @ keys[sample][:, :, seen]
        if product.softmax:
            scores = scores - scores.mean(axis=-1, keepdims=True)
        total += np.square(scores).sum(axis=(1, 2)) / len(seen)
    (found,) = scene.measure(range(COUNT))
    np.testing.assert_allclose(found.scores[product.key].scatter.sum(axis=(1, 2)), total, rtol=1e-4)


def test_what_is_the_same_for_every_key_is_worth_nothing() -> None:
    """A dimension in which all keys are equal shifts a query's scores alike: softmax does not see it."""
    scene = scene_of(token_model(), token_arrays(COUNT))
    product = product_of(scene)
    assert product.softmax
    rng = np.random.default_rng(0)
    queries, keys = rng.normal(size=(2, HEADS, 6, DIMS)), rng.normal(size=(2, HEADS, DIMS, 6))
    keys[:, :, 2] = 3.0
    batch = Batch({"attention_mask": np.ones((2, 6))}, 2, 2, np.arange(2, dtype=np.uint64))
    made = product.measure(queries, keys, batch)
    np.testing.assert_allclose(made.scatter[:, 2], 0.0, atol=1e-12)
    assert (np.diagonal(made.scatter, axis1=1, axis2=2)[:, [0, 1, 3, 4]] > 0.1).all()


def test_each_head_is_a_consumer_of_its_own_dimensions(scene: Scene) -> None:
    analysis = scene.analysis
    (found,) = scene.measure(range(COUNT))
    consumers = Targets.of(analysis, found, labels=False)
    (layer,) = [layer for layer in analysis.graph.layers if layer.kind == "qk"]
    made = consumers(layer, Keeping())
    assert [consumer.units.tolist() for consumer in made] == np.arange(HEADS * DIMS).reshape(HEADS, DIMS).tolist()
    assert all(consumer.weights.tolist() == [[1.0]] * DIMS for consumer in made)


def test_no_layer_of_an_attention_block_is_chosen_by_norms(scene: Scene) -> None:
    analysis = scene.analysis
    (found,) = scene.measure(range(COUNT))
    assert unscored(analysis, found, analysis.graph.layers) == ()


def test_a_layer_that_nothing_measured_consumes_is_told(scene: Scene) -> None:
    analysis = scene.analysis
    found = replace(analysis, linears=tuple(linear for linear in analysis.linears if linear.features != 17))
    (statistics,) = capture(found, scene.data, [np.arange(COUNT)], CaptureOptions(threads=1))
    untold = unscored(found, statistics, analysis.graph.layers)
    assert [layer.size for layer in untold] == [17]
    choices = select_channels(found, statistics, uniform(analysis.graph.layers, 0.5), SelectOptions())
    assert len(choices) == len(analysis.graph.layers)


@pytest.mark.parametrize(
    ("score", "estimator"),
    [
        ("joint", "gaussian"),
        ("pairwise", "gaussian"),
        ("pairwise", "binned"),
        ("wanda", "gaussian"),
        ("variance", "gaussian"),
    ],
)
def test_the_dimensions_that_make_the_scores_are_kept(score: str, estimator: str) -> None:
    """All but two dimensions of each head are made so small that they hardly count."""
    proto = token_model()
    for stored in proto.graph.initializer:
        if list(stored.dims) == [11, HEADS * DIMS]:
            weight = np.frombuffer(stored.raw_data, dtype=np.float32).reshape(11, HEADS, DIMS).copy()
            weight[:, :, [0, 2, 3]] *= 0.01
            stored.raw_data = weight.tobytes()
    for stored in proto.graph.initializer:
        if list(stored.dims) == [HEADS * DIMS]:
            stored.raw_data = (0 * np.frombuffer(stored.raw_data, dtype=np.float32)).tobytes()
    scene = scene_of(proto, token_arrays(COUNT))
    analysis = scene.analysis
    (found,) = scene.measure(range(COUNT), measure=SCORERS[score, estimator].measure)
    layers = [layer for layer in analysis.graph.layers if layer.kind == "qk"]
    (choice,) = select_channels(
        analysis,
        found,
        uniform(layers, 0.4),
        SelectOptions(score, estimator),
    )
    assert choice.kept.tolist() == [[1, 4]] * HEADS
