"""What each part of the method is worth: one thing changed at a time, everything else as the product does it.

All at one sparsity with equal shares of every layer, unless the row is about budgets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import onnx

from onnxmi.graph.plan import Choice, Plan
from onnxmi.pruning.cost_search import satisfy_cost_budgets
from onnxmi.pruning.execute import execute_plan, make_plan, select_options
from onnxmi.pruning.session import PruningSession
from onnxmi.pruning.sizing import sizing_problem
from onnxmi.selection import joint, top_down
from trials.cases import Case
from trials.records import Records, Row
from trials.sparsity import sparsity_of, uniform_at
from trials.structured import counts_of, with_options

SAMPLES = (16, 32, 64, 128, 256, 512, 1024)
MORE_SAMPLES = (2048, 4096)  # than the calibration files hold
NOISES = (1e-4, 1e-2, 1e-1, 1.0, 10.0)
WIDTH_MACS = 0.5


@contextmanager
def swapped(module: Any, name: str, value: Any) -> Iterator[None]:
    """Replace a function of a module for a while."""
    before = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, before)


class Ablations:
    """The rows of one model at one sparsity."""

    def __init__(self, case: Case, records: Records, sparsity: float, data: Path | None = None) -> None:
        self._case, self._records, self._sparsity, self._data = case, records, sparsity, data
        self._studies: dict[tuple[int, int | None], PruningSession] = {}

    def run(self, seeds: tuple[int, ...], parts: tuple[str, ...]) -> None:
        for seed in seeds:
            for part in parts:
                for setting, make in PARTS[part].items():
                    key = {
                        "model": self._case.name,
                        "part": part,
                        "setting": setting,
                        "sparsity": self._sparsity,
                        "seed": seed,
                        "samples": self._case.samples,
                    }
                    self._records.ensure(key, lambda m=make, s=seed: self._judged(m(self, s)))

    def _judged(self, made: tuple[onnx.ModelProto, PruningSession, Plan]) -> Row:
        proto, session, plan = made
        macs = session.cost(proto).macs / session.cost(session.source.proto).macs
        return {"reached": sparsity_of(session, counts_of(session, plan)), "macs": macs} | self._case.judge.quality(
            proto
        )

    def session(self, seed: int, samples: int | None = None, **options: Any) -> PruningSession:
        if (seed, samples) not in self._studies:
            self._studies = {(seed, samples): self._case.session(seed, self._case.calibration(samples, self._data))}
        return with_options(self._studies[seed, samples], **options)

    def cut(self, session: PruningSession, **how: Any) -> tuple[onnx.ModelProto, PruningSession, Plan]:
        plan = make_plan(session, uniform_at(session, self._sparsity))
        return execute_plan(session, plan, **how).proto, session, plan

    def plain(
        self, seed: int, samples: int | None = None, **options: Any
    ) -> tuple[onnx.ModelProto, PruningSession, Plan]:
        return self.cut(self.session(seed, samples, **options))

    def ordered(self, seed: int, upwards: bool, repair: bool) -> tuple[onnx.ModelProto, PruningSession, Plan]:
        """Choose the layers in another order: those above a layer are then still whole when it is chosen."""
        down = top_down.top_down
        order = (lambda layers: down(layers)[::-1]) if upwards else down
        with swapped(top_down, "top_down", order):
            return self.plain(seed, repair=repair)

    def unordered(self, seed: int, repair: bool) -> tuple[onnx.ModelProto, PruningSession, Plan]:
        """Rank each layer by what it tells of the whole layers above."""
        session = self.session(seed, repair=repair)
        found, counts = session.analysis, uniform_at(session, self._sparsity)
        settings = select_options(session.options)
        rankings = top_down.rank_channels(found, session.measured.fit, session.layers, settings)
        kept = {i: ranking.kept(counts[i]).indices for i, ranking in rankings.items()}
        choices = [
            Choice(layer.name, layer.kind, layer.size, kept[layer.id])
            for layer in found.graph.layers
            if layer.id in kept and counts[layer.id] < layer.size
        ]
        plan = Plan(found.model.digest, tuple(choices), session.options.shown)
        return execute_plan(session, plan).proto, session, plan

    def noisy(self, seed: int, noise: float, repair: bool) -> tuple[onnx.ModelProto, PruningSession, Plan]:
        with swapped(joint, "SENSITIVITY_NOISE", noise):
            return self.plain(seed, repair=repair)

    def stepless(self, seed: int) -> tuple[onnx.ModelProto, PruningSession, Plan]:
        return self.cut(self.session(seed), stepwise=False)

    def budgeted(self, seed: int, cut: tuple[str, ...], macs: float) -> tuple[onnx.ModelProto, PruningSession, Plan]:
        """Uneven sizes within a budget of MACs, of some kinds of layers."""
        session = with_options(self.session(seed), keep=None, macs=macs, cut=cut)
        session = replace(session, layers=tuple(layer for layer in session.analysis.graph.layers if layer.kind in cut))
        found = satisfy_cost_budgets(session, sizing_problem(session, {"macs"})).candidate
        return found.proto, session, found.plan


def _both(settings: Mapping[str, Callable[..., Any]]) -> dict[str, Callable[..., Any]]:
    """Each setting with and without repair."""
    return {
        name + ("" if repair else ", no repair"): partial(make, repair=repair)
        for repair in (True, False)
        for name, make in settings.items()
    }


PARTS: Mapping[str, Mapping[str, Callable[..., tuple[onnx.ModelProto, PruningSession, Plan]]]] = {
    "order": _both(
        {
            "top-down": partial(Ablations.ordered, upwards=False),
            "bottom-up": partial(Ablations.ordered, upwards=True),
            "none": Ablations.unordered,
        }
    ),
    "information": _both(
        {name: partial(Ablations.plain, score=name) for name in ("joint", "pairwise")},
    ),
    "sensitivity": _both(
        {
            "output sensitivity": Ablations.plain,
            "all alike": partial(Ablations.plain, sensitivity=False),
        }
    ),
    "target": _both(
        {name: partial(Ablations.plain, target=name) for name in ("outputs", "labels")},
    ),
    "noise": _both({f"{noise:g}": partial(Ablations.noisy, noise=noise) for noise in NOISES}),
    "samples": {str(n): partial(Ablations.plain, samples=n) for n in SAMPLES},
    "more samples": {str(n): partial(Ablations.plain, samples=n) for n in MORE_SAMPLES},
    "repair": {
        "step by step": Ablations.plain,
        "one pass": Ablations.stepless,
        "none": partial(Ablations.plain, repair=False),
    },
    "width": {
        "heads and ffn": partial(Ablations.budgeted, cut=("heads", "ffn"), macs=WIDTH_MACS),
        "width": partial(Ablations.budgeted, cut=("width",), macs=WIDTH_MACS),
        "all three": partial(Ablations.budgeted, cut=("heads", "ffn", "width"), macs=WIDTH_MACS),
    },
}
QUICK = ("order", "information", "sensitivity", "target", "noise", "samples", "repair")


def make_ablations(
    folder: Path,
    name: str,
    samples: int | None,
    sparsity: float,
    data: Path | None,
    seeds: tuple[int, ...],
    parts: tuple[str, ...],
    records: Records,
) -> None:
    """Make the rows of one model and some seeds."""
    Ablations(Case(folder, name, samples), records, sparsity, data).run(seeds, parts)
