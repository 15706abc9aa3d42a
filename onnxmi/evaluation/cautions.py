"""What the samples cannot say of a result, in words."""

from __future__ import annotations

from collections.abc import Iterator

from onnxmi.evaluation.evaluation_set import EvaluationSet
from onnxmi.evaluation.judgement import Judgement
from onnxmi.evaluation.output_metrics.output_metric import rows_of


def cautions(panel: EvaluationSet, judgement: Judgement, drop: float | None) -> list[str]:
    """Return notes for the user.

    Parameters
    ----------
    drop : float or None
        The loss that was promised, in points.
    """
    promised = judgement.readings.items() if drop is not None else ()
    doubts = [(readings[0].metric, name, readings[0].loss.doubt(drop or 0.0)) for name, readings in promised]
    undecided = [f"{metric} of {name}: {doubt}; the damage decided" for metric, name, doubt in doubts if doubt]
    return [*_missing_classes(panel), *undecided]


def _missing_classes(panel: EvaluationSet) -> Iterator[str]:
    """Say where every sample that is held back has the same answer."""
    for view in panel.meaning.views:
        count = len(panel.reference.values.get(view.tensor, ()))
        if view.kind != "classes" or view.link == "sigmoid" or not view.axes or view.columns < 2 or count < 2:
            continue
        tops = {int(top) for rows in rows_of(view, panel.reference) for top in rows.argmax(1)}
        if len(tops) == 1:
            yield (
                f"{view.name}: all {count} test samples have the top class {tops.pop()}: losses of"
                f" the other {view.columns - 1} classes cannot be counted; only their damage is measured"
            )
