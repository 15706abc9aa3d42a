"""The pure parts of tools/claims.py: what sparsity means, what is zeroed, and how movement scores learn."""

from __future__ import annotations

import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxmi.options import PruneOptions
from onnxmi.study import Study, study_of

TOOLS = Path(__file__).resolve().parent.parent.parent / "tools"


@pytest.fixture(scope="module", autouse=True)
def _tools_on_the_path() -> object:
    sys.path.insert(0, str(TOOLS))
    yield
    sys.path.remove(str(TOOLS))


def network() -> onnx.ModelProto:
    """7 -> 13 -> 11 -> 3, biases everywhere."""
    rng = np.random.default_rng(0)
    sizes = (7, 13, 11, 3)
    tensors, nodes, name = [], [], "x"
    for i, (before, after) in enumerate(pairwise(sizes)):
        tensors.append(numpy_helper.from_array(rng.normal(size=(after, before)).astype(np.float32), f"w{i}"))
        tensors.append(numpy_helper.from_array(rng.normal(size=after).astype(np.float32), f"b{i}"))
        last = i == len(sizes) - 2
        nodes.append(helper.make_node("Gemm", [name, f"w{i}", f"b{i}"], ["y" if last else f"h{i}"], f"fc{i}", transB=1))
        if not last:
            nodes.append(helper.make_node("Relu", [f"h{i}"], [name := f"r{i}"]))
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 7])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 3])]
    graph = helper.make_graph(nodes, "g", inputs, outputs, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)


@pytest.fixture(scope="module")
def study() -> Study:
    from onnxmi.model import Model

    samples = {"x": np.random.default_rng(1).normal(size=(31, 7)).astype(np.float32)}
    return study_of(Model.of(network()), samples, PruneOptions(keep=0.5, threads=1))


def test_sparsity_is_the_share_of_the_matrices_that_goes(study: Study) -> None:
    from trials.sparsity import prunable, sparsity_of

    assert set(prunable(study)) == {"w0", "w1", "w2"}
    first, second = sorted(study.layers, key=lambda layer: -layer.size)
    left = 5 * 7 + 4 * 5 + 3 * 4
    total = 13 * 7 + 11 * 13 + 3 * 11
    assert sparsity_of(study, {first.id: 5, second.id: 4}) == pytest.approx(1 - left / total)


@pytest.mark.parametrize("wanted", [0.1, 0.3, 0.53, 0.8])
def test_the_uniform_cut_is_the_one_nearest_to_a_sparsity(study: Study, wanted: float) -> None:
    from trials.sparsity import sparsity_of, uniform_at

    from onnxmi.sizes import uniform

    reached = sparsity_of(study, uniform_at(study, wanted))
    every = [sparsity_of(study, uniform(study.layers, keep)) for keep in np.linspace(0, 1, 500)]
    assert abs(reached - wanted) == pytest.approx(min(abs(s - wanted) for s in every))


def test_an_allocated_cut_has_no_more_parameters_than_the_uniform_one(study: Study) -> None:
    from trials.sparsity import uniform_at
    from trials.structured import Priced, allocated_cut, with_options

    from onnxmi.capture import silent
    from onnxmi.cost import parameters
    from onnxmi.model import Graph
    from onnxmi.search import plain
    from onnxmi.study import measure_study

    measured = replace(study, measured=measure_study(study, None, True, silent))
    measured = with_options(measured, repair=False)
    proto, reached = allocated_cut(measured, 0.5, Priced().of(measured))
    assert parameters(Graph(proto)) <= parameters(Graph(plain(study, uniform_at(study, 0.5))))
    assert 0.3 < reached < 1.0


def test_zeroing_takes_the_smallest_of_each_matrix_or_of_all(study: Study) -> None:
    from trials.zeroing import by_matrix, by_model, zeroed

    for masks in (by_matrix(study, 0.4), by_model(study, 0.4)):
        gone = sum(int((~mask).sum()) for mask in masks.values())
        assert gone == pytest.approx(0.4 * sum(mask.size for mask in masks.values()), abs=2)
    weights = {name: np.abs(study.model.graph.constant(name)) for name in masks}
    assert max(w[~masks[n]].max() for n, w in weights.items()) <= min(w[masks[n]].min() for n, w in weights.items())
    stored = {t.name: numpy_helper.to_array(t) for t in zeroed(study.model.proto, masks).graph.initializer}
    assert all(np.array_equal(stored[name] != 0, mask) for name, mask in masks.items())


