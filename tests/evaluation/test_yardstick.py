"""The measure of damage: closed forms, what changes nothing, and the seeds of the backward pass."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import log_softmax, softmax

from onnxmi.evaluation.answers import compare_answers
from onnxmi.evaluation.yardstick import Yardstick
from onnxmi.outputs.view import Answers, View

NUMBERS = View("y", "y", "y", "values", "identity", (1,), 0)
CLASSES = replace(NUMBERS, kind="classes", link="softmax")
CELLS = replace(NUMBERS, kind="classes", link="sigmoid")


def _draw(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def _of(view: View, *arrays: np.ndarray) -> Yardstick:
    return Yardstick.of([view], lambda: [({view.tensor: array}, {}) for array in arrays])


def _damage(view: View, original: np.ndarray, made: np.ndarray):
    return _of(view, original).damage({"y": original}, {"y": made})


def test_numbers_are_measured_by_each_columns_own_variance():
    original = _draw(503, 3) * [1, 10, 100] + [0, 50, 3000]
    made = original + _draw(503, 3, seed=1) * [0.1, 2, 0.3]
    expected = np.square(made - original).mean(0) / original.var(0)
    damage = _damage(NUMBERS, original, made)
    assert damage.total == pytest.approx(expected.mean(), rel=1e-9)
    assert damage.worst is not None
    assert (damage.worst.column, damage.worst.worst) == (1, pytest.approx(expected[1], rel=1e-9))


@pytest.mark.parametrize("view", [NUMBERS, CLASSES, CELLS])
def test_equal_answers_have_no_damage_and_the_mean_answer_has_one(view):
    original = _draw(4001, 5)
    assert _damage(view, original, original).total == 0.0
    mean = original.mean(0)
    if view is CLASSES:
        mean = np.log(softmax(original.astype(np.float64), 1).mean(0))
    if view is CELLS:
        chance = (1 / (1 + np.exp(-original.astype(np.float64)))).mean(0)
        mean = np.log(chance / (1 - chance))
    assert _damage(view, original, np.broadcast_to(mean, original.shape)).total == pytest.approx(1.0, rel=1e-5)


def test_divergence_is_that_of_the_softmax():
    a, b = _draw(211, 7) * 3, _draw(211, 7, seed=2) * 3
    p = softmax(a.astype(np.float64), 1)
    kl = (p * (log_softmax(a.astype(np.float64), 1) - log_softmax(b.astype(np.float64), 1))).sum(1).mean()
    whole = (p * (np.log(p) - np.log(p.mean(0)))).sum(1).mean()
    assert _damage(CLASSES, a, b).total == pytest.approx(kl / whole, rel=1e-9)


@pytest.mark.parametrize("view", [CLASSES, CELLS])
def test_divergence_of_nearly_equal_answers_does_not_cancel(view):
    a = _draw(97, 5).astype(np.float64) * 2
    step = 1e-6 * _draw(97, 5, seed=3)
    small, large = _damage(view, a, a + step).total, _damage(view, a, a + 1e3 * step).total
    assert large / small == pytest.approx(1e6, rel=2e-2)


def test_a_softmax_class_that_is_lost_is_named():
    """A class that says 2 % of the answers: the whole answer hardly moves when it is gone."""
    original = _draw(5003, 3) * [3, 3, 1.5] - [0, 0, 3]
    made = original.copy()
    made[:, 2] = original[:, 2].mean()
    damage = _damage(CLASSES, original, made)
    first, second = (softmax(logits.astype(np.float64), axis=1)[:, 2] for logits in (original, made))
    chance = first.mean()

    def nats(p, q):
        return p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))

    assert damage.worst is not None
    assert damage.worst.error < 0.1
    assert damage.worst.column == 2
    assert damage.worst.worst == pytest.approx(nats(first, second).mean() / nats(first, chance).mean(), rel=1e-6)


@pytest.mark.parametrize("view", [NUMBERS, CLASSES, CELLS])
def test_a_panel_with_more_than_the_usual_share_of_a_rare_class_does_not_lose_it_by_that(view):
    rng = np.random.default_rng(5)
    fit = _draw(4001, 3) * 2 - [0, 0, 6]
    fit[rng.random(4001) < 0.02, 2] += 9
    panel = _draw(23, 3, seed=6) * 2 - [0, 0, 6]
    panel[:9, 2] += 9
    made, yardstick = panel.copy(), _of(view, fit)
    made[:, 2] = -3.0  # one answer for all
    worst = yardstick.damage({"y": panel}, {"y": made}).worst
    assert worst is not None
    assert worst.column == 2
    assert 0.3 < worst.worst < 1.25
    made[:, 2] = -panel[:, 2]  # the opposite is worse than a constant on any panel
    worse = yardstick.damage({"y": panel}, {"y": made}).worst
    assert worse is not None
    assert worse.worst > 1.5


@pytest.mark.parametrize("view", [NUMBERS, CLASSES, CELLS])
def test_one_sample_alone_loses_no_column(view):
    rows = replace(view, axes=(2,), sample_axis=0)
    original = _draw(31, 7, 3)
    made = original + 0.1 * _draw(31, 7, 3, seed=8)
    made[4, :, 2] += 40.0
    part = _of(rows, original).damage({"y": original}, {"y": made}).worst
    assert part is not None
    assert (part.column, part.worst > 1.0) == (2, True)
    others = np.delete(np.arange(31), 4)
    rest = _of(rows, original).damage({"y": original[others]}, {"y": made[others]}).worst
    assert rest is not None
    assert part.elsewhere == pytest.approx(rest.worst, rel=0.05)
    made[5:9, :, 2] += 40.0
    more = _of(rows, original).damage({"y": original}, {"y": made}).worst
    assert more is not None
    assert more.elsewhere is not None
    assert more.elsewhere > 1.0


def test_samples_may_lie_along_any_axis():
    original = _draw(7, 31, 3)
    made = original + 0.1 * _draw(7, 31, 3, seed=8)
    made[:, 4, 2] += 40.0
    turned = replace(NUMBERS, axes=(2,), sample_axis=1)
    part = _of(turned, original).damage({"y": original}, {"y": made}).worst
    straight = replace(NUMBERS, axes=(2,), sample_axis=0)
    other = [np.ascontiguousarray(one.swapaxes(0, 1)) for one in (original, made)]
    expected = _of(straight, other[0]).damage({"y": other[0]}, {"y": other[1]}).worst
    assert part is not None
    assert expected is not None
    assert part.elsewhere == pytest.approx(expected.elsewhere, rel=1e-9)
    assert part.elsewhere < 0.1 < 1.0 < part.worst


def test_units_and_offsets_change_nothing():
    a, b = _draw(301, 4), _draw(301, 4, seed=4)
    scale, shift = np.array([1, 1e3, 1e-3, 7]), np.array([0, 300, -2, 1e4])
    assert _damage(NUMBERS, a * scale + shift, b * scale + shift).total == pytest.approx(
        _damage(NUMBERS, a.astype(np.float64), b.astype(np.float64)).total, rel=1e-5
    )
    logits = _damage(CLASSES, a + 5, b - 3).total
    assert logits == pytest.approx(_damage(CLASSES, a, b).total, rel=1e-4)


def test_a_column_that_does_not_move_is_measured_by_its_own_size():
    original = np.concatenate([_draw(100, 1), np.full((100, 1), 300.0, np.float32)], 1)
    made = original + np.array([0, 3.0])
    assert _damage(NUMBERS, original, made).total == pytest.approx(0.5 * 1e-4, rel=1e-6)


def test_what_is_not_finite_is_lost():
    original = _draw(11, 3)
    made = original.copy()
    made[3, 1] = np.nan
    for view in (NUMBERS, CLASSES, CELLS):
        assert _damage(view, original, made).total == np.inf


def test_batches_add_up():
    original, made = _draw(401, 5), _draw(401, 5, seed=5)
    for view in (NUMBERS, CLASSES, CELLS):
        parts = _of(view, original[:7], original[7:130], original[130:])
        errors = parts.errors()
        for piece in (slice(0, 200), slice(200, 401)):
            errors.add({"y": original[piece]}, {"y": made[piece]}, {})
        assert errors.damage().total == pytest.approx(_damage(view, original, made).total, rel=1e-9)


def test_a_view_with_other_columns_in_other_samples_has_one_column():
    yardstick = _of(NUMBERS, _draw(3, 5), _draw(3, 7, seed=1))
    assert yardstick.views[0].axes == ()
    assert yardstick.scales[0].spread.shape == (1,)


@pytest.mark.parametrize("view", [NUMBERS, CLASSES, CELLS])
def test_the_mean_square_of_seed_times_error_is_the_damage(view):
    original = _draw(2, 5) * 2
    error = 1e-3 * _draw(2, 5, seed=6)
    yardstick = _of(view, original)
    generator = np.random.default_rng(0)
    squares = []
    for _ in range(20_000):
        signs = lambda _name, shape: generator.integers(0, 2, size=shape) * 2 - 1  # noqa: E731
        seed = yardstick.seeds({"y": original}, signs, {"y": np.full(2, 0.5)})["y"]
        squares.append(np.square((seed * error).sum(1)).sum())
    expected = yardstick.damage({"y": original}, {"y": original + error}).total
    assert np.mean(squares) == pytest.approx(expected, rel=0.03)


def test_answers_of_different_lengths_are_compared_sample_by_sample():
    view = replace(NUMBERS, axes=(2,), sample_axis=0)
    one, two = _draw(3, 5), _draw(7, 5, seed=1)
    yardstick = Yardstick.of([view], lambda: [({"y": one[None]}, {}), ({"y": two[None]}, {})])
    reference = Answers(2, {"y": (one, two)})
    made = Answers(2, {"y": (one, two + 1)})
    expected = (7 * 5) / (10 * 5) * np.mean(1 / np.concatenate([one, two]).var(0))
    assert compare_answers(yardstick, reference, made).total == pytest.approx(expected, rel=1e-5)
    other = Answers(2, {"y": (one, two[:4])})
    assert compare_answers(yardstick, reference, other).total == np.inf
