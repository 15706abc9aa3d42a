"""The JSON that commands print fits the schemas in docs/schemas, which name every key."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is in the extra `test`")
SCHEMAS = Path(__file__).resolve().parents[2] / "docs" / "schemas"
MODEL, CALIB = "model.onnx", "calib.npz"
RUNS = {
    "prune": (0, ("prune", MODEL, CALIB, "--keep", "0.5", "--eval", CALIB)),
    "dry_run": (0, ("prune", MODEL, CALIB, "--dry-run", "--keep", "0.5")),
    "unchanged": (0, ("prune", MODEL, CALIB, "--max-size", "10MB", "--allow-unchanged")),
    "sweep": (0, ("sweep", MODEL, CALIB, "--by", "params", "--at", "0.6")),
    "inspect": (0, ("inspect", MODEL)),
    "capture": (0, ("capture", MODEL, CALIB, "-o", "stats.npz")),
    "bench": (0, ("bench", MODEL, "--seconds", "0.1", "--threads", "1", "--no-memory")),
    "check": (1, ("check", MODEL, "--max-size", "1kB", "--baseline", MODEL, "--data", CALIB, "--max-drop", "1%")),
    "diff": (0, ("diff", MODEL, MODEL, "--data", CALIB)),
    "doctor": (0, ("doctor",)),
    "error": (3, ("prune", "none.onnx", CALIB)),
}


@pytest.mark.parametrize("name", RUNS)
def test_the_output_fits_its_schema(place, name):
    code, args = RUNS[name]
    result = place.run(*args, "--json")
    assert result.exit_code == code
    told = json.loads(result.stdout)
    schema = json.loads((SCHEMAS / f"{name}.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(told, schema)
    assert set(told) <= set(schema["properties"]), "a key is not described: add it to the schema"
    assert told["schema"] == 1


def test_apply_fits_its_schema(place):
    place.succeeds("prune", MODEL, CALIB, "--keep", "0.5")
    told = json.loads(place.succeeds("apply", MODEL, "model.pruned.plan.json", "-o", "again.onnx", "--json"))
    jsonschema.validate(told, json.loads((SCHEMAS / "apply.schema.json").read_text()))


def test_every_schema_is_tested():
    assert {path.name.split(".")[0] for path in SCHEMAS.glob("*.json")} == {*RUNS, "apply"}


@pytest.mark.parametrize("args", [("prune",), ("shrink",), ("prune", MODEL, CALIB, "--keep", "7")])
def test_a_failure_is_json_too(place, args):
    result = place.run(*args, "--json")
    told = json.loads(result.stdout)
    assert told["error"]["exit_code"] == result.exit_code == 2
    assert result.stderr == f"onnxmi: error: {told['error']['message']}\n"
