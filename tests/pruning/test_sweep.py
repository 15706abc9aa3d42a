"""Trade-off curves of which checks stop some models, or all."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

import onnxmi
from onnxmi.errors import CheckError
from onnxmi.pruning import sweep
from tests.support.build import Build

INPUTS, HIDDEN = 13, 31


def mlp() -> onnx.ModelProto:
    b = Build(seed=9)
    return b.proto(b.gemm(b.op("Relu", b.gemm(b.input("N", INPUTS), INPUTS, HIDDEN)), HIDDEN, 7))


def curve() -> onnxmi.TradeOff:
    samples = {"x": np.random.default_rng(11).normal(size=(127, INPUTS)).astype(np.float32)}
    return onnxmi.sweep(mlp(), samples, by="macs", shares=(0.8, 0.5, 0.3), threads=1)


def stop(monkeypatch: pytest.MonkeyPatch, *shares: float) -> None:
    judge = sweep._judged_point

    def judged(session: Any, share: float, counts: Any) -> Any:
        if share in shares:
            raise CheckError("it is wrong")
        return judge(session, share, counts)

    monkeypatch.setattr(sweep, "_judged_point", judged)


def test_a_model_that_a_check_stops_is_left_out_with_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    stop(monkeypatch, 0.5)
    made = curve()
    assert [point.share for point in made.points] == [0.8, 0.3]
    assert "the model at x 0.50 of the cost was dropped: it is wrong" in made.notes
    assert made.skipped == ()


def test_where_checks_stop_all_models_the_first_one_s_reason_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    stop(monkeypatch, 0.8, 0.5, 0.3)
    with pytest.raises(CheckError, match="it is wrong"):
        curve()
