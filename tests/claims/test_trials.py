"""The parts of tools/claims.py that need no torch: what sparsity means, what is zeroed, and what tables show."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from onnx import numpy_helper

from onnxmi.pruning.session import PruningSession
from onnxmi.typing import silent


def test_sparsity_is_the_share_of_the_matrices_that_goes(session: PruningSession) -> None:
    from trials.sparsity import prunable, sparsity_of

    assert set(prunable(session)) == {"w0", "w1", "w2"}
    first, second = sorted(session.layers, key=lambda layer: -layer.size)
    left = 5 * 7 + 4 * 5 + 3 * 4
    total = 13 * 7 + 11 * 13 + 3 * 11
    assert sparsity_of(session, {first.id: 5, second.id: 4}) == pytest.approx(1 - left / total)


@pytest.mark.parametrize("wanted", [0.1, 0.3, 0.53, 0.8])
def test_the_uniform_cut_is_the_one_nearest_to_a_sparsity(session: PruningSession, wanted: float) -> None:
    from trials.sparsity import sparsity_of, uniform_at

    from onnxmi.budget.size_grid import uniform

    reached = sparsity_of(session, uniform_at(session, wanted))
    every = [sparsity_of(session, uniform(session.layers, keep)) for keep in np.linspace(0, 1, 500)]
    assert abs(reached - wanted) == pytest.approx(min(abs(s - wanted) for s in every))


def test_an_allocated_cut_has_no_more_parameters_than_the_uniform_one(session: PruningSession) -> None:
    from trials.sparsity import uniform_at
    from trials.structured import Priced, allocated_cut, with_options

    from onnxmi.graph.cost import parameters
    from onnxmi.model import Graph
    from onnxmi.pruning.cost_search import plain
    from onnxmi.pruning.session import session_statistics

    measured = replace(session, measured=session_statistics(session, None, silent, selects=True))
    measured = with_options(measured, repair=False)
    proto, reached = allocated_cut(measured, 0.5, Priced().of(measured))
    assert parameters(Graph(proto)) <= parameters(Graph(plain(session, uniform_at(session, 0.5))))
    assert 0.3 < reached < 1.0


def test_zeroing_takes_the_smallest_of_each_matrix_or_of_all(session: PruningSession) -> None:
    from trials.zeroing import by_matrix, by_model, zeroed

    for masks in (by_matrix(session, 0.4), by_model(session, 0.4)):
        gone = sum(int((~mask).sum()) for mask in masks.values())
        assert gone == pytest.approx(0.4 * sum(mask.size for mask in masks.values()), abs=2)
    weights = {name: np.abs(session.model.graph.constant(name)) for name in masks}
    assert max(w[~masks[n]].max() for n, w in weights.items()) <= min(w[masks[n]].min() for n, w in weights.items())
    stored = {t.name: numpy_helper.to_array(t) for t in zeroed(session.model.proto, masks).graph.initializer}
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


def test_zeroing_takes_of_each_matrix_what_the_uniform_cut_takes_of_it(session: PruningSession) -> None:
    from trials.refit import sparsegpt
    from trials.sparsity import shares_of, uniform_at
    from trials.zeroing import by_matrix, share_of_zeros, wanda, with_values

    from onnxmi.pruning.session import session_statistics

    session = replace(session, measured=session_statistics(session, None, silent, selects=True))
    counts = uniform_at(session, 0.6)
    shares = shares_of(session, counts)
    sizes = {"w0": (13, 7), "w1": (11, 13), "w2": (3, 11)}
    left = [counts[layer.id] for layer in session.layers]
    kept = {"w0": left[0] * 7, "w1": left[0] * left[1], "w2": left[1] * 3}
    assert shares == {name: pytest.approx(1 - kept[name] / np.prod(sizes[name])) for name in sizes}
    zeros = {name: int((~mask).sum()) for name, mask in by_matrix(session, 0.6).items()}
    assert zeros == {name: np.prod(sizes[name]) - kept[name] for name in sizes}
    for name, mask in wanda(session, 0.6).items():  # of the inputs of each output
        assert set((~mask).sum(axis=1)) == {round(shares[name] * mask.shape[1])}
    values = sparsegpt(session, 0.6)
    assert {n: int((values[n] == 0).sum()) for n in sizes} == zeros
    total = sum(np.prod(size) for size in sizes.values())
    made = with_values(session.model.proto, values)
    assert share_of_zeros(session, made) == pytest.approx(sum(zeros.values()) / total)


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
    from trials.kinds import KINDS, kind_of

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
