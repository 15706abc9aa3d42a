"""Metrics by the kind of output: closed forms, other libraries' values, and what must change nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from scipy.special import expit, log_softmax, softmax
from sklearn.metrics import f1_score, jaccard_score, r2_score, roc_auc_score

from onnxmi.evaluation.output_metrics import (
    OUTPUT_METRICS,
    ComparedOutput,
    compared_outputs,
    expected_flips,
    measure_metric,
    metrics_for,
)
from onnxmi.evaluation.output_metrics.layouts import find_layout
from onnxmi.evaluation.output_metrics.sequences import decode, edit_distance
from onnxmi.outputs.view import Answers, Meaning, View

VIEW = View("y", "y", "y", "classes", "softmax", (1,), 0)
RNG = np.random.default_rng(0)


def of(kind, array, link="identity", axes=(1,)):
    """An output as a subject, and its answers."""
    view = replace(VIEW, kind=kind, link=link, axes=axes)
    return ComparedOutput("y", kind, (view,)), answers(array)


def answers(samples):
    return Answers(len(samples), {"y": tuple(np.asarray(sample, dtype=np.float32) for sample in samples)})


def read(name, subject, original, cut, labels=None):
    return measure_metric(OUTPUT_METRICS[name], subject, original, cut, labels)


def noisy(array, size=1.0, seed=1):
    return array + size * np.random.default_rng(seed).normal(size=np.shape(array)).astype(np.float32)


def names(subject, original, labels=None):
    return [meter.name for meter in metrics_for(subject, original, labels)]


# -- every metric -----------------------------------------------------------------------------------------------------

LOGITS = RNG.normal(size=(211, 11)).astype(np.float32) * 3
CELLS = RNG.normal(size=(53, 7)).astype(np.float32) * 3
SCORE = RNG.normal(size=(211, 1)).astype(np.float32)
RARE = np.stack([5 + RNG.normal(size=211), np.zeros(211)], 1).astype(np.float32)
VALUES = RNG.normal(size=(97, 5)).astype(np.float32) * [1, 10, 100, 0.1, 3] + [0, 100, 200, 300, 400]
MAPS = RNG.normal(size=(13, 1, 17, 19)).astype(np.float32) * 4
SEGMENTS = RNG.normal(size=(13, 3, 17, 19)).astype(np.float32) * 4
FRAMES = RNG.normal(size=(31, 23, 41)).astype(np.float32) + 2 * (np.arange(41) == 0)
TAGS = RNG.normal(size=(31, 23, 5)).astype(np.float32)
LABELS = RNG.integers(0, 11, 211)


def scene(count=29, classes=3, seed=0):
    """Outputs of a YOLO detector: (4 + classes, places), with a few boxes well apart on a grid."""
    generator = np.random.default_rng(seed)
    found = np.zeros((count, 4 + classes, 67), np.float32)
    for sample in found:
        where = generator.permutation(67)
        for number, place in enumerate(where):
            sample[:4, place] = 100 * (number % 8) + 40, 100 * (number // 8) + 40, 30 + generator.random(2) @ [9, 5], 35
            if number < 5:
                sample[4 + generator.integers(classes), place] = 0.4 + 0.5 * generator.random()
    return found


CASES = {
    "classes": of("classes", LOGITS, "softmax"),
    "one score": of("classes", SCORE, "sigmoid"),
    "rare class": of("classes", RARE, "softmax"),
    "decisions": of("classes", CELLS, "sigmoid"),
    "probabilities": of("classes", softmax(LOGITS, 1)),
    "values": of("values", VALUES),
    "embedding": of("embedding", VALUES),
    "signal": of("signal", MAPS[:, 0, 0], axes=()),
    "state": of("state", VALUES, axes=()),
    "map": of("map", MAPS, "sigmoid"),
    "segmentation": of("map", SEGMENTS, "softmax"),
    "map of numbers": of("map", MAPS, axes=()),
    "text": of("sequence", FRAMES, "softmax", (2,)),
    "tags": of("sequence", TAGS, "softmax", (2,)),
}
_YOLO = answers(scene())
CASES["detections"] = (ComparedOutput("y", "detections", (replace(VIEW, kind="detections", axes=()),), ("y",)), _YOLO)


@pytest.mark.parametrize("name", CASES)
def test_the_original_loses_nothing_against_itself(name):
    subject, original = CASES[name]
    for meter in metrics_for(subject, original):
        found = measure_metric(meter, subject, original, original)
        assert found.loss.value == pytest.approx(0, abs=1e-12)
        assert found.loss.low <= 1e-12
        assert found.was == pytest.approx(found.now)
        assert found.loss.flips_lost in (0, None)


@pytest.mark.parametrize("name", CASES)
def test_the_order_of_samples_changes_nothing(name):
    subject, original = CASES[name]
    order = np.random.default_rng(5).permutation(original.count)
    cut = answers([noisy(array, 0.3, seed) for seed, array in enumerate(original.values["y"])])
    shuffled = [answers([side.values["y"][n] for n in order]) for side in (original, cut)]
    for meter in metrics_for(subject, original):
        if meter.name == "neighbor-order":  # ties aside: neighbours are looked for among the first samples
            continue
        before, after = measure_metric(meter, subject, original, cut), measure_metric(meter, subject, *shuffled)
        assert after.now == pytest.approx(before.now, rel=1e-9)
        assert after.loss.value == pytest.approx(before.loss.value, rel=1e-9)


@pytest.mark.parametrize("name", CASES)
def test_more_damage_is_more_loss_and_outputs_that_are_no_numbers_lose_all(name):
    subject, original = CASES[name]
    headline = metrics_for(subject, original)[0]
    spread = np.std(np.stack(original.values["y"]))
    losses = [
        measure_metric(
            headline,
            subject,
            original,
            answers([noisy(a, size * spread, n) for n, a in enumerate(original.values["y"])]),
        )
        for size in (0.003, 0.1, 3)
    ]
    assert losses[0].loss.value <= losses[1].loss.value < losses[2].loss.value
    broken = measure_metric(
        headline, subject, original, answers([np.full_like(a, np.nan) for a in original.values["y"]])
    )
    assert broken.loss.value > 0.4
    assert broken.loss.against(0.05) == "beyond"


def test_an_answer_of_another_shape_is_lost():
    subject, original = CASES["classes"]
    cut = Answers(211, {"y": (original.values["y"][0][:3], *original.values["y"][1:])})
    assert read("agreement", subject, original, cut).loss.flips_lost == 1
    assert read("kl", subject, original, cut).loss.value == np.inf


# -- classes ----------------------------------------------------------------------------------------------------------


def test_agreement_and_agreement_by_certainty():
    subject, original = of("classes", np.log([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]]), "softmax")
    cut = answers(np.log([[0.9, 0.1], [0.3, 0.7], [0.2, 0.8]]))
    assert read("agreement", subject, original, cut).now == pytest.approx(2 / 3)
    weighted = read("certain-agreement", subject, original, cut)
    assert weighted.now == pytest.approx(1.4 / 1.6)  # margins 0.8, 0.2, 0.6
    assert weighted.loss.flips_lost == 1


def test_accuracy_counts_flips_both_ways_in_tangos_interval():
    subject, original = CASES["classes"]
    cut = answers(noisy(LOGITS, 0.5))
    right, now = LOGITS.argmax(1) == LABELS, cut.values["y"][0]
    now = np.array([array.argmax() for array in cut.values["y"]]) == LABELS
    found = read("accuracy", subject, original, cut, LABELS)
    assert (found.was, found.now) == (right.mean(), pytest.approx(now.mean()))
    assert (found.loss.flips_lost, found.loss.flips_gained) == ((right & ~now).sum(), (now & ~right).sum())
    assert found.loss.low < found.loss.value < found.loss.high


def test_divergence():
    subject, original = CASES["classes"]
    made = noisy(LOGITS, 0.5)
    wanted = (softmax(LOGITS, 1) * (log_softmax(LOGITS, 1) - log_softmax(made, 1))).sum(1).mean()
    found = read("kl", subject, original, answers(made))
    assert found.now == found.loss.value == pytest.approx(wanted, rel=1e-4)
    given = read("kl", *CASES["probabilities"], answers(softmax(made, 1)))
    assert given.now == pytest.approx(wanted, rel=1e-3)


def test_rank_correlation_is_spearmans():
    subject, original = CASES["rare class"]
    made = noisy(RARE)
    wanted = stats.spearmanr(RARE[:, 1] - RARE[:, 0], made[:, 1] - made[:, 0]).statistic
    assert read("rank-correlation", subject, original, answers(made)).now == pytest.approx(wanted)
    ties = np.round(RARE)
    wanted = stats.spearmanr(RARE[:, 0], ties[:, 0]).statistic
    assert read("rank-correlation", subject, original, answers(ties)).now == pytest.approx(wanted)


def test_a_constant_score_has_no_rank_left():
    subject, original = CASES["rare class"]
    assert read("rank-correlation", subject, original, answers(np.ones_like(RARE))).now == 0


def test_the_area_under_the_curve_is_that_of_scikit_learn():
    subject, original = CASES["rare class"]
    labels = (RARE[:, 0] + RNG.normal(size=211) < 4.3).astype(int)
    made = noisy(RARE)
    found = read("auc", subject, original, answers(made), labels)
    assert found.was == pytest.approx(roc_auc_score(labels, RARE[:, 1] - RARE[:, 0]))
    assert found.now == pytest.approx(roc_auc_score(labels, made[:, 1] - made[:, 0]))
    assert found.loss.low < found.loss.value < found.loss.high


@pytest.mark.parametrize(
    ("name", "labels", "headline"),
    [
        ("classes", None, "certain-agreement"),
        ("classes", LABELS, "accuracy"),
        ("classes", LABELS[:7], "certain-agreement"),
        ("rare class", None, "rank-correlation"),
        ("rare class", np.zeros(211, int), "rank-correlation"),
        ("rare class", np.arange(211) % 2, "auc"),
        ("one score", None, "certain-agreement"),
        ("values", None, "worst-r2"),
        ("embedding", None, "centered-cosine"),
        ("signal", None, "explained-variance"),
        ("state", None, "explained-variance"),
        ("map", None, "cell-f1"),
        ("segmentation", None, "class-iou"),
        ("map of numbers", None, "explained-variance"),
        ("text", None, "characters"),
        ("tags", None, "certain-agreement"),
        ("detections", None, "box-f1"),
    ],
)
def test_the_headline(name, labels, headline):
    assert names(*CASES[name], labels)[0] == headline


def test_a_rare_class_that_is_ruined_is_seen():
    """Every sample keeps its top class; the scores are noise."""
    subject, original = CASES["rare class"]
    made = answers(np.stack([5 + np.random.default_rng(9).normal(size=211), np.zeros(211)], 1))
    assert read("agreement", subject, original, made).loss.value == 0
    loss = measure_metric(metrics_for(subject, original)[0], subject, original, made).loss
    assert loss.against(0.01) == "beyond"


# -- numbers ----------------------------------------------------------------------------------------------------------


def test_explained_variance_of_each_column_is_that_of_scikit_learn():
    subject, original = CASES["values"]
    made = VALUES + RNG.normal(size=VALUES.shape) * [0.1, 5, 10, 0.01, 1]
    wanted = r2_score(VALUES, made, multioutput="raw_values")
    assert read("worst-r2", subject, original, answers(made)).now == pytest.approx(wanted.min(), rel=1e-3)
    assert read("r2", subject, original, answers(made)).now == pytest.approx(wanted.mean(), rel=1e-3)


def test_a_column_that_does_not_move_is_left_out():
    subject, original = of("values", np.hstack([VALUES, np.full((97, 1), 7.0)]))
    cut = answers(np.hstack([VALUES, np.full((97, 1), 7.1)]))
    assert read("worst-r2", subject, original, cut).now == 1
    still, constant = of("values", np.full((97, 2), 7.0))
    assert read("worst-r2", still, constant, constant).loss.value == 0


def test_signal_over_noise():
    subject, original = CASES["signal"]
    signal = np.stack(original.values["y"])
    found = read("snr", subject, original, answers(signal * 1.1))
    assert found.now == pytest.approx(20, abs=1e-3)  # a tenth of the amplitude
    assert found.loss.text.startswith("120.0000 dB lost")


def test_cosines_are_taken_round_the_mean():
    subject, original = of("embedding", VALUES + 1e4)
    centered = VALUES - VALUES.mean(0)
    made = centered[:, ::-1]
    wanted = np.mean([1 - a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in zip(centered, made, strict=True)])
    found = read("centered-cosine", subject, original, answers(made + VALUES.mean(0) + 1e4))
    assert found.loss.value == pytest.approx(wanted, abs=0.01)
    assert read("neighbor-order", subject, original, answers(3 * centered)).now < 1.01


# -- maps -------------------------------------------------------------------------------------------------------------


def test_overlap_of_active_cells_is_that_of_scikit_learn():
    subject, original = CASES["map"]
    made = noisy(MAPS, 2)
    for name, at in (("iou", 0.5), ("iou30", 0.3)):
        wanted = jaccard_score((expit(MAPS) > at).ravel(), (expit(made) > at).ravel())
        assert read(name, subject, original, answers(made)).now == pytest.approx(wanted)
    wanted = f1_score((MAPS > 0).ravel(), (made > 0).ravel())
    assert read("cell-f1", subject, original, answers(made)).now == pytest.approx(wanted)


def test_overlap_of_classes_is_that_of_scikit_learn():
    subject, original = CASES["segmentation"]
    made = noisy(SEGMENTS, 2)
    wanted = jaccard_score(SEGMENTS.argmax(1).ravel(), made.argmax(1).ravel(), average="macro")
    assert read("class-iou", subject, original, answers(made)).now == pytest.approx(wanted)


def test_a_map_on_which_nothing_is_marked_is_one_of_numbers():
    assert names(*of("map", MAPS - 40, "sigmoid")) == ["explained-variance"]


# -- sequences --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "second", "distance"),
    [("kitten", "sitting", 3), ("", "abc", 3), ("abc", "", 3), ("saturday", "sunday", 3), ("a", "a", 0)],
)
def test_edit_distances(first, second, distance):
    codes = [np.frombuffer(text.encode(), np.uint8).astype(int) for text in (first, second)]
    assert edit_distance(*codes) == distance


def test_decoding_collapses_repetitions_and_leaves_blanks_out():
    assert decode(np.array([0, 3, 3, 0, 3, 5, 5, 0]), 0).tolist() == [3, 3, 5]
    assert decode(np.array([0, 0]), 0).tolist() == []


def _lines(*lines, classes=41):
    return np.eye(classes, dtype=np.float32)[np.array(lines)] * 9


def test_characters_read_alike():
    subject, original = of("sequence", _lines([0, 7, 0, 8, 0, 9], [0, 5, 5, 0, 0, 0]), "softmax", (2,))
    cut = answers(_lines([0, 7, 0, 6, 0, 9], [0, 5, 5, 0, 0, 0]))
    found = read("characters", subject, original, cut)
    assert (found.now, found.loss.flips_lost) == (3 / 4, 1)
    assert read("read-alike", subject, original, cut).now == 0.5


def test_an_empty_line_that_is_read_as_text_is_lost():
    subject, original = of("sequence", _lines([0, 0, 0], [0, 5, 0]), "softmax", (2,))
    assert read("characters", subject, original, answers(_lines([0, 6, 0], [0, 5, 0]))).now == 0.5


# -- detections -------------------------------------------------------------------------------------------------------


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
    values = {"y": _YOLO.values["y"], "h": tuple(np.zeros((29, 3)))}
    values |= {name: tuple(np.zeros((29, 2))) for name in ("t0", "t1", "z")}
    found = compared_outputs(Meaning((*parts, head, ignored), {}), Answers(29, values))
    assert [(subject.name, subject.kind, len(subject.views)) for subject in found] == [
        ("z", "classes", 1),
        ("y", "detections", 2),
    ]


# -- margins ----------------------------------------------------------------------------------------------------------


def test_expected_flips_are_as_many_as_errors_of_one_size_make():
    logits = np.random.default_rng(0).normal(size=(4001, 2)) * 3
    subject, original = of("classes", logits, "softmax")
    made = noisy(logits, 0.4)
    found = expected_flips(subject, original, answers(made))
    assert found is not None
    assert found.share == pytest.approx(np.mean(logits.argmax(1) != made.argmax(1)), rel=0.15)
    assert found.text == f"{100 * found.share:.1f} % of the answers are expected to change, by margins"


def test_only_errors_of_answers_that_may_change_count():
    """Large logits with large errors, as most frames of a text have, change nothing."""
    logits = np.concatenate([np.tile([0.0, 1.0], (101, 1)), np.tile([0.0, 90.0], (101, 1))])
    made = logits + np.concatenate([np.full(101, 0.5), np.full(101, 20.0)])[:, None] * [1, 0]
    found = expected_flips(*of("classes", logits, "softmax"), answers(made))
    assert found is not None
    assert found.share == pytest.approx(stats.norm.cdf(-2) / 2)


@pytest.mark.parametrize("name", ["one score", "decisions", "tags", "text"])
def test_equal_answers_are_expected_to_stay(name):
    subject, original = CASES[name]
    same = expected_flips(subject, original, original)
    assert same is not None
    assert (same.share, same.of_samples) == (0.0, name == "text")
    spread = np.std(np.stack(original.values["y"]))
    other = expected_flips(
        subject, original, answers([noisy(a, spread, n) for n, a in enumerate(original.values["y"])])
    )
    assert other is not None
    assert 0.05 < other.share <= 1


def test_decisions_have_their_distance_from_even_for_a_margin():
    subject, original = of("classes", np.full((7, 1), -1.0), "sigmoid")
    found = expected_flips(subject, original, answers(np.full((7, 1), 0.0)))
    assert found is not None
    assert found.share == pytest.approx(stats.norm.cdf(-1))


def test_lines_change_if_any_of_their_characters_does():
    subject, original = CASES["text"]
    made = answers([noisy(a, 0.05, n) for n, a in enumerate(original.values["y"])])
    frames = expected_flips(*of("classes", FRAMES, "softmax", (2,)), made)
    lines = expected_flips(subject, original, made)
    assert lines is not None
    assert frames is not None
    assert 0 < 5 * frames.share < lines.share
    assert lines.text.endswith("% of the samples are expected to change at some position, by margins")


def test_outputs_that_choose_nothing_have_no_margins():
    assert expected_flips(*CASES["values"], CASES["values"][1]) is None


# -- losses as they are printed ---------------------------------------------------------------------------------------


def test_a_loss_in_words():
    subject, original = of("classes", np.eye(2)[np.arange(238) % 2] * 4, "softmax")
    made = np.eye(2)[np.arange(238) % 2] * 4
    made[:3] *= -1
    labels = (np.arange(238) % 2).copy()
    labels[3:5] = 1 - labels[3:5]
    made[3:5] *= -1
    loss = read("accuracy", subject, original, answers(made), labels).loss
    assert loss.text == "0.4 points lost [-1.9, 2.9] on 238 samples (3 answers lost, 2 gained)"
    assert [loss.against(margin) for margin in (0.05, 0.01)] == ["within", "undecided"]
    assert loss.doubt(0.01) == "undecided: 238 samples cannot tell 1 point; they resolve about 2.1"
    assert loss.doubt(0.05) == ""


def test_no_flip_on_few_samples_is_no_certainty():
    subject, original = of("classes", np.eye(2)[np.arange(31) % 2] * 4, "softmax")
    loss = read("certain-agreement", subject, original, original).loss
    assert loss.value == 0
    assert loss.high == pytest.approx(1 - 0.025 ** (1 / 31))
    assert loss.against(0.01) == "undecided"
