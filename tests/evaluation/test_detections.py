"""Boxes: the layouts they come in, and how they are matched with the original's."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from onnxmi.evaluation.output_metrics import (
    ComparedOutput,
    compared_outputs,
)
from onnxmi.evaluation.output_metrics.layouts import find_layout
from onnxmi.outputs.view import Answers, Meaning
from tests.support.answers import (
    CASES,
    VALUES,
    VIEW,
    answers,
    read,
    scene,
)


def _boxes(outputs, arrays):
    count = len(next(iter(arrays.values())))
    found = Answers(count, {name: tuple(array) for name, array in arrays.items()})
    return ComparedOutput("b", "detections", (replace(VIEW, kind="detections", axes=()),), tuple(outputs)), found


def _layouts():
    """One scene in the usual layouts."""
    yolo = scene()
    places, scores = np.moveaxis(yolo[:, :4], 1, 2), np.moveaxis(yolo[:, 4:], 1, 2)
    corners = np.concatenate([places[..., :2] - places[..., 2:] / 2, places[..., :2] + places[..., 2:] / 2], -1)
    best = np.argsort(-scores.max(-1), axis=1, kind="stable")[:, :7]
    top = [np.take_along_axis(array, best[..., None], 1) for array in (corners, scores)]
    classes = top[1].argmax(-1).astype(np.float32)
    ended = np.concatenate([top[0], top[1].max(-1, keepdims=True), classes[..., None]], -1)
    objectness = scores.max(-1, keepdims=True)
    relative = scores / np.maximum(objectness, 1e-9)
    return {
        "columns of places": {"y": yolo},
        "rows with objectness": {"y": np.concatenate([places, objectness, relative], -1)},
        "after NMS": {"y": ended},
        "corners beside scores": {"b": corners, "s": scores},
        "centres beside transposed scores": {"b": places, "s": np.moveaxis(scores, 1, 2)},
        "logits beside": {"b": corners, "s": np.log(np.maximum(scores, 1e-9) / (1 - scores))},
        "three outputs": {"b": top[0], "s": top[1].max(-1), "c": classes.astype(np.int64)},
    }


@pytest.mark.parametrize("layout", _layouts())
def test_boxes_are_read_in_every_usual_layout(layout):
    """The scene has five boxes a sample. A model that drops every fifth and moves another far away loses these."""
    arrays = _layouts()[layout]
    subject, original = _boxes(arrays, arrays)
    found = find_layout(original, subject.outputs)
    assert found is not None
    boxes = found.boxes({name: array[0] for name, array in arrays.items()})
    reference = scene()[0]
    kept = np.argsort(-boxes.scores, kind="stable")[:5]
    top = np.argsort(-reference[4:].max(0), kind="stable")[:5]
    assert boxes.scores[kept] == pytest.approx(reference[4:].max(0)[top], abs=1e-6)
    assert boxes.classes[kept].tolist() == reference[4:].argmax(0)[top].tolist()
    assert boxes.corners[kept][:, 0] == pytest.approx(reference[0, top] - reference[2, top] / 2, abs=1e-3)
    assert read("box-f1", subject, original, original).now == 1
    assert read("box-recall", subject, original, original).loss.n == 29


def test_recall_precision_and_overlap():
    yolo = scene()
    cut = yolo.copy()
    for sample in cut:
        there = np.flatnonzero(sample[4:].max(0) > 0.25)
        sample[4:, there[0]] = 0  # lost
        sample[0, there[1]] += 1000  # lost, and found elsewhere
        sample[2, there[2]] *= 1.25  # moved a little: overlap 0.8
        empty = np.flatnonzero(sample[4:].max(0) == 0)[:1]
        sample[4, empty] = 0.5  # new, but on the place that was emptied or another one
    subject, original = CASES["detections"]
    made = answers(cut)
    assert read("box-recall", subject, original, made).now == pytest.approx(3 / 5, abs=0.02)
    assert read("box-precision", subject, original, made).now == pytest.approx(3 / 5, abs=0.02)
    found = read("box-f1", subject, original, made)
    assert found.now == pytest.approx(3 / 5, abs=0.02)
    assert found.loss.flips_lost == pytest.approx(4 * 29, abs=6)  # two of five lost, and two that are new
    assert read("box-iou", subject, original, made).now == pytest.approx((1 + 1 + 0.8) / 3, abs=0.01)


def test_a_lower_score_is_tried_where_nothing_is_found():
    faint = scene()
    faint[:, 4:] *= 0.12
    subject, original = _boxes("y", {"y": faint})
    assert read("box-f1", subject, original, original).now == 1


def test_outputs_that_are_no_boxes_are_numbers():
    view = replace(VIEW, kind="detections", link="identity")
    meaning = Meaning((view, replace(view, name="z", tensor="z", link="sigmoid")), {})
    values = {"y": tuple(VALUES.astype(np.float32)), "z": tuple(np.zeros((97, 3), np.float32))}
    assert [subject.kind for subject in compared_outputs(meaning, Answers(97, values))] == ["values", "classes"]


def test_the_parts_of_a_detector_are_one_subject():
    parts = [replace(VIEW, name=f"y/{n}", tensor=f"t{n}", kind="detections") for n in range(2)]
    head = replace(VIEW, name="z", output="z", tensor="z", kind="classes")
    ignored = replace(VIEW, name="h", output="h", tensor="h", kind="state", weight=0.0)
    values = {"y": CASES["detections"][1].values["y"], "h": tuple(np.zeros((29, 3)))}
    values |= {name: tuple(np.zeros((29, 2))) for name in ("t0", "t1", "z")}
    found = compared_outputs(Meaning((*parts, head, ignored), {}), Answers(29, values))
    assert [(subject.name, subject.kind, len(subject.views)) for subject in found] == [
        ("z", "classes", 1),
        ("y", "detections", 2),
    ]


def test_an_output_is_no_score_of_boxes_whose_number_it_has_by_chance() -> None:
    """Five classes, and five boxes in the first sample alone."""
    rng = np.random.default_rng(3)
    counts = (5, 3, 7)
    low = [rng.uniform(0, 9, (count, 2)) for count in counts]
    boxes = tuple(np.hstack([corner, corner + 2]).astype(np.float32) for corner in low)
    classes = tuple(rng.dirichlet(np.ones(5)).astype(np.float32) for _ in counts)
    assert find_layout(Answers(3, {"b": boxes, "s": classes}), ("b", "s")) is None
    scores = tuple(rng.uniform(size=count).astype(np.float32) for count in counts)
    layout = find_layout(Answers(3, {"b": boxes, "s": scores}), ("b", "s"))
    assert layout is not None
    assert [len(layout.boxes({"b": b, "s": s}).scores) for b, s in zip(boxes, scores, strict=True)] == list(counts)
    assert len(layout.boxes({"b": boxes[0], "s": scores[1]}).scores) == 0  # nobody knows which go together
