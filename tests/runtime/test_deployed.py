"""Models that end the process of a deployed session are refused."""

from __future__ import annotations

import subprocess
from typing import Any

import numpy as np
import onnx
import pytest

from onnxmi.errors import ModelError
from onnxmi.runtime import deployed
from onnxmi.runtime.deployed import require_opening
from onnxmi.runtime.timing import measure_latency
from tests.support.build import Build


def model(dtype: type) -> onnx.ModelProto:
    b = Build(seed=1, dtype=dtype)
    return b.proto(b.op("Relu", b.gemm(b.input("N", 7), 7, 5)))


def test_a_model_that_opens_passes() -> None:
    for dtype in (np.float16, np.float32):
        require_opening(model(dtype))


def test_one_that_ends_its_process_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[list[str]] = []

    def ended(command: list[str], **_: Any) -> subprocess.CompletedProcess[bytes]:
        commands.append(command)
        return subprocess.CompletedProcess(command, -11)

    monkeypatch.setattr(deployed.subprocess, "run", ended)
    with pytest.raises(ModelError, match="ends the process"):
        require_opening(model(np.float16))
    assert len(commands) == 1
    require_opening(model(np.float32))  # none of these is known to do that: nothing is started
    assert len(commands) == 1


def test_nothing_is_timed_that_ends_its_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deployed.subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, -11))
    with pytest.raises(ModelError, match="ends the process"):
        measure_latency([model(np.float16)], {"x": np.zeros((3, 7), np.float16)}, seconds=0.1)
