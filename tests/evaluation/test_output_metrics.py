"""Metrics by the kind of output: closed forms, other libraries' values, and what must change nothing."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from scipy.special import expit, log_softmax, softmax
from sklearn.metrics import f1_score, jaccard_score, r2_score, roc_auc_score

from onnxmi.evaluation.output_metrics import (
    column_reader,
    measure_metric,
    metrics_for,
    output_metric,
)
from onnxmi.evaluation.output_metrics.sequences import decode, edit_distance
from onnxmi.outputs.view import Answers, View, column_rows
from tests.support.answers import (
    CASES,
    LABELS,
    LOGITS,
    MAPS,
    RARE,
    RNG,
    SEGMENTS,
    VALUES,
    answers,
    names,
    noisy,
    of,
    read,
)

# -- every metric -----------------------------------------------------------------------------------------------------


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


# -- thousands of small answers ---------------------------------------------------------------------------------------


def test_answers_are_arranged_alike_in_blocks_and_one_by_one(monkeypatch):
    """Blocks end where shapes change or are full; columns on an inner axis are moved there."""
    monkeypatch.setattr(output_metric, "BLOCK_BYTES", 8 * 3 * 5 * 2)
    shapes = [(3, 5)] * 7 + [(3, 11)] * 2 + [(3, 5)]
    arrays = tuple(np.random.default_rng(7).normal(size=shape).astype(np.float32) for shape in shapes)
    view = View("y", "y", "y", "map", "softmax", (1,), 0)
    found = list(output_metric.rows_of(view, Answers(len(arrays), {"y": arrays})))
    assert len(found) == len(arrays)
    for rows, array in zip(found, arrays, strict=True):
        np.testing.assert_array_equal(rows, column_rows(array.astype(np.float64), (0,)))


def test_the_originals_columns_are_read_once_for_all_labels(monkeypatch):
    subject, original = CASES["classes"]
    read_once = []
    reader_of = column_reader.reader_of
    monkeypatch.setattr(column_reader, "reader_of", lambda *args: read_once.append(1) or reader_of(*args))
    assert column_reader.fitted_labels(LABELS, subject, original) is not None
    assert len(read_once) == 1