def test_a_stopped_run_goes_on(tmp_path: Path) -> None:
    from trials.records import Records

    made: list[int] = []

    def make() -> dict[str, int]:
        made.append(1)
        return {"value": 5}

    for _ in range(2):
        assert Records(tmp_path / "rows.jsonl").ensure({"model": "a", "seed": 0}, make)["value"] == 5
    assert len(made) == 1


def test_the_schedule_starts_at_nothing_rises_fast_and_ends_early() -> None:
    pytest.importorskip("torch")
    from trials.masks import scheduled

    values = [scheduled(step, 100) for step in range(101)]
    assert values[:11] == [0.0] * 11
    assert values[70:] == pytest.approx([1.0] * 31)
    assert scheduled(40, 100) == pytest.approx(1 - 0.5**3)
    assert values == sorted(values)


def test_movement_scores_follow_the_gradient_times_the_weight() -> None:
    """One step on a linear map: dL/dS = dL/d(W * M) * W, for weights that are masked out as well."""
    torch = pytest.importorskip("torch")
    from trials.masks import Masker

    torch.manual_seed(0)
    layer = torch.nn.Linear(5, 3, bias=False)
    masker = Masker(layer, {"weight": 0.4}, learned=True)
    with torch.no_grad():
        masker.scores[0].copy_(torch.randn(3, 5))
    x, target = torch.randn(7, 5), torch.randn(7, 3)
    masked = masker.masked(1.0)["weight"]
    assert int((masked == 0).sum()) == 6
    (0.5 * (x @ masked.T - target).square().sum()).backward()
    upper = (x @ masked.T - target).T @ x
    assert torch.allclose(masker.scores[0].grad, (upper * layer.weight).detach(), atol=1e-5)
    assert torch.allclose(layer.weight.grad, (upper * (masked != 0)).detach(), atol=1e-5)


def test_masks_are_written_into_the_weights() -> None:
    torch = pytest.importorskip("torch")
    from trials.masks import Masker, settle

    layer = torch.nn.Linear(5, 3, bias=False)
    before = layer.weight.detach().clone()
    settle(layer, Masker(layer, {"weight": 0.6}, learned=False))
    smallest = before.abs().flatten().argsort()[:9]
    assert set(torch.nonzero(layer.weight.flatten() == 0).flatten().tolist()) == set(smallest.tolist())


def test_a_twin_computes_what_the_file_does_and_gives_its_weights_back() -> None:
    torch = pytest.importorskip("torch")
    from trials.twin import Twin, written_back

    proto, x = network(), np.random.default_rng(2).normal(size=(5, 7)).astype(np.float32)
    twin = Twin(proto)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.mul_(1.5)
        made = twin(torch.from_numpy(x)).numpy()
    again = ort.InferenceSession(written_back(proto, twin).SerializeToString()).run(None, {"x": x})[0]
    assert np.allclose(made, again, atol=1e-5)
    assert not np.allclose(made, ort.InferenceSession(proto.SerializeToString()).run(None, {"x": x})[0], atol=1e-2)


def test_a_plan_carried_into_torch_gives_what_the_cut_file_gives(study: Study) -> None:
    torch = pytest.importorskip("torch")
    from trials.carry import Wires, carry
    from trials.twin import Twin

    from onnxmi.plan import Choice, Plan
    from onnxmi.rewrite import rewrite

    first, second = sorted(study.layers, key=lambda layer: -layer.size)
    kept = {first: [0, 3, 4, 12], second: [1, 2, 7, 9, 10]}
    choices = [Choice(layer.name, layer.kind, layer.size, np.array(units)) for layer, units in kept.items()]
    plan = Plan(study.model.digest, tuple(choices), {})
    twin = Twin(study.model.proto)
    modules = [f"modules_of.n{index}" for index in (0, 2, 4)]
    carry(
        twin, plan, {first.name: Wires((modules[0],), (modules[1],)), second.name: Wires((modules[1],), (modules[2],))}
    )
    x = np.random.default_rng(3).normal(size=(5, 7)).astype(np.float32)
    cut = rewrite(study.model, study.analysis.graph, plan.keeping(study.analysis.graph))
    with torch.no_grad():
        made = twin(torch.from_numpy(x)).numpy()
    assert np.allclose(made, ort.InferenceSession(cut.SerializeToString()).run(None, {"x": x})[0], atol=1e-5)


