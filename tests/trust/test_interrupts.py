"""Ctrl-C and SIGTERM at bad moments: while modules load, in a long call, and twice."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

# Interrupts itself when the first large package is about to be imported.
_IMPORTING = """
import os, runpy, signal, sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "onnx":
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Finder())
sys.argv = ["onnxmi", "inspect", "none.onnx"]
runpy.run_module("onnxmi", run_name="__main__")
"""

# Stays in one call, which Python cannot interrupt, for minutes.
_BUSY = """
import hashlib, sys
from onnxmi import __main__
from onnxmi.api import pruning
def busy(*_, **__):
    print("busy", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 1 << 30)
pruning.as_model = busy
sys.argv = ["onnxmi", "inspect", "model.onnx"]
__main__.run()
"""

# Takes long to clean up.
_SLOW = """
import sys, time
from onnxmi import __main__
from onnxmi.api import pruning
from onnxmi.cli import signals
signals.GRACE = 1000
def slow(*_, **__):
    try:
        print("working", flush=True)
        time.sleep(60)
    finally:
        print("cleaning", flush=True)
        time.sleep(60)
pruning.as_model = slow
sys.argv = ["onnxmi", "inspect", "model.onnx"]
__main__.run()
"""


def start(code, interrupt=signal.default_int_handler):
    """Start Python with SIGINT as a terminal's programs have it, whatever it is here."""
    return subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, interrupt),
    )


@pytest.fixture
def run():
    processes = []

    def begin(*args):
        processes.append(start(*args))
        return processes[-1]

    yield begin
    for process in processes:
        process.kill()
        process.communicate()


def test_an_interrupt_while_modules_load(run):
    process = run(_IMPORTING)
    assert process.communicate(timeout=60) == ("", "onnxmi: error: interrupted\n")
    assert process.returncode == 130


@pytest.mark.parametrize(
    ("number", "code", "message"),
    [(signal.SIGINT, 130, "onnxmi: error: interrupted\n"), (signal.SIGTERM, 143, "")],
    ids=["SIGINT", "SIGTERM"],
)
def test_a_long_call_is_not_waited_for(run, number, code, message):
    process = run(_BUSY)
    assert process.stdout.readline() == "busy\n"
    process.send_signal(number)
    assert process.communicate(timeout=60) == ("", message)
    assert process.returncode == code


def test_who_asks_twice_does_not_wait(run):
    process = run(_SLOW)
    assert process.stdout.readline() == "working\n"
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == "cleaning\n"
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=60)[1] == "onnxmi: error: interrupted\n"
    assert process.returncode == 130


# Interrupted when the command is done, and click cleans up.
_LATE = """
import os, signal, sys, time
from onnxmi import __main__
from onnxmi.pruning import pipeline
from onnxmi.cli import main
real = main.invoke
def invoke(ctx):
    try:
        return real(ctx)
    finally:
        os.kill(os.getpid(), signal.SIGINT)
main.invoke = invoke
sys.argv = ["onnxmi", "inspect", "none.onnx"]
__main__.run()
"""


def test_an_interrupt_between_our_code_and_the_libraries(run):
    """click would say Aborted! and exit with 1."""
    process = run(_LATE)
    assert process.communicate(timeout=60)[1].endswith("onnxmi: error: interrupted\n")
    assert process.returncode == 130


def test_what_is_ignored_stays_ignored(run):
    """Shells start what runs in the background so."""
    process = run(_IMPORTING, signal.SIG_IGN)
    assert "none.onnx: cannot be read" in process.communicate(timeout=60)[1]
    assert process.returncode == 3


def test_handlers_come_back(place, monkeypatch):
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    place.succeeds("inspect", "model.onnx")
    place.fails(3, "inspect", "none.onnx")
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    assert signal.set_wakeup_fd(-1) == -1


def test_the_package_loads_its_parts_when_they_are_asked_for():
    code = "import sys, onnxmi; assert 'numpy' not in sys.modules; onnxmi.prune; assert 'numpy' in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
    code = "from onnxmi import *; print(prune, Plan, __version__); import onnxmi; print(dir(onnxmi)); onnxmi.nonsense"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "'load_plan'" in done.stdout
    assert "module 'onnxmi' has no attribute 'nonsense'" in done.stderr
