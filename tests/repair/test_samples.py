"""How many samples are run step by step: as many as the memory holds, drawn by content."""

from __future__ import annotations

import numpy as np
import pytest

from onnxmi.data.calibration import check_calibration
from onnxmi.model import Graph
from onnxmi.repair import RepairSamples
from onnxmi.runtime.live_tensors import live_bytes
from onnxmi.statistics.capture import CaptureOptions

FLOAT = 4


def test_what_is_held_at_once_is_counted(mlp, samples):
    """6 -> 12 -> 10 -> 4: the input stays; the most is held when a Relu has read 12 and made 12."""
    assert live_bytes(mlp(), {"x": samples(3)}) == 3 * (6 + 12 + 12) * FLOAT


@pytest.fixture
def repaired_on(mlp, samples):
    def make(order):
        data = check_calibration({"x": samples(300)[order]}, Graph(mlp()))
        return RepairSamples(data, np.arange(200), np.arange(200, 300), CaptureOptions())

    return make


def test_all_samples_are_used_where_there_is_room(mlp, repaired_on):
    whole = repaired_on(np.arange(300))
    assert whole.within(mlp(), 300 * 30 * FLOAT) is whole


def test_few_are_drawn_where_there_is_not_and_by_content(mlp, repaired_on):
    """Half of the room: half of each part; the same samples, in whatever order they come."""
    straight = repaired_on(np.arange(300))
    turned = repaired_on(np.concatenate([np.arange(200)[::-1], np.arange(200, 300)]))
    drawn, other = (one.within(mlp(), 150 * 30 * FLOAT) for one in (straight, turned))
    assert (len(drawn.fit), len(drawn.validation)) == (100, 50)
    assert np.array_equal(np.sort(199 - other.fit), drawn.fit)
    assert not np.array_equal(drawn.fit, np.arange(100))


def test_a_few_samples_are_used_in_any_case(mlp, repaired_on):
    drawn = repaired_on(np.arange(300)).within(mlp(), 1)
    assert (len(drawn.fit), len(drawn.validation)) == (32, 32)


def test_trials_take_a_quarter_of_many_samples_and_all_of_few(mlp, samples):
    def tried(count: int) -> RepairSamples:
        data = check_calibration({"x": samples(count)}, Graph(mlp()))
        fit = np.arange(count * 9 // 10)
        whole = RepairSamples(data, fit, np.arange(len(fit), count), CaptureOptions())
        few = whole.for_trials()
        assert set(few.fit) <= set(whole.fit)
        assert set(few.validation) <= set(whole.validation)
        assert (few is whole) == (few.rows == 1.0)
        return few

    sizes = {count: len(tried(count).fit) + len(tried(count).validation) for count in (83, 331, 1511, 6007)}
    assert sizes == {83: 83, 331: 331, 1511: pytest.approx(1511 / 4, abs=2), 6007: pytest.approx(1024, abs=2)}