def test_channels_own_several_positions_behind_a_flatten_and_normalisations_are_cut() -> None:
    torch = pytest.importorskip("torch")
    from torch import nn
    from trials.carry import Wires, carry

    from onnxmi.plan import Choice, Plan

    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 5, 3), nn.BatchNorm2d(5), nn.ReLU(), nn.Flatten(), nn.Linear(5 * 6, 3)).eval()
    x, kept = torch.randn(2, 1, 5, 4), [0, 2, 3]
    mask = torch.zeros(1, 5, 1, 1)
    mask[:, kept] = 1
    wanted = model[4](model[3](model[:3](x) * mask))
    plan = Plan("", (Choice("conv", "channels", 5, np.array(kept)),), {})
    carry(model, plan, {"conv": Wires(("0", "1"), ("4",), read=6)})
    assert model[4].in_features == 18
    assert torch.allclose(model(x), wanted, atol=1e-6)


def test_the_residual_width_is_carried_into_tables_of_words_and_layer_normalisations() -> None:
    torch = pytest.importorskip("torch")
    from torch import nn
    from trials.carry import Wires, carry

    from onnxmi.plan import Choice, Plan

    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(13, 7), nn.LayerNorm(7), nn.Linear(7, 3))
    plan = Plan("", (Choice("stream", "width", 7, np.array(kept := [0, 2, 3, 6])),), {})
    words, tables = torch.tensor([[1, 4, 12]]), model[0].weight.detach().clone()
    wanted = nn.functional.layer_norm(tables[:, kept][words], (4,)) @ model[2].weight[:, kept].T + model[2].bias
    carry(model, plan, {"stream": Wires(("0", "1"), ("2",))})
    assert (model[0].embedding_dim, model[2].in_features) == (4, 4)
    assert torch.allclose(model(words), wanted, atol=1e-6)


def test_refitting_makes_up_for_what_is_zeroed() -> None:
    from trials.refit import refitted

    rng = np.random.default_rng(4)
    inputs = rng.normal(size=(400, 17)) @ rng.normal(size=(17, 17))
    weights, moments = rng.normal(size=(5, 17)), inputs.T @ inputs / 400
    made = refitted(weights, moments, 0.4)
    assert (made == 0).sum() == round(0.4 * 5 * 17)
    lost, lost_plainly = (np.square(inputs @ (weights - w).T).mean() for w in (made, weights * (made != 0)))
    assert lost < 0.6 * lost_plainly


def test_refitting_one_output_of_two_inputs_is_least_squares() -> None:
    from trials.refit import refitted

    moments = np.array([[4.0, 1.0], [1.0, 2.0]])
    made = refitted(np.array([[0.1, 3.0]]), moments, 0.5)
    assert made == pytest.approx(np.array([[0.0, 3.0 + 0.1 * 1.0 / 2.0]]), abs=2e-3)  # damping moves it a little


def test_the_learning_rate_is_chosen_on_held_back_samples_not_on_the_evaluation_file() -> None:
    from trials.tables import chosen

    same = {"model": "m", "samples": None, "method": "a", "sparsity": 0.5, "seed": 0, "steps": 9}
    rows = [
        same | {"rate": 1e-3, "held": 0.8, "accuracy": 0.99},
        same | {"rate": 1e-4, "held": 0.9, "accuracy": 0.70},
        same | {"seed": 1, "rate": 1e-3, "held": 0.1, "accuracy": 0.5},
        same | {"samples": 50, "rate": 1e-3, "held": 0.1, "accuracy": 0.6},
    ]
    assert [row["accuracy"] for row in chosen(rows)] == [0.70, 0.5, 0.6]


def test_the_ratio_of_a_rival_is_the_one_nearest_to_the_parameters_asked_for() -> None:
    from trials.rival_worker import nearest_ratio

    assert nearest_ratio(lambda ratio: (1 - ratio) ** 2, 0.25) == pytest.approx(0.5, abs=0.01)
    assert 0 <= nearest_ratio(lambda _: 1.0, 0.25) < 1  # a tool that cuts nothing still gets an answer


