"""Random models, random plans: the cut model equals the original with the cut channels zeroed where they are consumed.

The oracle needs no expected values, so it can go on for as long as one likes: ONNXMI_EXAMPLES=10000 pytest <this file>.
"""

import random
from collections import Counter

import numpy as np
import onnx
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from onnx import numpy_helper

from onnxmi.axes.keeping import Keeping, Kept
from tests.support.build import Build
from tests.support.oracle import TOLERANCE, Case, assert_exact, gap, random_plan, run
from tests.support.random_models import random_model, random_stateful
from tests.support.settings import EXAMPLES

randoms = st.randoms(use_true_random=False)


@settings(max_examples=EXAMPLES)
@given(rng=randoms)
def test_a_random_cut_of_a_random_model_is_exact(rng: random.Random) -> None:
    proto = random_model(rng)
    case = Case.of(proto).read()
    cut = assert_exact(case, random_plan(case.graph, rng))
    if case.model.checker_error is None:  # onnx infers no shape behind some loops, and the checker wants one of outputs
        onnx.checker.check_model(cut, full_check=True)
    assert cut.graph.input == proto.graph.input
    assert cut.graph.output == proto.graph.output


@settings(max_examples=EXAMPLES // 2)
@given(rng=randoms)
def test_a_random_cut_with_narrower_states_is_exact(rng: random.Random) -> None:
    case = Case.of(*random_stateful(rng))
    assert_exact(case, random_plan(case.graph, rng))


@settings(max_examples=EXAMPLES // 2)
@given(rng=randoms)
def test_keeping_everything_is_the_identity(rng: random.Random) -> None:
    case = Case.of(random_model(rng))
    whole = Keeping({layer.id: _whole(layer.size, layer.parts, layer.outer_atom) for layer in case.graph.layers})
    before = case.model.proto.SerializeToString(deterministic=True)
    assert case.cut({}).SerializeToString(deterministic=True) == before
    assert gap(run(case.model.proto, case.feeds()), run(case.cut(whole), case.feeds())) <= TOLERANCE


def _whole(size: int, parts: int, over: int | None) -> Kept:
    return Kept(np.arange(size)) if over is None else Kept(np.tile(np.arange(size), (parts, 1)), over)


@settings(max_examples=EXAMPLES // 2)
@given(rng=randoms)
def test_the_oracle_notices_a_perturbed_weight(rng: random.Random) -> None:
    """Smooth models only: in them nearly every weight that is read matters."""
    case = Case.of(random_model(rng, smooth=True, longest=5))
    keeping, feeds = random_plan(case.graph, rng), case.feeds()
    cut = case.cut(keeping)
    clean = run(cut, feeds)
    read = {name for node in cut.graph.node for name in node.input if node.op_type in ("Conv", "Gemm", "MatMul")}
    weights = [t for t in cut.graph.initializer if t.name in read and len(t.dims) > 1]
    assume(weights)
    weight = rng.choice(weights)
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * np.float32(1.5), weight.name))
    perturbed = run(cut, feeds)
    assume(gap(clean, perturbed) > 10 * TOLERANCE)  # not the keys of an attention that is uniform anyway
    assert gap(run(case.masked(keeping), feeds), perturbed) > TOLERANCE


@settings(max_examples=EXAMPLES // 2)
@given(rng=randoms)
def test_cutting_live_units_changes_the_result(rng: random.Random) -> None:
    """Else an oracle that masks nothing, and a rewrite that cuts nothing, would agree."""
    case = Case.of(random_model(rng, smooth=True, longest=5))
    keeping = random_plan(case.graph, rng)
    assume(keeping)
    assert gap(run(case.model.proto, case.feeds()), run(case.masked(keeping), case.feeds())) > TOLERANCE


def test_rounding_that_is_scaled_up_is_no_wrong_cut() -> None:
    """One unit of a normalization is its own mean: what is left of it is the rounding of its sum."""
    b = Build(seed=1)
    hidden = b.op("Tanh", b.op("Add", b.gemm(b.input("N", 13), 13, 9), b.input("N", 9, name="state")))
    centered = b.op("Sub", hidden, b.op("ReduceMean", hidden, axes=[-1]))
    variance = b.op("ReduceMean", b.op("Mul", centered, centered), axes=[-1])
    made = b.op("Div", centered, b.op("Sqrt", b.op("Add", variance, b.const(np.array(1e-4)))))
    case = Case.of(b.proto(b.gemm(made, 9, 3), made, dims=[("N", 3), ("N", 9)]), {"state": made})
    (layer,) = case.graph.layers
    differences = []
    for unit in range(9):
        keeping = Keeping({layer.id: Kept(np.array([unit]))})
        assert_exact(case, keeping)
        differences.append(gap(run(case.masked(keeping), case.feeds()), run(case.cut(keeping), case.feeds())))
    assert max(differences) > TOLERANCE  # else nothing is allowed for


def test_the_random_models_cover_what_they_are_made_for() -> None:
    """Enough layers, ragged ones, kinds and operators, in a sample as small as the one that is tested."""
    operators, layers = Counter[str](), Counter[str]()
    for seed in range(60):
        case = Case.of(random_model(random.Random(seed)))
        operators.update(node.op for node in case.model.graph.nodes)
        layers.update(layer.kind for layer in case.graph.layers)
        layers["ragged"] += sum(layer.outer_atom is not None for layer in case.graph.layers)
    expected = {"Conv", "ConvTranspose", "Gemm", "MatMul", "BatchNormalization", "PRelu", "Concat", "Split", "Reshape"}
    expected |= {"Transpose", "ReduceMean", "ReduceSum", "GlobalAveragePool", "MaxPool", "AveragePool", "Pad", "Resize"}
    expected |= {"Identity", "Flatten", "Shape", "Softmax", "Mul", "Clip", "InstanceNormalization"}
    assert expected <= operators.keys()
    assert layers["ragged"] >= 10
    assert layers["channels"] >= 60
    assert layers["hidden"] >= 30


@pytest.mark.parametrize("seed", range(3))
def test_a_seed_makes_the_same_model(seed: int) -> None:
    first, second = (random_model(random.Random(seed)).SerializeToString(deterministic=True) for _ in range(2))
    assert first == second
