"""Metrics against values worked out by hand, and against scikit-learn."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score, top_k_accuracy_score

from onnxmi.errors import UsageError
from onnxmi.evaluation.metrics import METRICS, find_metric, has_classes

RNG = np.random.default_rng(0)
DENSE = RNG.normal(size=(97, 7)).astype(np.float32)
CUT = DENSE + RNG.normal(size=DENSE.shape).astype(np.float32)
LABELS = RNG.integers(0, 7, 97)


def logits(*classes: int, count: int = 3) -> np.ndarray:
    return np.eye(count, dtype=np.float32)[list(classes)]


# -- values -----------------------------------------------------------------------------------------------------------


def test_accuracy_is_that_of_scikit_learn_and_its_drop_is_in_points():
    metric = find_metric("accuracy", has_labels=True)
    assert metric.value(DENSE, CUT, LABELS) == pytest.approx(accuracy_score(LABELS, CUT.argmax(-1)))
    lost = accuracy_score(LABELS, DENSE.argmax(-1)) - accuracy_score(LABELS, CUT.argmax(-1))
    assert metric.drop(DENSE, CUT, LABELS) == pytest.approx(lost)


def test_a_model_that_became_better_has_a_negative_drop():
    labels = np.array([0, 1, 2, 0])
    assert find_metric("accuracy", has_labels=True).drop(logits(0, 1, 0, 1), logits(0, 1, 2, 0), labels) == -0.5


@pytest.mark.parametrize("most", [2, 3, 6])
def test_top_k_is_that_of_scikit_learn(most):
    wanted = top_k_accuracy_score(LABELS, CUT, k=most, labels=np.arange(7))
    assert find_metric(f"top{most}", has_labels=True).value(DENSE, CUT, LABELS) == pytest.approx(wanted)


def test_top_1_is_accuracy_and_without_labels_agreement():
    assert find_metric("Top-1", has_labels=True).drop(DENSE, CUT, LABELS) == METRICS["accuracy"].drop(
        DENSE, CUT, LABELS
    )
    assert find_metric("top1", has_labels=False).drop(DENSE, CUT) == METRICS["agreement"].drop(DENSE, CUT)


def test_agreement_takes_no_notice_of_labels():
    assert METRICS["agreement"].value(DENSE, CUT, LABELS) == pytest.approx(np.mean(DENSE.argmax(-1) == CUT.argmax(-1)))


def test_ties_are_broken_as_argmax_does():
    flat = np.zeros((2, 3), np.float32)
    assert find_metric("top1", has_labels=True).value(flat, flat, np.array([0, 1])) == 0.5
    assert find_metric("top2", has_labels=True).value(flat, flat, np.array([0, 1])) == 1.0


def test_macro_f1_is_that_of_scikit_learn():
    metric = find_metric("f1", has_labels=True)
    assert metric.value(DENSE, CUT, LABELS) == pytest.approx(f1_score(LABELS, CUT.argmax(-1), average="macro"))
    rare = np.where(LABELS == 3, 5, LABELS)  # a class that is predicted and never a label
    assert metric.value(DENSE, CUT, rare) == pytest.approx(f1_score(rare, CUT.argmax(-1), average="macro"))


def test_mse_is_relative_to_the_variance():
    dense = np.array([[0.0], [2.0], [4.0], [6.0]])  # variance 5
    assert METRICS["mse"].drop(dense, dense + 1) == pytest.approx(1 / 5)
    assert METRICS["mse"].value(dense, dense) == METRICS["mse"].drop(dense, dense) == 0


def test_mse_of_a_constant_output_is_not_divided_by_zero():
    assert METRICS["mse"].drop(np.ones((3, 1)), np.ones((3, 1)) * 3) == 4


def test_cosine():
    dense = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 0.0], [0.0, 0.0]])
    cut = np.array([[2.0, 0.0], [1.0, 1.0], [0.0, 0.0], [1.0, 0.0]])
    assert METRICS["cosine"].value(dense, cut) == pytest.approx((1 + math.sqrt(0.5) + 1 + 0) / 4)
    assert METRICS["cosine"].drop(dense, dense) == 0


def test_positions_count_within_their_sample():
    dense, cut = (np.stack([logits(0, 1), logits(2, 2)]), np.stack([logits(0, 0), logits(2, 2)]))
    assert METRICS["agreement"].value(dense, cut) == 0.75
    assert METRICS["agreement"].differences(dense, cut).tolist() == [0.5, 0.0]


def test_integer_outputs_are_classes_themselves():
    dense, cut, labels = np.array([3, 1, 4]), np.array([3, 1, 5]), np.array([3, 2, 4])
    assert METRICS["agreement"].drop(dense, cut) == pytest.approx(1 / 3)
    assert METRICS["accuracy"].drop(dense, cut, labels) == pytest.approx(1 / 3)


@pytest.mark.parametrize("name", ["accuracy", "agreement", "f1", "top1", "mse", "cosine"])
def test_outputs_that_are_not_numbers_never_pass(name):
    broken = np.full_like(DENSE, np.nan)
    assert find_metric(name, has_labels=True).drop(DENSE, broken, DENSE.argmax(-1)) >= 0.9


def test_a_label_that_is_no_class_is_never_hit():
    assert METRICS["accuracy"].value(DENSE[:2], DENSE[:2], np.array([-1, 7])) == 0


# -- losses of single samples -----------------------------------------------------------------------------------------


def test_the_mean_of_what_each_sample_loses_is_the_drop():
    lost = (DENSE.argmax(-1) == LABELS).astype(float) - (CUT.argmax(-1) == LABELS)
    differences = METRICS["accuracy"].differences(DENSE, CUT, LABELS)
    np.testing.assert_array_equal(differences, lost)
    assert METRICS["accuracy"].drop(DENSE, CUT, LABELS) == pytest.approx(lost.mean())


def test_what_is_no_mean_over_samples_has_no_differences_of_samples():
    assert METRICS["f1"].differences(DENSE, CUT, LABELS) is None


# -- which one --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("has_labels", "outputs", "name"),
    [
        (True, None, "accuracy"),
        (False, None, "agreement"),
        (True, np.zeros((5, 1), np.float32), "mse"),
        (False, np.zeros(5, np.float32), "mse"),
        (False, np.zeros(5, np.int64), "agreement"),
        (False, np.zeros((5, 2), np.float16), "agreement"),
    ],
)
def test_the_default(has_labels, outputs, name):
    assert find_metric(None, outputs, has_labels=has_labels).name == name


def test_half_precision_has_classes_too():
    assert has_classes(np.zeros((5, 2), np.float16))


@pytest.mark.parametrize(
    ("name", "labels", "message"),
    [
        ("accurracy", True, "no metric 'accurracy'; there are accuracy, agreement"),
        ("top0", True, "no metric 'top0'"),
        ("accuracy", False, "needs labels, and the samples have none"),
        ("f1", False, "needs labels"),
        ("no_such_module:f", True, "cannot be imported: ModuleNotFoundError"),
        ("math:no_such_function", True, "cannot be imported: AttributeError"),
        ("math:pi", True, "is a float, not a function(outputs, labels)"),
        (":f", True, "cannot be imported"),
        ("math:", True, "cannot be imported"),
    ],
)
def test_what_cannot_be_found(name, labels, message):
    with pytest.raises(UsageError) as error:
        find_metric(name, has_labels=labels)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("name", "outputs", "labels", "message"),
    [
        ("agreement", np.zeros((5, 1), np.float32), None, "has no classes on its last axis"),
        ("accuracy", np.zeros(5, np.float32), np.zeros(5, int), "has no classes on its last axis"),
        ("accuracy", np.zeros((5, 3, 4), np.float32), np.zeros(5, int), "labels of shape (5,) do not fit"),
        ("top4", np.zeros((5, 4), np.float32), np.zeros(5, int), "has only 4 classes"),
        ("top2", np.zeros(5, int), np.zeros(5, int), "has classes, not a number for each"),
        ("mse", np.array(["a"]), None, "which is not a number"),
    ],
)
def test_what_does_not_fit(name, outputs, labels, message):
    with pytest.raises(UsageError) as error:
        find_metric(name, has_labels=labels is not None).drop(outputs, outputs, labels)
    assert message in str(error.value)


def test_outputs_of_other_shapes_are_refused():
    with pytest.raises(UsageError, match="cannot be compared"):
        METRICS["mse"].drop(DENSE, CUT[:, :3])


# -- a user's own -----------------------------------------------------------------------------------------------------


def write(folder, monkeypatch, body):
    name = f"own_{folder.name.replace('-', '_')}"
    (folder / f"{name}.py").write_text(f"import numpy as np\n\ndef score(outputs, labels):\n    {body}\n")
    monkeypatch.chdir(folder)
    return f"{name}:score"


def test_a_function_in_the_current_folder(tmp_path, monkeypatch):
    name = write(tmp_path, monkeypatch, "return np.mean(outputs[:, 0]) + len(labels)")
    metric = find_metric(name, has_labels=True)
    assert metric.value(DENSE, CUT, LABELS) == pytest.approx(CUT[:, 0].mean() + 97)
    assert metric.drop(DENSE, CUT, LABELS) == pytest.approx(DENSE[:, 0].mean() - CUT[:, 0].mean(), abs=1e-4)
    assert metric.differences(DENSE, CUT, LABELS) is None


def test_the_current_folder_does_not_stay_importable(tmp_path, monkeypatch):
    before = list(sys.path)
    find_metric(write(tmp_path, monkeypatch, "return 1.0"), has_labels=False)
    assert sys.path == before


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return float('nan')", "returned nan, not a finite number"),
        ("return 'good'", "failed: ValueError"),
        ("return labels.mean()", "failed: AttributeError"),
        ("raise SystemError('odd')", "failed: SystemError: odd"),
    ],
)
def test_a_function_that_fails(tmp_path, monkeypatch, body, message):
    metric = find_metric(write(tmp_path, monkeypatch, body), has_labels=False)
    with pytest.raises(UsageError) as error:
        metric.drop(DENSE, CUT)
    assert message in str(error.value)