def test_masks_over_the_whole_model_take_the_smallest_of_all_and_pass_gradients_to_their_scores() -> None:
    torch = pytest.importorskip("torch")
    from torch import nn
    from trials.masks import Masker

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 3, bias=False), nn.Linear(3, 7, bias=False))
    with torch.no_grad():
        model[1].weight.mul_(1e-4)
    shares = {"0.weight": 0.4, "1.weight": 12 / 21}  # 18 of 36 together
    found = Masker(model, shares, learned=False, whole=True).masked(1.0)
    assert [int((found[name] == 0).sum()) for name in shares] == [0, 18]
    learned = Masker(model, shares, learned=True, whole=True)
    with torch.no_grad():
        learned.scores[0].fill_(1.0)
    masked = learned.masked(1.0)
    assert int((masked["1.weight"] == 0).sum()) == 18
    sum(value.sum() for value in masked.values()).backward()
    assert all(torch.equal(s.grad, model[i].weight) for i, s in enumerate(learned.scores))


def test_batches_hold_like_lengths_and_each_sample_once_before_any_comes_again() -> None:
    pytest.importorskip("torch", reason="training needs torch")
    from trials.training import Budget, draws

    lengths = np.random.default_rng(0).integers(1, 60, 211)
    budget = Budget(steps=60, rate=0.1, batch=7, seed=3)
    batches = list(draws(lengths, budget))
    assert len(batches) == 60
    assert all(len(batch) == 7 for batch in batches)
    drawn = np.bincount(np.concatenate(batches), minlength=211)
    assert (drawn.min(), drawn.max()) == (1, 2)  # 420 of 211
    spread = np.mean([np.ptp(lengths[batch]) for batch in batches])
    assert spread < 0.2 * np.ptp(lengths)
    assert np.corrcoef(np.arange(60)[:50], [lengths[batch].mean() for batch in batches[:50]])[0, 1] < 0.5  # shuffled


def test_batches_of_equal_lengths_are_random() -> None:
    pytest.importorskip("torch", reason="training needs torch")
    from trials.training import Budget, draws

    batches = list(draws(np.full(40, 5), Budget(steps=5, rate=0.1, batch=8)))
    assert sorted(np.concatenate(batches)) == list(range(40))
    assert list(np.concatenate(batches)) != list(range(40))


def test_zeroing_takes_of_each_matrix_what_the_uniform_cut_takes_of_it(study: Study) -> None:
    from trials.refit import sparsegpt
    from trials.sparsity import shares_of, uniform_at
    from trials.zeroing import by_matrix, share_of_zeros, wanda, with_values

    from onnxmi.capture import silent
    from onnxmi.study import measure_study

    study = replace(study, measured=measure_study(study, None, True, silent))
    counts = uniform_at(study, 0.6)
    shares = shares_of(study, counts)
    sizes = {"w0": (13, 7), "w1": (11, 13), "w2": (3, 11)}
    left = [counts[layer.id] for layer in study.layers]
    kept = {"w0": left[0] * 7, "w1": left[0] * left[1], "w2": left[1] * 3}
    assert shares == {name: pytest.approx(1 - kept[name] / np.prod(sizes[name])) for name in sizes}
    zeros = {name: int((~mask).sum()) for name, mask in by_matrix(study, 0.6).items()}
    assert zeros == {name: np.prod(sizes[name]) - kept[name] for name in sizes}
    for name, mask in wanda(study, 0.6).items():  # of the inputs of each output
        assert set((~mask).sum(axis=1)) == {round(shares[name] * mask.shape[1])}
    values = sparsegpt(study, 0.6)
    assert {n: int((values[n] == 0).sum()) for n in sizes} == zeros
    total = sum(np.prod(size) for size in sizes.values())
    made = with_values(study.model.proto, values)
    assert share_of_zeros(study, made) == pytest.approx(sum(zeros.values()) / total)


def test_least_squares_on_a_support_is_the_regression_on_these_inputs_alone() -> None:
    pytest.importorskip("torch")
    from trials.stepwise import on_support

    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(50, 7)), rng.normal(size=(50, 3))
    kept = rng.random((3, 7)) < 0.5
    kept[1] = False
    found = on_support(x.T @ x, y.T @ x, kept)
    for row, free, target in zip(found, kept, y.T, strict=True):
        assert np.allclose(row[free], np.linalg.lstsq(x[:, free], target, rcond=None)[0])
        assert not row[~free].any()


