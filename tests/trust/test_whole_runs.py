"""Random networks of every kind through the whole pipeline, and whether the oracles that judge it see what is wrong."""

from __future__ import annotations

import random
import subprocess
import sys
from itertools import count
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from tests.support import judge
from tests.support.random_models import random_network
from tests.support.random_models.shipped import FORMS, as_shipped
from tests.support.whole_runs import MODES, Subject, examine

ROOT = Path(__file__).resolve().parent.parent.parent
SEEDS = range(60)


@pytest.fixture(scope="module")
def networks():
    return [random_network(random.Random(seed)) for seed in SEEDS]


def test_the_networks_are_of_every_kind(networks):
    """What was asked for once, by the operators that make it, and by what is around them."""
    operators = {node.op_type for network in networks for node in network.proto.graph.node}
    assert {"LSTM", "GRU", "RNN", "Einsum", "ArgMax", "TopK", "ZipMap", "SequenceConstruct", "NonZero"} <= operators
    assert {"NonMaxSuppression", "QuantizeLinear", "GroupQueryAttention", "MultiHeadAttention", "Range"} <= operators
    assert any(len(network.outputs) > 2 for network in networks)
    steps = {step for network in networks for step in network.steps}
    assert {"auxiliary", "features", "stored", "passed", "tied", "dueling", "stretched", "decoder_attention"} <= steps
    inputs = {value.name for network in networks for value in network.proto.graph.input}
    outputs = {value.name for network in networks for value in network.proto.graph.output}
    assert {"input_ids", "attention_mask", "past_key_values.0.key"} <= inputs
    assert {"present.0.key", "present.0.value"} <= outputs


def test_the_networks_run_and_have_something_to_say(networks):
    """No output is constant, none is beyond bounds: else nothing could be seen of what a cut does to it."""
    still = 0
    for network in networks:
        made = judge.run_all(network, network.proto, network.samples(30, 0))
        for output, value in zip(network.outputs, made, strict=True):
            if output.columns is not None:
                columns = np.moveaxis(value, output.columns, -1).reshape(-1, value.shape[output.columns])
                assert np.abs(columns).max() < 1e5
                still += bool((columns.std(0) < 1e-3 * np.abs(columns).max(0)).all())
    assert still <= 2  # what a residual takes away may be all that varies


@pytest.mark.parametrize("seed", range(3))
def test_a_seed_makes_the_same_network_and_samples(seed):
    first, second = (random_network(random.Random(seed)) for _ in range(2))
    assert first.proto.SerializeToString(deterministic=True) == second.proto.SerializeToString(deterministic=True)
    for name, values in first.samples(5, 1).items():
        assert np.array_equal(values, second.samples(5, 1)[name])


@pytest.mark.parametrize("seed", SEEDS)
def test_a_random_network_goes_through_the_pipeline(seed):
    """In one of the modes. Every output is kept: the floor looks at outputs, and says the worst of their columns."""
    (outcome,) = examine(seed, (list(MODES)[seed % len(MODES)],))
    assert outcome.state != "found" or outcome.reason == "lost column", outcome


@pytest.mark.parametrize("form", [form for form in FORMS if form != "plain"])
@pytest.mark.parametrize("seed", range(500, 506))
def test_a_network_as_it_is_shipped_goes_through_the_pipeline(form, seed):
    (outcome,) = examine(seed, (list(MODES)[seed % len(MODES)],), form)
    if outcome.state == "absent":
        pytest.skip("its makers or onnxruntime refuse this network in this form")
    assert outcome.state != "found" or outcome.reason == "lost column", outcome


def test_every_form_is_had_of_some_networks():
    made = {form: [as_shipped(random_network(random.Random(seed)), form) for seed in range(500, 506)] for form in FORMS}
    assert all(any(network is not None for network in of_form) for of_form in made.values())
    assert all(network is not None for network in made["plain"])
    plain, half = made["plain"], made["half"]
    assert [one.proto != other.proto for one, other in zip(plain, half, strict=True) if other is not None]


# -- the oracles see what they are there for --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def plain():
    """A network whose plain cut can be judged, and the cut."""
    subjects = map(Subject.of, count(1000))
    subject = next(one for one in subjects if one.network.steps == {"scores", "gemm"} and one.network.batch is None)
    return subject, subject.prune(keep=0.5, repair=False, force=True).proto


def apart(subject, cut, original=None):
    feeds = subject.network.samples(5, 2)
    masked = judge.masked(original or subject.network.proto, cut)
    return judge.difference(judge.run(masked, feeds), judge.run(cut, feeds))


def test_a_plain_cut_equals_the_masked_original(plain):
    assert apart(*plain) < judge.SAME


def test_one_number_that_is_not_the_originals_is_seen(plain):
    subject, cut = plain
    broken = onnx.ModelProto()
    broken.CopyFrom(cut)
    weight = max(broken.graph.initializer, key=lambda one: np.prod(one.dims) if one.data_type == 1 else 0)
    values = numpy_helper.to_array(weight).copy()
    values.flat[0] += 1
    weight.CopyFrom(numpy_helper.from_array(values, weight.name))
    assert apart(subject, broken) > judge.SAME


def test_a_column_that_became_a_constant_is_lost(plain):
    subject, _ = plain
    _, wanted = subject.fresh
    assert judge.lost_columns(subject.network, wanted, wanted) == {}
    column = [np.array(one) for one in wanted]
    column[0][..., 2] = column[0][..., 2].mean()
    assert list(judge.lost_columns(subject.network, wanted, column)) == [f"{subject.network.outputs[0].name}[2]"]


def test_the_oracles_use_nothing_of_the_package():
    check = "import sys, tests.support.judge; sys.exit(any(name.startswith('onnxmi') for name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", check], cwd=ROOT)
    assert done.returncode == 0
