"""Outputs that no operator makes: inputs that are passed through, and stored tensors. Every command takes them."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest

from tests.support.build import Build

IN, HIDDEN, OUT = 7, 11, 5


def dense(b: Build, x: str) -> str:
    return b.gemm(b.op("Relu", b.gemm(x, IN, HIDDEN)), HIDDEN, OUT)


def model(kind: str) -> onnx.ModelProto:
    b = Build(seed=2)
    x = b.input("N", IN)
    y = dense(b, x)
    if kind == "an input":
        return b.proto(y, x, dims=[("N", OUT), ("N", IN)])
    if kind == "an input that nothing reads":
        return b.proto(y, b.input("N", 3, name="z"), dims=[("N", OUT), ("N", 3)])
    if kind == "a weight":
        return b.proto(y, b.nodes[0].input[1], dims=[("N", OUT), (HIDDEN, IN)])
    stored = b.const(b.rng.normal(size=(3, OUT)))
    return b.proto(y, stored, dims=[("N", OUT), (3, OUT)])


KINDS = ("an input", "an input that nothing reads", "a weight", "a stored tensor")


@pytest.fixture
def passing(place):
    def write(kind: str):
        proto = model(kind)
        onnx.save(proto, place.folder / "model.onnx")
        rng = np.random.default_rng(0)
        widths = {info.name: info.type.tensor_type.shape.dim[1].dim_value for info in proto.graph.input}
        arrays = {name: rng.normal(size=(40, width)).astype(np.float32) for name, width in widths.items()}
        np.savez(place.folder / "calib.npz", **arrays)
        return place

    return write


@pytest.mark.parametrize("kind", KINDS)
def test_every_command_that_only_looks(passing, kind):
    place = passing(kind)
    layers = json.loads(place.succeeds("inspect", "model.onnx", "--json"))["layers"]
    assert len(layers) == (0 if kind == "a weight" else 1)
    place.succeeds("bench", "model.onnx", "--seconds", "0.05", "--no-memory", "--data", "calib.npz")
    place.succeeds("check", "model.onnx", "--max-macs", "1000000")
    place.succeeds("check", "model.onnx", "--baseline", "model.onnx", "--data", "calib.npz", "--max-size-ratio", "1")


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "a weight"])
def test_a_cut_passes_them_on(passing, kind):
    place = passing(kind)
    place.succeeds("prune", "model.onnx", "calib.npz", "--keep", "0.5", "--no-repair", "--threads", "1")
    place.succeeds("apply", "model.onnx", "model.pruned.plan.json", "-o", "again.onnx")
    again, cut = ((place.folder / name).read_bytes() for name in ("again.onnx", "model.pruned.onnx"))
    assert again == cut


def test_a_weight_that_is_an_output_stays_whole(passing):
    message = passing("a weight").fails(1, "prune", "model.onnx", "calib.npz", "--keep", "0.5")
    assert "nothing to prune" in message
    assert "axis of the graph output" in message
