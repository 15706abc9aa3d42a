"""What users call and get back: keywords, files that are written, and results that print themselves."""

from __future__ import annotations

import html
import json
import re
from dataclasses import fields
from typing import get_type_hints

import numpy as np
import onnx
import pytest
from click.testing import CliRunner

import onnxmi
from onnxmi.api.comparing import BenchFields, CheckFields
from onnxmi.api.keywords import PruneFields
from onnxmi.cli import main
from onnxmi.gate.limits import LIMITS

QUICK = onnxmi.PruneOptions(keep=0.5, threads=1, latency=False)


@pytest.fixture(scope="module")
def model(mlp):
    return mlp()


@pytest.fixture(scope="module")
def arrays(samples):
    return {"x": samples(), "labels": np.arange(40) % 4}


@pytest.fixture(scope="module")
def result(model, arrays):
    return onnxmi.prune(model, arrays, QUICK)


@pytest.fixture
def folder(tmp_path, monkeypatch, model, arrays):
    onnx.save(model, tmp_path / "model.onnx")
    np.savez(tmp_path / "calib.npz", **arrays)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    return tmp_path


def refused(error, call, *args, **keywords):
    with pytest.raises(error) as caught:
        call(*args, **keywords)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


# -- keywords ---------------------------------------------------------------------------------------------------------


def test_keywords_win_over_options(model, arrays):
    result = onnxmi.prune(model, arrays, QUICK, keep="25%", skip="fc1", force=True)
    assert result.plan.options["keep"] == 0.25
    assert [(choice.layer, choice.count) for choice in result.plan.choices] == [("fc0", 3)]
    assert result.latency is None  # as in the options


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"speedupp": 2}, "onnxmi.prune has no option 'speedupp'; did you mean 'speedup'?"),
        ({"Output": "x.onnx"}, "onnxmi.prune has no option 'Output'; did you mean 'output'?"),
        ({"ignored_layers": []}, "onnxmi.prune has no option 'ignored_layers'; did you mean 'skip'?"),
        ({"stats": "x"}, "onnxmi.prune has no option 'stats'; did you mean 'statistics'?"),
        ({"keep": "half"}, "keep: 'half' is not a share such as 50%"),
        ({"output": 3}, "output: expected a path, not int"),
    ],
)
def test_wrong_keywords_are_one_line(model, arrays, keywords, message):
    assert refused(onnxmi.UsageError, onnxmi.prune, model, arrays, **keywords) == message


def test_every_function_names_its_options(model, arrays):
    assert "onnxmi.sweep has no option 'at'" in refused(onnxmi.UsageError, onnxmi.sweep, model, arrays, at=[0.5])
    assert "onnxmi.bench has no option 'thread'" in refused(onnxmi.UsageError, onnxmi.bench, model, thread=1)
    assert "did you mean 'max_size'" in refused(onnxmi.UsageError, onnxmi.check, model, maxsize="1MB")
    assert "single options are keywords" in refused(onnxmi.UsageError, onnxmi.prune, model, arrays, {"keep": 0.5})


@pytest.mark.parametrize("given", [None, 3, b"model", np.zeros(3)], ids=repr)
def test_what_is_no_model(arrays, given):
    message = refused(onnxmi.UsageError, onnxmi.prune, given, arrays)
    assert message.startswith("model: expected a path, an onnx.ModelProto or an onnxmi.Model, not ")


@pytest.mark.parametrize(
    ("typed", "options", "more"),
    [
        (PruneFields, onnxmi.PruneOptions, set()),
        (BenchFields, onnxmi.BenchOptions, set()),
        (CheckFields, onnxmi.CheckOptions, {name.replace("-", "_") for name in LIMITS} - {"limits"}),
    ],
)
def test_type_checkers_know_every_option(typed, options, more):
    assert get_type_hints(typed).keys() == ({field.name for field in fields(options)} | more) - {"limits"}


# -- files ------------------------------------------------------------------------------------------------------------


