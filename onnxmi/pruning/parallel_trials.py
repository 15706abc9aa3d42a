"""Whole plans by many workers: points of a sweep, each at some worker, and the trials of a search for a loss.

The next trial of a search depends on the damage of the last one, so a search keeps one worker busy at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import onnx

from onnxmi.evaluation.judgement import Judgement
from onnxmi.execution.executor import Task, run_all
from onnxmi.graph.channel_graph import UnitCounts
from onnxmi.graph.plan import load_plan
from onnxmi.model import save
from onnxmi.model.save import write_atomically
from onnxmi.outputs.view import Answers
from onnxmi.pruning.execute import Candidate
from onnxmi.pruning.loss_search import judged_trial
from onnxmi.pruning.session import PruningSession
from onnxmi.pruning.shared_session import ParallelRun, SharedSession, read_back
from onnxmi.pruning.sweep import DroppedPoint, JudgedPoint, judged_point
from onnxmi.runtime.session import limited
from onnxmi.typing import Progress, silent

_ELSEWHERE = onnx.ModelProto()  # stands for a model that is in a file


# -- sweeps ------------------------------------------------------------------------------------------------------------


def judge_point(shared: SharedSession, share: float, counts: UnitCounts, target: str) -> JudgedPoint | DroppedPoint:
    """Make and judge a model of the curve, and leave it in a file; a task. What is returned lacks the model."""
    session = shared.session()
    with limited(shared.threads):
        point = judged_point(session, share, counts)
    if isinstance(point, DroppedPoint):
        return point
    save(point.proto, target)
    return replace(point, proto=_ELSEWHERE)


def judge_points(
    run: ParallelRun, session: PruningSession, wanted: Sequence[tuple[float, UnitCounts]], progress: Progress
) -> list[JudgedPoint | DroppedPoint]:
    """Make and judge the models of a sweep, as `onnxmi.pruning.sweep.judge_here` does."""
    shared = run.shared(session)
    targets = [run.new_file(".onnx") for _ in wanted]
    tasks = [
        Task("sweep", judge_point, (shared, share, counts, str(target)))
        for (share, counts), target in zip(wanted, targets, strict=True)
    ]
    points = run_all(run.workers.executor, tasks, progress)
    return [
        point if isinstance(point, DroppedPoint) else replace(point, proto=read_back(session, path))
        for point, path in zip(points, targets, strict=True)
    ]


# -- searches ----------------------------------------------------------------------------------------------------------


def try_counts(shared: SharedSession, counts: UnitCounts, repair: str, target: str) -> tuple[Candidate, Judgement]:
    """Make and judge a model of a search, and leave it in files; a task. What is returned lacks models and answers."""
    session = shared.session()
    with limited(shared.threads):
        candidate, judgement = judged_trial(session, counts, repair)
    path = Path(target)
    save(candidate.proto, path)
    if candidate.quantized is not None:
        save(candidate.quantized, _quantized(path))
    write_atomically(_plan(path), candidate.plan.to_json().encode())
    bare = replace(
        candidate,
        proto=_ELSEWHERE,
        plan=replace(candidate.plan, choices=(), quantization=None),
        quantized=None if candidate.quantized is None else _ELSEWHERE,
    )
    return bare, _without_answers(judgement)


def _without_answers(judgement: Judgement) -> Judgement:
    fitted = None if judgement.fitted is None else _without_answers(judgement.fitted)
    return replace(judgement, answers=Answers(judgement.answers.count, {}), fitted=fitted)


def tried(
    run: ParallelRun, session: PruningSession, counts: UnitCounts, repair: str, _: Progress
) -> tuple[Candidate, Judgement]:
    """Make and judge a model of a search, as `onnxmi.pruning.loss_search.judged_trial` does."""
    shared = run.shared(session)
    path = run.new_file(".onnx")
    task = Task("search", try_counts, (shared, counts, repair, str(path)))
    ((bare, judgement),) = run_all(run.workers.executor, [task], silent)
    whole = replace(
        bare,
        proto=read_back(session, path),
        plan=load_plan(_plan(path)),
        quantized=None if bare.quantized is None else read_back(session, _quantized(path)),
    )
    return whole, judgement


def _quantized(path: Path) -> Path:
    return path.with_suffix(".8-bit.onnx")


def _plan(path: Path) -> Path:
    return path.with_suffix(".plan.json")
