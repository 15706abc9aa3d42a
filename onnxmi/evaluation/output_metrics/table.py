"""Which metrics fit which output."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from onnxmi.evaluation.output_metrics.classes import (
    ACCURACY,
    AGREEMENT,
    AUC,
    CERTAIN,
    F1,
    KL,
    RANKS,
    best_of,
    metrics_of_classes,
)
from onnxmi.evaluation.output_metrics.column_reader import fitted_labels, look_like_logits
from onnxmi.evaluation.output_metrics.detections import (
    BOX_F1,
    BOX_IOU,
    BOX_PRECISION,
    BOX_RECALL,
    finds_boxes,
    metrics_of_detections,
)
from onnxmi.evaluation.output_metrics.maps import CELL_F1, CLASS_IOU, IOU, IOU_LOW, metrics_of_maps
from onnxmi.evaluation.output_metrics.numbers import (
    COSINE,
    EXPLAINED,
    NEIGHBOR_ORDER,
    R2,
    SNR,
    WORST_R2,
    metrics_of_embeddings,
)
from onnxmi.evaluation.output_metrics.output_metric import ComparedOutput, OutputMetric, rows_of
from onnxmi.evaluation.output_metrics.sequences import CHARACTERS, LINES, metrics_of_sequences
from onnxmi.outputs.view import Answers, Kind, Meaning, View
from onnxmi.typing import Array

Choice = Callable[[ComparedOutput, Answers, Array | None], tuple[OutputMetric, ...]]

_TOP = re.compile(r"top-?([1-9][0-9]*)")
_CHOICES: Mapping[Kind, Choice] = {
    "classes": metrics_of_classes,
    "values": lambda *_: (WORST_R2, R2),
    "map": metrics_of_maps,
    "sequence": metrics_of_sequences,
    "detections": metrics_of_detections,
    "embedding": metrics_of_embeddings,
    "signal": lambda *_: (EXPLAINED, SNR),
    "state": lambda *_: (EXPLAINED,),
}
OUTPUT_METRICS: Mapping[str, OutputMetric] = {
    meter.name: meter
    for meter in (
        *(ACCURACY, AGREEMENT, CERTAIN, F1, KL, RANKS, AUC),
        *(WORST_R2, R2, EXPLAINED, SNR, COSINE, NEIGHBOR_ORDER),
        *(IOU, IOU_LOW, CELL_F1, CLASS_IOU, CHARACTERS, LINES, BOX_F1, BOX_RECALL, BOX_PRECISION, BOX_IOU),
    )
}
"""All metrics, by name."""


def metrics_for(subject: ComparedOutput, original: Answers, labels: Array | None = None) -> tuple[OutputMetric, ...]:
    """Return the metrics that fit an output, by its kind and by what the original answers.

    The first one's loss decides whether a model loses more than it may.

    Parameters
    ----------
    subject : Subject
        What is compared.
    original : Answers
        The original's.
    labels : array, optional
        Used where they are labels of this output.
    """
    return _CHOICES[subject.kind](subject, original, labels)


def find_output_metric(name: str) -> OutputMetric | None:
    """Return a metric by its name, topK for any K among them; None if there is no such metric."""
    plain = name.strip().lower()
    top = _TOP.fullmatch(plain)
    return best_of(int(top[1])) if top else OUTPUT_METRICS.get(plain)


def fits(meter: OutputMetric, subject: ComparedOutput, original: Answers, labels: Array | None = None) -> bool:
    """Whether a metric that a user asks for can be taken of an output."""
    names = {known.name for known in metrics_for(subject, original, labels)}
    top = _TOP.fullmatch(meter.name)
    if top is None:
        return meter.name in names
    width = next(rows.shape[1] for rows in rows_of(subject.view, original))
    return AGREEMENT.name in names and int(top[1]) < width


def compared_outputs(meaning: Meaning, original: Answers, labels: Array | None = None) -> tuple[ComparedOutput, ...]:
    """Return what metrics are taken of: every view that has weight; those of detections together.

    Detections of which no boxes can be read are taken for what their parts look like. What the graph leaves open,
    labels and the original's answers settle: numbers without a Softmax may be logits or plain numbers.
    """
    told = [view for view in meaning.views if view.weight > 0 and view.tensor in original.values]
    views = [_settled(_even(view, original), original, labels) for view in told]
    group = tuple(view for view in views if view.kind == "detections")
    outputs = tuple(dict.fromkeys(view.output for view in group))
    beside = tuple(name for name in meaning.ignored if name in original.values)
    boxed = next((names for names in (outputs, (*outputs, *beside)) if group and finds_boxes(original, names)), None)
    found = [subject for view in views if view not in group or boxed is None for subject in _of(view)]
    if boxed is not None:
        found.append(ComparedOutput(", ".join(outputs), "detections", group, boxed))
    return tuple(found)


def _of(view: View) -> Iterator[ComparedOutput]:
    kind: Kind = view.kind
    if kind == "detections":
        kind = "values" if view.link == "identity" else "classes"
    yield ComparedOutput(view.name, kind, (view,))


def _settled(view: View, original: Answers, labels: Array | None) -> View:
    """Return the view with the kind that labels and answers speak for, where the graph leaves it open."""
    single = view.kind == "values" and view.columns == 1
    if view.link != "identity" or not (view.tentative or single):
        return view
    classes = ComparedOutput(view.name, "classes", (replace(view, kind="classes"),))
    if fitted_labels(labels, classes, original) is not None:
        return classes.view
    return replace(view, kind="values") if view.kind == "classes" and not look_like_logits(classes, original) else view


def _even(view: View, original: Answers) -> View:
    """Return the view with one column where samples have different numbers of them."""
    widths = {rows.shape[1] for rows in rows_of(view, original)}
    return view if len(widths) == 1 else replace(view, axes=())
