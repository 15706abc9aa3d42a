"""Padding is left out where that makes no difference, and only there."""

from __future__ import annotations

import numpy as np
import pytest

import onnxmi
from onnxmi.data.padding import Padding
from onnxmi.graph.padding_mask import packed
from tests.support.build import Build

LENGTHS = np.array([3, 11, 1, 5, 2, 3, 4])


def text_model(masked: bool = True, positions: int | str = "sequence") -> onnxmi.Model:
    """Embeddings, averaged over the positions that count (or over all of them)."""
    b = Build()
    ids = b.input("batch", positions, name="ids", dtype=np.int64)
    mask = b.input("batch", positions, name="attention_mask", dtype=np.int64)
    wide = b.op("Gather", b.weight(13, 5), ids)
    counts = b.op("Cast", mask, to=1)
    if masked:
        wide = b.op("Mul", wide, b.op("Unsqueeze", counts, b.ints(-1)))
    summed = b.op("ReduceSum", wide, b.ints(1), keepdims=0)
    hidden = b.op("Relu", b.op("MatMul", summed, b.weight(5, 7)))
    return onnxmi.Model.of(b.proto(b.op("MatMul", hidden, b.weight(7, 3))))


def arrays() -> dict[str, np.ndarray]:
    mask = (np.arange(11) < LENGTHS[:, None]).astype(np.int64)
    return {"ids": np.random.default_rng(0).integers(1, 13, mask.shape), "attention_mask": mask}


def packing(model: onnxmi.Model, mask: str | None = None) -> onnxmi.Calibration:
    data = onnxmi.check_calibration(arrays(), model.graph)
    return packed(model, onnxmi.analyse(model, data.one_run(np.arange(3), 3)).graph, data, mask, 1)


def test_lengths_are_read_off_the_mask() -> None:
    assert Padding.of(np.array([[1, 0, 1, 0], [0, 0, 0, 0]]), frozenset()).lengths.tolist() == [3, 1]


def test_short_samples_are_run_first_and_short() -> None:
    data = packing(text_model())
    batches = list(data.packed(np.array([0, 1, 2, 4, 6]), 2))
    assert [chosen.tolist() for chosen, _ in batches] == [[2, 4], [0, 6], [1]]
    assert [feeds["ids"].shape for _, feeds in batches] == [(2, 2), (2, 4), (1, 11)]
    for chosen, feeds in batches:
        for name, array in feeds.items():
            assert np.array_equal(array, data.arrays[name][chosen][:, : array.shape[1]])


def test_batches_in_order_stay_whole() -> None:
    data = packing(text_model())
    (only,) = data.batches(np.arange(7), 7)
    assert only[1]["ids"].shape == (7, 11)


@pytest.mark.parametrize(
    "model", [text_model(masked=False), text_model(positions=11)], ids=["a model that reads padding", "a fixed length"]
)
def test_padding_stays_where_it_matters(model: onnxmi.Model) -> None:
    assert packing(model).padding is None


def test_what_is_fed_whole_or_unmasked_stays(monkeypatch) -> None:
    model = text_model()
    assert packing(model, mask="ids").padding is None  # every id is above 0: nothing looks like padding
