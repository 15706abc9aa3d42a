"""Options in a file: onnxmi.toml of the working directory, or one that --config names."""

from __future__ import annotations

import json

import pytest

RUN = '[prune]\nmodel = "model.onnx"\ncalib = "calib.npz"\nforce = true\nkeep = "50%"\nskip = ["fc1"]\n'
SEARCHED = "onnxmi: onnxmi.toml [prune] gives model, calib, keep, skip, force (--no-config ignores it)\n"


@pytest.fixture
def configured(place):
    """A folder whose onnxmi.toml says all that a run takes."""
    (place.folder / "onnxmi.toml").write_text(RUN)
    return place


def test_the_file_of_the_working_directory_is_read_and_one_line_says_so(configured):
    result = configured.run("prune", "--json")
    assert (result.exit_code, result.stderr) == (0, SEARCHED)
    told = json.loads(result.stdout)
    assert [layer["name"] for layer in told["layers"]] == ["fc0"]
    assert told["command"] == "onnxmi prune --json --overwrite model.onnx calib.npz --keep 50% --skip fc1 --force"


def test_the_command_line_goes_before_the_file(configured):
    told = json.loads(configured.run("prune", "--json", "--keep", "0.25").stdout)
    assert told["options"]["keep"] == 0.25
    assert "50%" not in told["command"]


def test_quiet_says_nothing_of_the_file(configured):
    result = configured.run("prune", "-q")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")


def test_it_can_be_ignored(configured):
    assert "Missing argument 'MODEL'" in configured.fails(2, "prune", "--no-config")
    assert "contradict" in configured.fails(2, "prune", "--no-config", "--config", "onnxmi.toml")
    assert "contradict" in configured.fails(2, "prune", "--config", "onnxmi.toml", "--no-config")


def test_a_file_that_is_named_is_read_instead_and_needs_no_line(configured):
    (configured.folder / "other.toml").write_text(f'title = "of another program"\n{RUN.replace("50%", "25%")}')
    assert json.loads(configured.succeeds("prune", "--config", "other.toml", "--json"))["options"]["keep"] == 0.25


def test_a_file_without_a_table_of_the_command_changes_nothing(place):
    (place.folder / "onnxmi.toml").write_text('[check]\nmax-size = "1MB"\n')
    assert "Missing argument 'MODEL'" in place.fails(2, "prune")
    assert "has no table [prune]" in place.fails(3, "prune", "--config", "onnxmi.toml")


def test_the_help_is_shown_whatever_is_in_the_file(place):
    (place.folder / "onnxmi.toml").write_text("[prune")
    assert "--no-config" in place.succeeds("prune", "-h")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[prune", "onnxmi.toml: is not a valid TOML file"),
        ('[prune]\nkep = "50%"\n', "onnxmi.toml: no option 'kep'; did you mean 'keep'?"),
        ('[prune]\nzzz = "50%"\n', "onnxmi.toml: no option 'zzz'; there are align, "),
        ("[prune]\nskip = [1]\n", "onnxmi.toml: skip is neither text nor a list of texts"),
        ('[prune]\nkeep = "5 apples"\n', "onnxmi.toml: keep: "),
        ("[prnue]\nkeep = 0.5\n", "onnxmi.toml: no table 'prnue'; did you mean 'prune'?"),
        ("prune = 1\n", "onnxmi.toml: prune is not a table"),
    ],
)
@pytest.mark.parametrize("named", [(), ("--config", "onnxmi.toml")])
def test_what_is_wrong_in_it_is_one_line(place, text, message, named):
    (place.folder / "onnxmi.toml").write_text(text)
    assert message in place.fails(3, "prune", "model.onnx", "calib.npz", *named)


def test_every_command_with_a_table_reads_its_own(place):
    (place.folder / "onnxmi.toml").write_text(
        '[sweep]\nby = "nonsense"\n[bench]\nmodels = ["none.onnx"]\noperators = false\n[check]\nmodel = "none.onnx"\n'
    )
    assert "onnxmi.toml: by: " in place.fails(3, "sweep", "model.onnx", "calib.npz")
    assert "gives models, operators" in place.run("bench").stderr
    assert "gives model " in place.run("check", "--max-size", "1MB").stderr