def test_the_same_files_as_from_the_command_line(folder):
    done = CliRunner().invoke(
        main, ["prune", "model.onnx", "calib.npz", "--keep", "0.5", "--threads", "1", "-o", "a.onnx"]
    )
    assert done.exit_code == 0
    onnxmi.prune("model.onnx", "calib.npz", keep=0.5, threads=1, output="b.onnx")
    onnxmi.prune("model.onnx", "calib.npz", keep=0.5, threads=1).save("c.onnx")
    for ending in ("onnx", "plan.json"):
        written = {(folder / f"{name}.{ending}").read_bytes() for name in "abc"}
        assert len(written) == 1


def test_nothing_is_written_where_it_may_not_be(folder):
    before = names_in(folder)
    for output, error in (("model.onnx", onnxmi.UsageError), (".", onnxmi.DataError), ("no/x.onnx", onnxmi.DataError)):
        refused(error, onnxmi.prune, "model.onnx", "calib.npz", output=output)
    result = onnxmi.prune("model.onnx", "calib.npz", QUICK)
    assert "is also an input" in refused(onnxmi.UsageError, result.save, "model.onnx")
    assert "expected a path, not NoneType" in refused(onnxmi.UsageError, result.save, None)
    assert names_in(folder) == before


def test_a_bad_place_is_known_before_the_long_work(folder, monkeypatch):
    monkeypatch.setattr("onnxmi.pruning.pipeline.start_session", lambda *_, **__: pytest.fail("the work has started"))
    refused(onnxmi.DataError, onnxmi.prune, "model.onnx", "calib.npz", output="no/x.onnx")


def test_a_model_that_was_changed_afterwards_is_not_saved(folder, model, arrays):
    result = onnxmi.prune(model, arrays, QUICK)
    result.proto.producer_name = "somebody else"
    assert "was changed after it was verified" in refused(onnxmi.CheckError, result.save, "small.onnx")
    assert "small.onnx" not in names_in(folder)


def test_an_applied_plan_is_a_result(folder, model, result):
    applied = onnxmi.apply(model, result.plan, output="cut.onnx")
    assert applied.after.parameters == result.after.parameters
    assert (applied.before.macs, applied.after.macs) == (result.before.macs, result.after.macs)
    assert (applied.quality, applied.latency, applied.repairs) == (None, None, ())
    assert onnx.load("cut.onnx") == applied.model
    assert onnxmi.load_plan("cut.plan.json").digest == result.plan.digest
    assert "nothing is repaired" in str(applied)


def test_an_applied_plan_may_be_unpacked_as_before(model, result):
    applied = onnxmi.apply(model, result.plan)
    with pytest.warns(DeprecationWarning, match="returns a Result"):
        proto, checks = applied
    with pytest.warns(DeprecationWarning, match="returns a Result"):
        assert applied[0] is proto is applied.model
    assert checks is applied.checks


# -- what is printed --------------------------------------------------------------------------------------------------


def shape(text: str) -> list[str]:
    """Words and their order, without numbers, rules and spaces."""
    return re.sub(r"─+", "", re.sub(r"[+-]?\d[\d,.]*", "#", text)).replace("slower", "faster").split()


def printed_by(*args):
    done = CliRunner().invoke(main, list(args))
    return done.stdout


def test_a_result_prints_what_the_command_line_prints(folder):
    result = onnxmi.prune("model.onnx", "calib.npz", keep=0.5, threads=1)
    printed = printed_by(
        "prune", "model.onnx", "calib.npz", "--keep", "0.5", "--threads", "1", "-o", "a.onnx", "--fresh"
    )
    screen = "\n".join(line for line in printed.split("Next")[0].splitlines() if not line.startswith("wrote "))
    assert shape(str(result)) == shape(screen)
    assert "\x1b" not in str(result)


def test_other_results_print_what_their_commands_print(folder):
    curve = onnxmi.sweep("model.onnx", "calib.npz", by="macs", shares=["60%"], threads=1)
    again = printed_by("sweep", "model.onnx", "calib.npz", "--by", "macs", "--at", "60%", "--threads", "1")
    assert shape(str(curve)) == shape(again.split("Next")[0])
    assert str(onnxmi.inspect("model.onnx")).split() == printed_by("inspect", "model.onnx").split()
    checked = onnxmi.check("model.onnx", max_size="9MB")
    assert str(checked).split() == printed_by("check", "model.onnx", "--max-size", "9MB").split()
    timed = onnxmi.bench("model.onnx", threads=1, seconds="50ms", memory=False, operators=False)
    bench = ("bench", "model.onnx", "--threads", "1", "--seconds", "50ms", "--no-memory", "--no-operators")
    assert shape(str(timed)) == shape(printed_by(*bench))


