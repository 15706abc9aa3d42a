"""No network, no pickles, no code out of files: watched by Python's own audit events, in real runs."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
SOURCES = sorted((ROOT / "onnxmi").rglob("*.py"))

# Runs the command line; from the moment that a command starts, prints what it does that it must not.
_WATCHED = """
import sys
from onnxmi import __main__
from onnxmi.pruning import pipeline
from onnxmi.cli import main
FORBIDDEN = ("socket.", "urllib.", "http.", "ftplib.", "smtplib.", "pickle.", "subprocess.", "os.system",
             "os.exec", "os.posix_spawn", "os.fork", "ctypes.dlopen")
seen = []
def watch(event, args):
    if event.startswith(FORBIDDEN) or event in ("compile", "exec", "import"):
        seen.append((event, str(args)[:200]))
sys.addaudithook(watch)
try:
    main(sys.argv[1:], prog_name="onnxmi")
finally:
    for event in dict.fromkeys(seen):
        print("AUDIT", *event, file=sys.stderr)
"""


def audited(place, *args):
    """Run a command; return its exit code and the events, apart from modules of installed packages being loaded."""
    done = subprocess.run([sys.executable, "-c", _WATCHED, *args], cwd=place.folder, capture_output=True, text=True)
    events = [line.removeprefix("AUDIT ") for line in done.stderr.splitlines() if line.startswith("AUDIT ")]
    return done.returncode, events


RUNS = {
    "prune": (0, "prune", "model.onnx", "calib.npz", "--keep", "0.5", "--threads", "1"),
    "inspect": (0, "inspect", "model.onnx", "--json"),
    "capture": (0, "capture", "model.onnx", "calib.npz", "-o", "stats.npz"),
    "a bad model": (3, "prune", "calib.npz", "calib.npz", "--keep", "0.5"),
    "bad samples": (3, "prune", "model.onnx", "model.onnx"),
}


@pytest.mark.parametrize("name", RUNS)
def test_runs_use_no_network_no_pickle_and_no_other_program(place, name):
    code, *args = RUNS[name]
    ended, events = audited(place, *args)
    assert ended == code
    assert not [event for event in events if not event.startswith(("compile", "exec", "import"))], events


@pytest.mark.parametrize("name", RUNS)
def test_what_is_compiled_and_run_is_installed(place, name):
    """Modules that are loaded late, and what the standard library makes of its own templates; nothing from our inputs.

    The text of a header of numpy's is parsed, as a literal, and never run.
    """
    _, events = audited(place, *RUNS[name][1:])
    for event in events:
        if event.startswith("exec"):
            where = re.search(r'file "([^"]+)"', event)
            assert where, event
            assert where[1].startswith(("<frozen", "<string>", "<attrs", sys.prefix, sys.base_prefix, str(ROOT))), event
        assert str(place.folder) not in event, event


def test_the_audit_sees_what_it_looks_for(place):
    reaches_out = "import pickle, socket; socket.socket(); pickle.loads(pickle.dumps(open))"
    code = _WATCHED.replace("    main(sys.argv", f"    {reaches_out}\n    main(sys.argv")
    done = subprocess.run([sys.executable, "-c", code, "inspect", "model.onnx"], cwd=place.folder, capture_output=True)
    assert b"AUDIT socket.__new__" in done.stderr
    assert b"AUDIT pickle.find_class" in done.stderr


FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__"}
FORBIDDEN_MODULES = {"pickle", "cPickle", "shelve", "marshal", "socket", "urllib", "http", "requests", "ctypes"}
LOADERS = {"register_custom_ops_library"}
ALLOWED = {
    "onnxmi/execution/allocation.py": {"ctypes"},  # a setting of the C library's own allocator
    "onnxmi/execution/dask_cluster.py": {"socket"},  # the name of a worker's machine, for its error
    "onnxmi/execution/processes.py": {"pickle"},  # whether an error of this package's own can go back to its parent
}


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_source_can_run_code_or_reach_out(source):
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in FORBIDDEN_CALLS
        if isinstance(node, ast.Attribute):
            assert node.attr not in LOADERS
        if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
            assert isinstance(node.value, ast.Constant)
            assert node.value.value is False
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        allowed = ALLOWED.get(source.relative_to(ROOT).as_posix(), set())
        assert not {name.partition(".")[0] for name in names} & (FORBIDDEN_MODULES - allowed)


def test_numpy_is_told_not_to_unpickle():
    """Where a call leaves it out, a later version of numpy could decide otherwise."""
    calls = [
        node
        for source in SOURCES
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "np.load"
    ]
    assert calls
    assert all("allow_pickle" in {keyword.arg for keyword in call.keywords} for call in calls)
