"""Small models that many tests share: built in memory, so that each test says what it changes about them."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib import import_module
from itertools import count, pairwise
from pathlib import Path
from typing import Any

# Tests run in several processes at once: threads of linear algebra that wait for each other would take the cores away.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

ROOT = Path(__file__).resolve().parent.parent
SLOW = [ROOT / line for line in (ROOT / "tests" / "slow.txt").read_text().splitlines() if not line.startswith("#")]
IR_VERSION = 10  # that of the oldest onnxruntime the project supports reads


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of what `slow.txt` lists."""
    for item in items:
        if any(item.path.is_relative_to(place) for place in SLOW):
            item.add_marker("slow")


def make_mlp(
    sizes: tuple[int, ...] = (6, 12, 10, 4), batch: Any = "batch", prefix: str = "", inputs: tuple[str, ...] = ("x",)
) -> onnx.ModelProto:
    """An MLP with ReLUs, random weights and one Gemm a layer; several inputs are added up first."""
    rng = np.random.default_rng(0)
    nodes, stored, seen = [], [], inputs[0]
    for number, name in enumerate(inputs[1:]):
        nodes.append(helper.make_node("Add", [seen, name], [f"added{number}"]))
        seen = f"added{number}"
    for number, (fan_in, fan_out) in enumerate(pairwise(sizes)):
        last = number == len(sizes) - 2
        made = "y" if last else f"{prefix}h{number}"
        weight = rng.normal(size=(fan_in, fan_out)).astype(np.float32) / np.sqrt(fan_in)
        stored.append(numpy_helper.from_array(weight.astype(np.float32), f"w{number}"))
        stored.append(numpy_helper.from_array(rng.normal(size=fan_out).astype(np.float32), f"b{number}"))
        nodes.append(helper.make_node("Gemm", [seen, f"w{number}", f"b{number}"], [made], name=f"{prefix}fc{number}"))
        if not last:
            nodes.append(helper.make_node("Relu", [made], [f"{made}.relu"]))
            seen = f"{made}.relu"
    graph = helper.make_graph(
        nodes,
        "mlp",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, sizes[0]]) for name in inputs],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, sizes[-1]])],
        stored,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=IR_VERSION)


def make_samples(count: int = 40, size: int = 6, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, size)).astype(np.float32)


_NUMBERS = count()


@pytest.fixture(scope="session")
def mlp() -> Callable[..., onnx.ModelProto]:
    return make_mlp


@pytest.fixture(scope="session")
def samples() -> Callable[..., np.ndarray]:
    return make_samples


@pytest.fixture(scope="session")
def bundled() -> Path:
    """The folder of trained models."""
    return ROOT / "models"


@pytest.fixture(scope="session", autouse=True)
def times_of_their_own(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Tests neither read nor write the times that the user's runs have measured."""
    os.environ["ONNXMI_CACHE"] = str(tmp_path_factory.mktemp("times"))


@pytest.fixture(autouse=True)
def runs_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test does not go on from what another one measured."""
    # By its name in full: as an attribute, `onnxmi.pruning` is a module of the API.
    monkeypatch.setattr(import_module("onnxmi.pruning.run_cache"), "FOLDER", f"runs-{next(_NUMBERS)}")