def test_zeros_repaired_step_by_step_are_as_many_and_better_than_in_one_pass(study: Study) -> None:
    pytest.importorskip("torch")
    from trials.refit import sparsegpt
    from trials.stepwise import repaired_zeros
    from trials.zeroing import share_of_zeros, with_values

    from onnxmi.capture import silent
    from onnxmi.study import measure_study

    study = replace(study, measured=measure_study(study, None, True, silent))
    x = study.data.feed(study.deal.fit)
    dense = ort.InferenceSession(study.model.proto.SerializeToString()).run(None, x)[0]
    errors, shares = [], []
    for repair in (sparsegpt, repaired_zeros):
        made = with_values(study.model.proto, repair(study, 0.6))
        found = ort.InferenceSession(made.SerializeToString()).run(None, x)[0]
        errors.append(np.square(found - dense).sum())
        shares.append(share_of_zeros(study, made))
    assert shares[0] == pytest.approx(shares[1])
    assert errors[1] < 0.8 * errors[0]
    assert np.allclose(found.mean(axis=0), dense.mean(axis=0), atol=1e-4)  # biases take up the means


def test_patches_at_some_positions_are_what_a_convolution_reads_there() -> None:
    torch = pytest.importorskip("torch")
    from trials.stepwise import _positions

    torch.manual_seed(0)
    layer = torch.nn.Conv2d(3, 5, 3, stride=2, padding=1)
    x = torch.randn(4, 3, 7, 11)
    with torch.no_grad():
        patches, results = _positions(layer, x, layer(x), 6, np.random.default_rng(0))
        assert patches.shape == (24, 27)
        assert torch.allclose(patches @ layer.weight.flatten(1).T + layer.bias, results, atol=1e-5)


def test_what_is_zero_when_training_begins_stays_zero() -> None:
    torch = pytest.importorskip("torch")
    from trials.masks import Kept, settle

    layer = torch.nn.Linear(5, 3)
    with torch.no_grad():
        layer.weight[1, 2:] = 0
    kept = Kept(layer, ["weight"])
    masked = kept.masked(0.3)["weight"]
    masked.sum().backward()
    assert not layer.weight.grad[1, 2:].any()
    assert layer.weight.grad[0].all()
    with torch.no_grad():
        layer.weight.add_(1.0)
    settle(layer, kept)
    assert not layer.weight[1, 2:].any()
    assert layer.weight[0].abs().sum() > 0


@pytest.mark.parametrize(("peak", "tried"), [(3e-4, 3), (1e-2, 5), (1e-5, 4)])
def test_the_best_rate_has_a_worse_one_on_both_sides_or_is_at_the_ladders_end(peak: float, tried: int) -> None:
    pytest.importorskip("torch")
    from trials.tuned import best_rate

    asked: list[float] = []

    def held_at(rate: float) -> float:
        asked.append(rate)
        return -abs(np.log(rate / peak))

    assert best_rate((1e-4, 3e-4), held_at) == peak
    assert len(asked) == len(set(asked)) == tried


@pytest.mark.parametrize(
    ("method", "kind"),
    [
        ("magnitude, zeroed over the whole model", "zeroed"),
        ("zeroed, repaired step by step", "zeroed"),
        ("wanda, per output", "zeroed"),
        ("joint", "cut, every layer alike"),
        ("joint MI, cut and repaired", "cut, every layer alike"),
        ("magnitude, allocated and repaired", "cut, sizes allocated"),
    ],
)
def test_the_time_of_a_model_is_that_of_its_shapes(method: str, kind: str) -> None:
    from trials.speed import KINDS
    from trials.tables import kind_of

    assert kind_of(method) == kind
    assert kind in KINDS


def test_a_table_shows_means_ranges_over_seeds_and_how_fast_each_kind_is() -> None:
    from trials.tables import by_kind, free_tables

    same = {"model": "m", "samples": None, "sparsity": 0.5, "dense": 0.9, "bytes": 2_000_000, "gzip": 1_000_000}
    rows = [
        same | {"method": "joint", "repair": True, "seed": seed, "accuracy": 0.80 + 0.02 * seed, "agreement": 0.9}
        for seed in (0, 1)
    ]
    rows.append(same | {"method": "joint", "repair": False, "seed": 0, "accuracy": 0.5, "agreement": 0.6})
    speeds = by_kind(
        [{"model": "m", "kind": "cut, every layer alike", "sparsity": 0.5, "speedup": 2.0, "low": 1.9, "high": 2.1}]
    )
    text = "\n".join(free_tables(rows, speeds))
    assert "| joint | yes | 0.810 / 0.900 (0.800 to 0.820) |" in text
    assert "| joint | no | 0.500 / 0.600 |" in text
    assert "| cut, every layer alike | x 2.00 [1.90, 2.10]; 2.00, 1.00 |" in text
    assert "| zeroed | - |" in text
