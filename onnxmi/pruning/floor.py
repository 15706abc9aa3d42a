"""What is refused whatever was asked: a promise on too few samples, and a result whose outputs are lost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import onnx

from onnxmi.budget.allocate import Limit, allocate
from onnxmi.budget.goals import COSTS, Kind, option
from onnxmi.errors import CalibrationError, CheckError
from onnxmi.evaluation.damage_limits import loss_text, lost, severity
from onnxmi.evaluation.yardstick import Damage, Part
from onnxmi.graph.channel_graph import UnitCounts
from onnxmi.outputs.view import Kind as OutputKind
from onnxmi.pruning.cost_search import SearchResult
from onnxmi.pruning.session import PruningSession
from onnxmi.pruning.sizing import SizingProblem

FEWEST = 32  # distinct samples that a promised loss takes, where a sample has one answer
FEWEST_OF: Mapping[OutputKind, int] = {"map": 8, "detections": 8, "sequence": 16, "signal": 8}  # where it has many
ENOUGH_TEST_SAMPLES = 64  # with fewer, chance moves the damage of a column by more than a sixth
LEFT = 0.5  # of the damage that an output is lost at: what the advice aims at
SHARES = np.linspace(0.95, 0.1, 18)  # of a cost, at which the predicted damage is looked at


def require_samples(session: PruningSession) -> None:
    """Refuse to promise a loss on fewer distinct samples than that takes.

    Raises
    ------
    CalibrationError
        Where a loss is searched for, and `few_samples` is not set.
    """
    if session.options.few_samples or session.options.budget.drop is None:
        return
    distinct = len(np.unique(session.data.fingerprints))
    kinds = {view.kind for view in session.outputs.meaning.views}
    fewest = max((FEWEST_OF.get(kind, FEWEST) for kind in kinds if kind != "state"), default=FEWEST)
    if distinct < fewest:
        equal = f" ({session.data.count} including duplicates)" if distinct < session.data.count else ""
        many = "sample" if distinct == 1 else "samples"
        raise CalibrationError(
            f"{distinct} distinct {many}{equal}: too few to promise a loss; give {fewest} or more, ask for a cost"
            " (--keep, --macs, --max-size), or accept a weaker promise with --few-samples"
        )


def require_outputs(session: PruningSession, result: SearchResult, damage: Damage) -> None:
    """Refuse a result whose outputs are lost on the test samples, or on more samples where those are few.

    Parameters
    ----------
    damage : Damage
        On the test samples.

    Raises
    ------
    CheckError
        With the output that lost most, and what the budget would have to be, where that can be told.
    """
    damages = [damage, *_damage_on_more(session, result.candidate.result)]
    gone = sorted((part for one in damages for part in lost(one)), key=severity, reverse=True)
    if not gone:
        return
    worst = gone[0]
    others = len({part.view.name for part in gone}) - 1
    more = f" (and {others} more)" if others else ""
    raise CheckError(
        f"not written: {loss_text(worst)}{more}; {_advice(session, result, worst)}, or write it with --force"
    )


def _damage_on_more(session: PruningSession, proto: onnx.ModelProto) -> Iterator[Damage]:
    """Measure the damage on samples that a choice or a fit has seen, where there are few others.

    Damage on samples that weights were fitted to is too low, so an output that is lost there is lost.
    """
    if len(session.split.test) < ENOUGH_TEST_SAMPLES:
        for samples in (session.not_fitted_set, session.means_set):
            yield samples.damage(samples.answers(proto))


def _advice(session: PruningSession, result: SearchResult, worst: Part) -> str:
    """Say what would leave half of the most: from the prices, in the proportion in which they fell short here."""
    problem, names = (
        result.problem,
        [name for name in session.options.budget.costs if name in ("macs", "params", "speedup")],
    )
    if problem is None or not names:
        return "ask for less"
    kind = COSTS[names[0]]
    whole = problem.source[kind]
    here = _predicted(problem, kind, problem.costs[kind].total(_counts(session, result))) or 1e-12
    enough = [share for share in SHARES if _predicted(problem, kind, share * whole) / here * severity(worst) <= LEFT]
    if not enough:
        return "ask for less"
    share = min(enough)
    asked = f"{1 / share:.2g}" if names[0] == "speedup" else f"{share:.2g}"
    return f"about {option(names[0])} {asked} would keep it"


def _counts(session: PruningSession, result: SearchResult) -> UnitCounts:
    by_name = {layer.name: layer.id for layer in session.layers}
    return {by_name[choice.layer]: choice.count for choice in result.candidate.plan.choices if choice.layer in by_name}


def _predicted(problem: SizingProblem, kind: Kind, most: float) -> float:
    """Return the sum of the prices of the sizes that a cost allows; infinite where it allows none."""
    size_options = problem.size_options
    counts = allocate(size_options, [Limit(problem.costs[kind], most)])
    if counts is None:
        return float("inf")
    return float(sum(options.damage[options.sizes == counts[layer]].sum() for layer, options in size_options.items()))
