"""What the original gives is recorded once and shared by the repairs of other cuts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from onnxmi.repair import original, repair_one_pass, repair_stepwise
from onnxmi.repair.recorded import OriginalRows, RecordedRows
from onnxmi.runtime.stepper import Stepper
from tests.support.build import Build


def residual(b: Build) -> str:
    """Convolutions with a residual addition, then a product."""
    x = b.op("Relu", b.conv(b.input("N", 3, 7, 5), 3, 11))
    inner = b.conv(b.op("Relu", b.conv(x, 11, 13, pads=[1, 1, 1, 1])), 13, 11, pads=[1, 1, 1, 1])
    x = b.op("Relu", b.op("Add", inner, x))
    return b.gemm(b.op("Flatten", b.op("GlobalAveragePool", x)), 11, 5)


@pytest.fixture
def steps(monkeypatch) -> list[Stepper]:
    """Every original that is run."""
    made: list[Stepper] = []

    class Watched(Stepper):
        def __init__(self, *given) -> None:
            super().__init__(*given)
            made.append(self)

    monkeypatch.setattr(original, "Stepper", Watched)
    return made


def weights(scene, samples, keep: float) -> list[np.ndarray]:
    cut = scene.cut(scene.keep(keep))
    repaired = repair_stepwise(cut, samples, shared=repair_one_pass(cut, scene.statistics()))
    return [one.weights for one in repaired.replacements if one.weights is not None]


def test_other_cuts_do_not_run_the_original_again(bench, steps) -> None:
    b = Build(seed=5)
    scene = bench(b.proto(residual(b)))
    samples = scene.repair_samples()
    shared = samples.shared()
    alone = {keep: weights(scene, samples, keep) for keep in (0.5, 0.3)}
    assert len(steps) == 2
    for keep in (0.5, 0.3, 0.5):
        for one, other in zip(weights(scene, shared, keep), alone[keep], strict=True):
            np.testing.assert_array_equal(one, other)
    assert len(steps) == 3


def test_what_is_beyond_the_room_is_not_recorded(bench, steps) -> None:
    b = Build(seed=5)
    scene = bench(b.proto(residual(b)))
    shared = replace(scene.repair_samples(), recorded=RecordedRows(disk=20_000))
    first, again = (weights(scene, shared, 0.5) for _ in range(2))
    assert len(steps) == 2
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, other)


def test_rows_come_back_as_they_were() -> None:
    rng = np.random.default_rng(3)
    rows = [
        OriginalRows(part, np.arange(count), rng.normal(size=(1, count, 3)), rng.normal(size=(1, count, 3)), (count, 3))
        for part, count in ((0, 7), (1, 5), (-1, 2))
    ]
    recorded = RecordedRows()
    assert recorded.rows(("a", "s")) is None
    assert [own.part for own in recorded.recording(("a", "s"), iter(rows))] == [0, 1, -1]
    read = recorded.rows(("a", "s"))
    assert read is not None
    for one, other in zip(read, rows, strict=True):
        assert (one.part, one.shape) == (other.part, other.shape)
        np.testing.assert_array_equal(one.results, other.results)
        np.testing.assert_array_equal(one.stream, other.stream)
    assert recorded.rows(("a", None)) is None
