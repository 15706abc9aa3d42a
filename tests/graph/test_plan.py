"""Plans: what was chosen can be written, read, edited and carried out again, and a wrong one is refused."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

import onnxmi
from onnxmi.errors import NothingToPruneError, PlanError
from onnxmi.graph.plan import Choice, Plan, load_plan
from onnxmi.model import Model


@pytest.fixture(scope="module")
def model(mlp):
    return Model.of(mlp())


@pytest.fixture(scope="module")
def plan(model):
    kept = np.array([0, 2, 5])
    return Plan(model.digest, (Choice("fc0", "hidden", 12, kept, np.array([2.0, 1.5, 0.5])),), {"keep": 0.25})


@pytest.fixture(scope="module")
def graph(model):
    return onnxmi.analyse(model).graph


def written(tmp_path, document):
    path = tmp_path / "plan.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


def refused(path, *args):
    with pytest.raises(PlanError) as caught:
        load_plan(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_what_is_written_is_what_is_read(tmp_path, plan):
    read = load_plan(written(tmp_path, plan.to_json()))
    assert read.digest == plan.digest
    assert read.options == plan.options
    assert [c.layer for c in read.choices] == ["fc0"]
    assert read.choices[0].kept.tolist() == [0, 2, 5]
    assert read.to_json() == plan.to_json()


def test_ragged_plans_survive_too(tmp_path, model):
    ragged = Plan(model.digest, (Choice("a", "qk", 4, np.array([[0, 1], [1, 3]])),), {})
    assert load_plan(written(tmp_path, ragged.to_json())).choices[0].kept.tolist() == [[0, 1], [1, 3]]


def test_gains_that_are_no_numbers_stay_valid_json(tmp_path, plan):
    odd = replace(plan, choices=(replace(plan.choices[0], gains=np.array([np.inf, np.nan, 1.0])),))
    text = odd.to_json()
    assert json.loads(text, parse_constant=pytest.fail)["layers"][0]["gains"] == [None, None, 1.0]
    assert load_plan(written(tmp_path, text)).to_json() == text


def test_missing_file(tmp_path):
    assert "No such file" in refused(tmp_path / "none.json")


def test_folder(tmp_path):
    assert "cannot be read" in refused(tmp_path)


@pytest.mark.parametrize("text", ["{", "\x00\x01", "nonsense", "[" * 100_000, '{"a": ' + "9" * 5000 + "}"])
def test_what_is_not_json(tmp_path, text):
    assert "is not JSON" in refused(written(tmp_path, text))


@pytest.mark.parametrize("text", ["", "\n"])
def test_an_empty_file(tmp_path, text):
    assert refused(written(tmp_path, text)).endswith("plan.json: is empty")


def test_bytes_that_are_not_text(tmp_path):
    path = tmp_path / "plan.json"
    path.write_bytes(bytes(range(256)))
    assert "is not JSON" in refused(path)


@pytest.mark.parametrize("document", [[], 3, "plan", None, {}, {"schema": 1}, {"schema": 1, "layers": [], "model": 3}])
def test_json_that_is_no_plan(tmp_path, document):
    assert "is not a plan of onnxmi" in refused(written(tmp_path, json.dumps(document)))


def edited(tmp_path, plan, **changes):
    document = json.loads(plan.to_json())
    document["layers"][0] |= changes
    return written(tmp_path, document)


def test_other_schema(tmp_path, plan):
    document = json.loads(plan.to_json()) | {"schema": 2}
    assert "has schema 2; this version reads 1" in refused(written(tmp_path, document))


def test_a_layer_named_twice(tmp_path, plan):
    document = json.loads(plan.to_json())
    document["layers"] *= 2
    assert "names a layer twice" in refused(written(tmp_path, document))


@pytest.mark.parametrize("kept", [[0.5], ["1"], [True, False], 3, [[[0]]], [0, [1]], {"a": 1}, None])
def test_kept_that_is_no_list_of_indices(tmp_path, plan, kept):
    assert "`kept` is not a list of indices" in refused(edited(tmp_path, plan, kept=kept))


def test_parts_of_different_sizes(tmp_path, plan):
    assert "different numbers of units" in refused(edited(tmp_path, plan, kept=[[0, 1], [2]]))


def test_an_index_beyond_all_bounds(tmp_path, plan):
    assert "no layer can have" in refused(edited(tmp_path, plan, kept=[0, 2**70]))


@pytest.mark.parametrize("gains", [3.5, [[1.0]], "12", {}, [None, "x"]])
def test_gains_that_are_no_list_of_numbers(tmp_path, plan, gains):
    refused(edited(tmp_path, plan, gains=gains))


@pytest.mark.parametrize("size", ["12", 12.5, None, True])
def test_size_that_is_no_whole_number(tmp_path, plan, size):
    assert "size" in refused(edited(tmp_path, plan, size=size))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "fc9"}, "does not have or cannot cut"),
        ({"size": 11}, "has 11 units, the model's has 12"),
        ({"kept": [[], []]}, "keeps nothing of each part"),
        ({"kept": [0, 12]}, "outside 0..11"),
        ({"kept": [-1, 3]}, "outside 0..11"),
        ({"kept": [3, 3]}, "twice or out of order"),
        ({"kept": [5, 3]}, "twice or out of order"),
        ({"kept": [[0, 1], [2, 3]]}, "lists 2 parts"),
        ({"kept": [[0, 1]]}, "lists 1 parts"),
    ],
)
def test_plans_that_do_not_fit_the_model(tmp_path, plan, graph, change, message):
    read = load_plan(edited(tmp_path, plan, **change))
    with pytest.raises(PlanError, match=message.replace(".", r"\.")):
        read.keeping(graph)


def test_a_plan_that_keeps_nothing_where_nothing_else_goes_on(tmp_path, plan, model):
    read = load_plan(edited(tmp_path, plan, kept=[]))
    with pytest.raises(
        PlanError, match=r"keeps nothing of layer 'fc0': fc2 \(Gemm\) needs all of what the branch gave"
    ):
        onnxmi.apply(model, read)


def test_a_plan_for_another_model(tmp_path, plan, mlp):
    with pytest.raises(PlanError, match="is for a model with digest"):
        onnxmi.apply(mlp(sizes=(6, 12, 8, 4)), plan)


def test_a_plan_that_keeps_all(model, plan):
    with pytest.raises(NothingToPruneError, match="keeps every unit"):
        onnxmi.apply(model, replace(plan, choices=(Choice("fc0", "hidden", 12, np.arange(12)),)))


def test_applying_cuts_what_the_plan_says(model, plan):
    applied = onnxmi.apply(model, plan)
    cut, checks = applied.model, applied.checks
    shapes = {tensor.name: tuple(tensor.dims) for tensor in cut.graph.initializer}
    assert shapes["w0"] == (6, 3)
    assert shapes["w1"] == (3, 10)
    assert shapes["w2"] == (10, 4)
    assert all(check.passed for check in checks)


def test_a_plan_that_says_to_keep_one_layer_whole_among_others(model, plan):
    whole = Choice("fc1", "hidden", 10, np.arange(10))
    cut = onnxmi.apply(model, replace(plan, choices=(*plan.choices, whole))).model
    same = onnxmi.apply(model, plan).model
    assert cut.SerializeToString(deterministic=True) == same.SerializeToString(deterministic=True)
