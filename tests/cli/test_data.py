"""What is asked for as data is valid and alone on standard output, whatever the names are and whoever else prints."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
from onnx import helper

from tests.support.build import Build

IN, HIDDEN, OUT = 10, 24, 4


@pytest.fixture
def twins(place):
    """A model whose weights are Constant nodes of one name: onnx-graphsurgeon prints warnings about them."""
    b = Build(seed=1)
    proto = b.proto(b.gemm(b.op("Relu", b.gemm(b.input("N", IN), IN, HIDDEN)), HIDDEN, OUT))
    stored = [
        helper.make_node("Constant", [], [tensor.name], name="same", value=tensor) for tensor in proto.graph.initializer
    ]
    nodes = [*stored, *proto.graph.node]
    del proto.graph.node[:], proto.graph.initializer[:]
    proto.graph.node.extend(nodes)
    onnx.save(proto, place.folder / "model.onnx")
    np.savez(place.folder / "calib.npz", x=np.random.default_rng(0).normal(size=(64, IN)).astype(np.float32))
    return place


RUN = ("model.onnx", "calib.npz")


@pytest.mark.parametrize(
    "command",
    [
        ("prune", *RUN, "--keep", "0.5"),
        ("prune", *RUN, "--keep", "1", "--allow-unchanged"),
        ("sweep", *RUN, "--by", "macs", "--at", "0.7"),
        ("capture", *RUN, "-o", "found.npz"),
        ("inspect", "model.onnx"),
        ("check", "model.onnx", "--max-size", "1MB"),
        ("bench", "model.onnx", "--seconds", "0.1"),
    ],
    ids=lambda command: " ".join(command),
)
def test_it_is_data_whatever_the_names_are(twins, command):
    done = twins.process(*command, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    json.loads(done.stdout)


def test_apply_prints_data_too(twins):
    twins.succeeds("prune", *RUN, "--keep", "0.5")
    done = twins.process("apply", "model.onnx", "model.pruned.plan.json", "-o", "again.onnx", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["output"] == "again.onnx"


def test_tables_hold_no_warnings_either(twins):
    assert "[W]" not in twins.process("prune", *RUN, "--keep", "0.5").stdout


def test_what_a_metric_of_the_user_prints_goes_to_standard_error(place):
    (place.folder / "own.py").write_text("def metric(outputs, labels):\n    print('talkative')\n    return 1.0\n")
    done = place.process("prune", *RUN, "--keep", "0.5", "--metric", "own:metric", "--json")
    json.loads(done.stdout)
    assert set(done.stderr.split()) == {"talkative"}
    quiet = place.process("prune", *RUN, "--keep", "0.5", "--metric", "own:metric", "--json", "-q", "--overwrite")
    json.loads(quiet.stdout)
    assert quiet.stderr == ""
