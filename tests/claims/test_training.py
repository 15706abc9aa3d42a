"""The parts of tools/claims.py that train: twins, masks, movement scores, repair step by step, learning rates."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from onnxmi.pruning.session import PruningSession
from onnxmi.typing import silent


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


def test_a_twin_computes_what_the_file_does_and_gives_its_weights_back(network: onnx.ModelProto) -> None:
    torch = pytest.importorskip("torch")
    from trials.twin import Twin, written_back

    proto, x = network, np.random.default_rng(2).normal(size=(5, 7)).astype(np.float32)
    twin = Twin(proto)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.mul_(1.5)
        made = twin(torch.from_numpy(x)).numpy()
    again = ort.InferenceSession(written_back(proto, twin).SerializeToString()).run(None, {"x": x})[0]
    assert np.allclose(made, again, atol=1e-5)
    assert not np.allclose(made, ort.InferenceSession(proto.SerializeToString()).run(None, {"x": x})[0], atol=1e-2)


def test_a_plan_carried_into_torch_gives_what_the_cut_file_gives(session: PruningSession) -> None:
    torch = pytest.importorskip("torch")
    from trials.carry import Wires, carry
    from trials.twin import Twin

    from onnxmi.graph.plan import Choice, Plan
    from onnxmi.transforms.cut import Cut
    from onnxmi.transforms.prune_channels import prune_channels

    first, second = sorted(session.layers, key=lambda layer: -layer.size)
    kept = {first: [0, 3, 4, 12], second: [1, 2, 7, 9, 10]}
    choices = [Choice(layer.name, layer.kind, layer.size, np.array(units)) for layer, units in kept.items()]
    plan = Plan(session.model.digest, tuple(choices), {})
    twin = Twin(session.model.proto)
    modules = [f"modules_of.n{index}" for index in (0, 2, 4)]
    carry(
        twin, plan, {first.name: Wires((modules[0],), (modules[1],)), second.name: Wires((modules[1],), (modules[2],))}
    )
    x = np.random.default_rng(3).normal(size=(5, 7)).astype(np.float32)
    cut = prune_channels(Cut(session.analysis, plan.keeping(session.analysis.graph)))
    with torch.no_grad():
        made = twin(torch.from_numpy(x)).numpy()
    assert np.allclose(made, ort.InferenceSession(cut.SerializeToString()).run(None, {"x": x})[0], atol=1e-5)


def test_channels_own_several_positions_behind_a_flatten_and_normalisations_are_cut() -> None:
    torch = pytest.importorskip("torch")
    from torch import nn
    from trials.carry import Wires, carry

    from onnxmi.graph.plan import Choice, Plan

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

    from onnxmi.graph.plan import Choice, Plan

    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(13, 7), nn.LayerNorm(7), nn.Linear(7, 3))
    plan = Plan("", (Choice("stream", "width", 7, np.array(kept := [0, 2, 3, 6])),), {})
    words, tables = torch.tensor([[1, 4, 12]]), model[0].weight.detach().clone()
    wanted = nn.functional.layer_norm(tables[:, kept][words], (4,)) @ model[2].weight[:, kept].T + model[2].bias
    carry(model, plan, {"stream": Wires(("0", "1"), ("2",))})
    assert (model[0].embedding_dim, model[2].in_features) == (4, 4)
    assert torch.allclose(model(words), wanted, atol=1e-6)


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


def test_zeros_repaired_step_by_step_are_as_many_and_better_than_in_one_pass(session: PruningSession) -> None:
    pytest.importorskip("torch")
    from trials.refit import sparsegpt
    from trials.stepwise import repaired_zeros
    from trials.zeroing import share_of_zeros, with_values

    from onnxmi.pruning.session import session_statistics

    session = replace(session, measured=session_statistics(session, None, silent, selects=True))
    x = session.data.feed(session.split.fit)
    dense = ort.InferenceSession(session.model.proto.SerializeToString()).run(None, x)[0]
    errors, shares = [], []
    for repair in (sparsegpt, repaired_zeros):
        made = with_values(session.model.proto, repair(session, 0.6))
        found = ort.InferenceSession(made.SerializeToString()).run(None, x)[0]
        errors.append(np.square(found - dense).sum())
        shares.append(share_of_zeros(session, made))
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