def test_colors_asked_for_stay_out_of_texts(result, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert "\x1b" not in str(result)


def test_notebooks_show_the_same_as_html(result):
    page = result._repr_html_()
    assert page.startswith("<pre")
    text = html.unescape(re.sub(r"<[^>]+>", "", page))
    assert text.split() == str(result).split()


def test_names_from_files_are_no_html(arrays, mlp):
    page = onnxmi.prune(mlp(prefix="<b>&"), arrays, QUICK)._repr_html_()
    assert "<b>" not in page
    assert "&lt;b&gt;&amp;fc0" in page


def test_a_repr_is_one_short_line(result, model, arrays, folder):
    assert repr(result) == "<onnxmi.Result: 2 layers cut, 258 -> 101 parameters, 1.3 kB -> 0.7 kB>"
    shown = [onnxmi.inspect(model), onnxmi.check("model.onnx", max_size="9MB")]
    assert [repr(one) for one in shown] == [
        "<onnxmi.Inspection: 2 layers with 22 units can be cut>",
        "<onnxmi.Report: 0 of 2 checks of model.onnx failed>",
    ]


def test_plain_data_is_what_json_has(folder):
    found = onnxmi.inspect("model.onnx").to_dict()
    assert found == json.loads(printed_by("inspect", "model.onnx", "--json"))


# -- the other functions ----------------------------------------------------------------------------------------------


def test_models_in_memory_are_measured_and_checked(model, arrays, result):
    timed = onnxmi.bench([model, result.model], data=arrays, threads=(1,), batch=(1, 3), seconds=0.05, operators=False)
    assert [(row.model, row.setting.batch, row.memory) for row in timed.rows] == [
        (name, batch, None) for batch in (1, 3) for name in ("model 1", "model 2")
    ]
    report = onnxmi.check(result.model, baseline=model, data=arrays, max_size_ratio="99%", max_drop="90%")
    assert report.passed
    assert "needs a model file" in refused(onnxmi.UsageError, onnxmi.check, model, max_memory="1GB")


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({}, "no limit is given"),
        ({"max_size": "5ms"}, "max-size: '5ms' is not a size such as 10MB"),
        ({"max_size": 1, "seconds": "long"}, "seconds: 'long' is not a time such as 5s"),
        ({"limits": 3}, "limits: 3 is not a mapping"),
        ({"limits": {"max-weight": 3}}, "no limit 'max-weight'; there are max-size"),
    ],
)
def test_checks_that_cannot_be_made(model, keywords, message):
    options = onnxmi.CheckOptions(limits=keywords.pop("limits")) if "limits" in keywords else None
    assert message in refused(onnxmi.UsageError, onnxmi.check, model, options, **keywords)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"threads": "one"}, "threads: 'one' is not a whole number"),
        ({"batch": 0}, "batch, sequence and runs must be 1 or more"),
        ({"seconds": 0}, "seconds: 0: wanted: a time above 0"),
        ({"clock": "sun"}, "the clock is wall, or cpu"),
    ],
)
def test_benchmarks_that_cannot_be_made(model, keywords, message):
    assert message in refused(onnxmi.UsageError, onnxmi.bench, model, **keywords)


def test_no_models_to_measure():
    assert refused(onnxmi.UsageError, onnxmi.bench) == "models: give one or more to measure"


@pytest.mark.parametrize("shares", ["50%", 0.5, [0], ["2x"], ["wide"]])
def test_shares_that_are_none(model, arrays, shares):
    assert "share" in refused(onnxmi.UsageError, onnxmi.sweep, model, arrays, shares=shares)


def test_a_page_of_a_result(folder, result):
    page = onnxmi.report(result, "run.html")
    assert b"fc0" in page.read_bytes()
    assert "say where to write" in refused(onnxmi.UsageError, onnxmi.report, result)
    assert "result: expected a path, not int" in refused(onnxmi.UsageError, onnxmi.report, 3)
