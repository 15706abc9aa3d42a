"""Times that are made of known work have to be found again."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

import onnxmi
from onnxmi.axes.terms import Dim
from onnxmi.budget import latency_model
from onnxmi.budget.latency_model import KindOfWork, fit_times, sample_sizes
from onnxmi.graph.cost_model import CostModel, Piece
from onnxmi.pruning import latency_cache
from onnxmi.pruning.options import PruneOptions
from onnxmi.pruning.precision import Precision
from onnxmi.pruning.session import start_session
from onnxmi.pruning.timings import Timings
from onnxmi.quantization.quantize import prepare
from onnxmi.runtime import stopwatch
from onnxmi.runtime.cache_folder import VARIABLE
from onnxmi.runtime.timing import Latency

SIZES = {0: np.arange(1, 14), 1: np.arange(1, 18)}
PRODUCTS, ELEMENTS = KindOfWork("MACs", "products"), KindOfWork("elements", "elements")
WORK = {
    PRODUCTS: CostModel.of([Piece(1300.0, (Dim(0, 13), Dim(1, 17)))], SIZES),
    ELEMENTS: CostModel.of([Piece(500.0, (Dim(0, 13),)), Piece(700.0, ())], SIZES),
}


def time_of(draw: dict[int, int]) -> float:
    """3 ms for the products, 2 for the elements, 1 for the rest."""
    share = {kind: work.total(draw) / work.total({}) for kind, work in WORK.items()}
    return 3.0 * share[PRODUCTS] + 2.0 * share[ELEMENTS] + 1.0


def test_what_times_are_made_of_is_found() -> None:
    draws = sample_sizes(SIZES, 24, seed=0)
    found = fit_times(WORK, draws, 6.0, np.array([time_of(draw) for draw in draws]) / 6.0, list(SIZES))
    for draw in [*sample_sizes(SIZES, 7, seed=5), {}]:
        assert found.cost.total(draw) == pytest.approx(time_of(draw), rel=0.01)
    assert found.error < 0.01


def test_no_kind_of_work_takes_negative_time() -> None:
    draws = sample_sizes(SIZES, 24, seed=0)
    odd = np.array([1.0 - 0.4 * draw[0] / 13 for draw in draws])  # the smaller, the slower
    found = fit_times(WORK, draws, 6.0, odd, list(SIZES))
    assert found.cost.fixed >= 0.0
    assert all(piece.full >= 0.0 for piece in found.cost.pieces)


def test_no_kind_of_work_seems_free_where_times_do_not_tell_it_apart() -> None:
    alike = {KindOfWork("MACs", name): WORK[PRODUCTS] for name in ("first", "second")} | {ELEMENTS: WORK[ELEMENTS]}
    draws = sample_sizes(SIZES, 24, seed=0)
    noisy = np.random.default_rng(1).normal(1.0, 0.03, 24) * [time_of(draw) / 6.0 for draw in draws]
    # A second kind that hardly differs from the first takes about as long a unit of work.
    alike[KindOfWork("MACs", "second")] = CostModel.of([Piece(1300.0, (Dim(0, 13), Dim(1, 17)), 2)], SIZES)
    found = fit_times(alike, draws, 6.0, noisy, list(SIZES))
    first, second = (sum(p.full for p in found.cost.pieces if len(p.terms) == 2 and p.block == b) for b in (1, 2))
    assert 0.5 < first / second < 2.0
    assert first + second == pytest.approx(3.0, rel=0.2)


def test_draws_are_seeded_usable_and_cover_the_range() -> None:
    draws = sample_sizes({0: np.array([0, 4, 8, 16]), 1: np.array([3, 7])}, 16, seed=2)
    assert draws == sample_sizes({0: np.array([0, 4, 8, 16]), 1: np.array([3, 7])}, 16, seed=2)
    assert {draw[0] for draw in draws} == {4, 8, 16}
    assert {draw[1] for draw in draws} == {3, 7}


@pytest.fixture
def session(mlp, samples):
    model = onnxmi.Model.of(mlp((6, 32, 48, 4)))
    return start_session(model, {"x": samples()}, PruneOptions(threads=1))


def test_times_are_kept_and_used_again(session, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "kept"))
    sizes = {layer.id: np.array([8, 16, layer.size]) for layer in session.layers}
    first = latency_cache.latency_model(session, sizes)
    (path,) = (tmp_path / "kept").iterdir()
    monkeypatch.setattr(latency_cache, "time_cuts", lambda *_: pytest.fail("timed again"))
    again = latency_cache.latency_model(session, sizes)
    assert again.cost.total({}) == first.cost.total({})
    assert len(json.loads(path.read_text())) == 1


def test_the_times_of_a_model_are_not_those_of_what_it_is_looked_at_as(session, mlp) -> None:
    draws = [{layer.id: 8 for layer in session.layers}]
    other = replace(session.analysis.model, proto=mlp((6, 32, 48, 4), prefix="renamed"))
    looked_at = replace(session, analysis=replace(session.analysis, model=other))
    assert looked_at.model.digest == session.model.digest
    assert latency_cache._key(looked_at, draws) != latency_cache._key(session, draws)


def test_8_bit_files_are_timed_where_every_cut_is_quantized(session, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    timed, originals = [], []

    def measure(protos, *_, **__):
        timed.extend(protos[1:])
        originals.append(protos[0])
        return tuple(Latency(np.array([2.0 if one == 0 else 1.0])) for one in range(len(protos)))

    monkeypatch.setattr(stopwatch, "measure_latency", measure)
    quantized = replace(session, precision=Precision(prepare(session.model.proto).everything("dynamic")))
    sizes = {layer.id: np.array([8, 16, layer.size]) for layer in session.layers}
    latency_cache.latency_model(quantized, sizes)
    assert len(timed) == latency_model.QUANTIZED_PROBES
    assert all("MatMulInteger" in {node.op_type for node in proto.graph.node} for proto in (*timed, *originals))
    assert len(originals) * latency_model.IN_TURN == len(timed)  # the original runs once for several cuts
    latency_cache.latency_model(session, sizes)
    assert len(timed) == latency_model.QUANTIZED_PROBES + latency_model.PROBES  # those of 8-bit files are not taken


@pytest.mark.parametrize("content", ["", "[]", "{", '{"a": 1}', '{"a": [1, ["x"]]}'])
def test_a_damaged_table_is_measured_anew(session, tmp_path, monkeypatch, content) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    monkeypatch.setattr(latency_cache, "time_cuts", lambda *_: (2.0, np.full(latency_cache.PROBES, 0.5)))
    sizes = {layer.id: np.array([8, 16, layer.size]) for layer in session.layers}
    latency_cache.latency_model(session, sizes)
    (path,) = tmp_path.iterdir()
    path.write_text(content)
    again = replace(session, timings=Timings())
    assert latency_cache.latency_model(again, sizes).cost.total({}) > 0.0
    assert len(json.loads(path.read_text())) == 1


def test_a_folder_that_cannot_be_written_is_no_error(session, tmp_path, monkeypatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(VARIABLE, str(tmp_path / "file" / "below"))
    monkeypatch.setattr(latency_cache, "time_cuts", lambda *_: (2.0, np.full(latency_cache.PROBES, 0.5)))
    sizes = {layer.id: np.array([8, 16, layer.size]) for layer in session.layers}
    assert latency_cache.latency_model(session, sizes).cost.total({}) > 0.0


def test_two_runs_at_once_leave_a_whole_table(tmp_path) -> None:
    """Each writes the whole file in one step: an entry may be lost to the other run, and measured again, never torn."""
    path = tmp_path / "times.json"
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: latency_cache._write(path, f"key{number}", (1.0, [0.5] * 50)), range(40)))
    kept = latency_cache._read(path)
    assert kept
    assert all(times == (1.0, [0.5] * 50) for times in kept.values())
    assert [entry.name for entry in tmp_path.iterdir()] == ["times.json"]
