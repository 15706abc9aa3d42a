"""What reaches the terminal: help, colours, names from hostile files, and signals."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys

import onnx
import pytest

from onnxmi import cli

CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")
COLOUR = re.compile(r"\x1b\[(?:\d+;)*(?:3|4|9|10)\d(?:;\d+)*m")


# -- help -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "args",
    [("-h",), ("--help",), ("prune", "-h"), ("inspect", "-h"), ("apply", "-h"), ("bench", "-h"), ("check", "-h")],
)
def test_help_fits_80_columns_and_has_examples_and_exit_codes(place, args):
    lines = place.succeeds(*args).splitlines()
    assert max(map(len, lines)) <= 80
    assert lines.count("  Examples:") == lines.count("  Exit codes:") == 1
    assert any(line.startswith("    onnxmi ") for line in lines)
    assert "    3  a file cannot be used, or the result cannot be written" in lines
    assert "\\b" not in "".join(lines)


def test_every_option_has_a_help_text():
    for command in cli.main.commands.values():
        for parameter in command.params:
            assert parameter.param_type_name == "argument" or parameter.help


def test_version(place):
    lines = place.succeeds("--version").splitlines()
    assert [line.split()[0] for line in lines] == [
        *("onnxmi", "onnx", "onnxruntime", "onnx-graphsurgeon", "numpy", "python"),
    ]
    assert all(re.fullmatch(r"\S+ \d+\.\d+\S*", line) for line in lines)


# -- colours and characters -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [("prune", "model.onnx", "calib.npz", "--keep", "0.5"), ("inspect", "model.onnx")])
def test_no_control_characters_outside_a_terminal(place, command):
    done = place.process(*command)
    assert done.returncode == 0
    assert not CONTROL.search(done.stdout)


def on_a_terminal(place, *args, **environment):
    """Run with standard output and error on a terminal; returns the exit code and what came out."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        place.command(*args),
        cwd=place.folder,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "80", **environment},
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    seen = b""
    try:
        while block := os.read(ours, 4096):
            seen += block
    except OSError:  # how Linux says that the other end is closed
        pass
    os.close(ours)
    return process.wait(timeout=60), seen.decode()


def test_a_terminal_gets_progress_and_no_colour_if_it_wants_none(place):
    arguments = ("prune", "model.onnx", "calib.npz", "--keep", "0.5", "--fresh")
    code, seen = on_a_terminal(place, *arguments, NO_COLOR="1")
    assert code == 0
    assert re.search(r"stage \d of 5, measuring activations", seen)
    assert "wrote model.pruned.onnx" in seen
    assert not COLOUR.search(seen)


def test_a_terminal_without_unicode(place):
    done = place.process("prune", "model.onnx", "calib.npz", "--keep", "0.5", PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.isascii()


HOSTILE = "[bold red]x[/] \x1b[31m\x07\r\n\x9b2J \u202e\u2028 é [/nonsense]"


@pytest.fixture
def hostile(place, mlp):
    onnx.save(mlp(prefix=HOSTILE), place.folder / "model.onnx")
    return place


@pytest.mark.parametrize("args", [("prune", "model.onnx", "calib.npz", "--keep", "0.5"), ("inspect", "model.onnx")])
def test_names_from_the_model_cannot_drive_the_terminal(hostile, args):
    text = hostile.succeeds(*args, columns=200)
    assert not CONTROL.search(text)
    assert "\u202e" not in text
    assert "[bold red]x[/] \\x1b[31m\\x07\\r\\n\\x9b2J \\u202e\\u2028 é [/nonsense]fc0" in text


def test_names_from_the_model_in_errors(hostile):
    proto = onnx.load(hostile.folder / "model.onnx")
    proto.graph.node[0].op_type = HOSTILE
    onnx.save(proto, hostile.folder / "model.onnx")
    assert not CONTROL.search(hostile.fails(3, "inspect", "model.onnx"))


def test_names_of_files_in_errors_and_results(place):
    name = os.fsdecode(b"odd\x1b[31m\xff.onnx")
    (place.folder / "model.onnx").rename(place.folder / name)
    assert "odd\\x1b[31m\\udcff" in place.fails(3, "prune", name, "none.npz") + place.fails(3, "inspect", name + "x")
    text = place.succeeds("prune", name, "calib.npz", "--keep", "0.5")
    assert "wrote odd\\x1b[31m\\udcff.pruned.onnx" in text
    assert not CONTROL.search(text)


def test_a_reader_that_goes_away(place):
    command = f"{sys.executable} -m onnxmi inspect model.onnx | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], cwd=place.folder, capture_output=True, text=True, timeout=60)
    assert done.stderr == ""


# -- signals ----------------------------------------------------------------------------------------------------------

# Stops in the middle of writing, with a temporary file on the disk, until a signal comes.
_STUCK = """
import os, sys, time
from onnxmi import cli
def stuck(_descriptor):
    print("writing", flush=True)
    time.sleep(60)
os.fsync = stuck
cli.main()
"""


@pytest.mark.parametrize(
    ("number", "code", "message"),
    [(signal.SIGINT, 130, "onnxmi: error: interrupted\n"), (signal.SIGTERM, 143, "")],
    ids=["SIGINT", "SIGTERM"],
)
def test_a_signal_while_writing_leaves_nothing(place, number, code, message):
    before = place.contents()
    process = subprocess.Popen(
        [sys.executable, "-c", _STUCK, "prune", "model.onnx", "calib.npz", "--keep", "0.5"],
        cwd=place.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert process.stdout.readline() == "writing\n"
    assert any(name.endswith(".tmp") for name in place.contents())
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (code, message)
    assert place.contents() == before


def test_an_interrupt_while_working_leaves_nothing(place, monkeypatch):
    def interrupt(*_args, **_kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("onnxmi.pruning.collect.capture", interrupt)
    assert place.fails(130, "prune", "model.onnx", "calib.npz", "--keep", "0.5") == "interrupted"


def test_the_handler_of_the_caller_comes_back(place):
    def mine(_number, _frame):
        pass

    before = signal.signal(signal.SIGTERM, mine)
    try:
        place.succeeds("inspect", "model.onnx")
        assert signal.getsignal(signal.SIGTERM) is mine
    finally:
        signal.signal(signal.SIGTERM, before)
