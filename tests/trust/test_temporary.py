"""What a killed run leaves is removed by the next one, and nothing that somebody still uses."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from onnxmi.errors import DataError
from onnxmi.model import temporary
from onnxmi.model.save import write_together
from onnxmi.model.temporary import TemporaryFolder, exclusive

# Makes a folder with a file in it, says so, and waits for its end.
_HOLDER = """
import sys, time
from pathlib import Path
from onnxmi.model.temporary import TemporaryFolder
folder = TemporaryFolder(sys.argv[1])
Path(folder.name, "1.tmp").write_text("half")
print(folder.name, flush=True)
time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process with a temporary folder in tmp_path."""
    process = subprocess.Popen([sys.executable, "-c", _HOLDER, tmp_path], stdout=subprocess.PIPE, text=True)
    process.folder = Path(process.stdout.readline().strip())
    yield process
    process.kill()
    process.communicate()


def left(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_folder_is_gone_at_the_end(tmp_path):
    with TemporaryFolder(tmp_path) as name:
        assert left(tmp_path) == [os.path.basename(name)]
    assert left(tmp_path) == []


def test_a_folder_goes_with_its_object(tmp_path):
    folder = TemporaryFolder(tmp_path)
    with pytest.warns(ResourceWarning, match="Implicitly cleaning up"):
        del folder
    assert left(tmp_path) == []


def test_what_a_killed_process_left_is_removed(tmp_path, holder):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert (holder.folder / "1.tmp").exists()
    with TemporaryFolder(tmp_path):
        assert not holder.folder.exists()


def test_what_is_in_use_stays(tmp_path, holder):
    with TemporaryFolder(tmp_path), TemporaryFolder(tmp_path):
        assert (holder.folder / "1.tmp").exists()
        assert len(left(tmp_path)) == 3


def test_what_others_made_stays(tmp_path):
    """Links, files, and folders of other names."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "file").touch()
    (tmp_path / ".onnxmi-link.tmp").symlink_to(elsewhere)
    (tmp_path / ".onnxmi-file.tmp").touch()
    (tmp_path / ".onnxmi-else").mkdir()
    before = left(tmp_path)
    with TemporaryFolder(tmp_path):
        pass
    assert left(tmp_path) == before
    assert (elsewhere / "file").exists()


def test_folders_of_other_users_stay(tmp_path, monkeypatch):
    (tmp_path / ".onnxmi-old.tmp").mkdir()
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with TemporaryFolder(tmp_path):
        assert ".onnxmi-old.tmp" in left(tmp_path)


@pytest.mark.parametrize("error", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_where_nothing_can_be_locked_nothing_is_swept(tmp_path, monkeypatch, error):
    def unable(*_):
        raise OSError(error, os.strerror(error))

    (tmp_path / ".onnxmi-old.tmp").mkdir()
    monkeypatch.setattr(temporary.fcntl, "flock", unable)
    with TemporaryFolder(tmp_path), exclusive(str(tmp_path)):
        assert len(left(tmp_path)) == 2


def test_a_folder_that_is_swept_before_it_is_locked_is_made_again(tmp_path, monkeypatch):
    real, made = temporary._locked, []

    def swept_first(path):
        if not made:
            os.rmdir(path)
        made.append(path)
        return real(path) if os.path.isdir(path) else os.open("/", os.O_RDONLY)

    monkeypatch.setattr(temporary, "_locked", swept_first)
    with TemporaryFolder(tmp_path) as name:
        assert os.path.isdir(name)
        assert len(made) == 2


def test_writing_removes_what_a_killed_run_left(tmp_path, holder):
    holder.kill()
    holder.wait()
    write_together({tmp_path / "f": b"new"})
    assert left(tmp_path) == ["f"]


# -- files that belong together ---------------------------------------------------------------------------------------


def states(tmp_path, monkeypatch, old):
    """What a reader sees at each moment of writing three files, old ones being there or not."""
    names = ("m.onnx.data", "m.onnx", "m.plan.json")
    for name in names if old else ():
        (tmp_path / name).write_text(f"old {name}")
    seen = []

    def look(function):
        def call(*args):
            result = function(*args)
            seen.append({path.name: path.read_text() for path in tmp_path.iterdir() if path.is_file()})
            return result

        return call

    for name in ("replace", "rename"):
        monkeypatch.setattr(os, name, look(getattr(os, name)))
    write_together({tmp_path / name: f"new {name}".encode() for name in names})
    return seen


@pytest.mark.parametrize("old", [False, True], ids=["first", "again"])
def test_at_no_moment_do_files_stand_together_that_do_not_fit(tmp_path, monkeypatch, old):
    seen = states(tmp_path, monkeypatch, old)
    assert len(seen) == (5 if old else 3)
    for files in seen:
        ages = {text.split()[0] for name, text in files.items()}
        assert len(ages) == 1 or set(files) == {"m.onnx.data"}, files
        if "m.onnx" in files:
            assert files["m.onnx.data"].split()[0] == files["m.onnx"].split()[0]


def test_a_model_without_external_data_is_always_there(tmp_path, monkeypatch):
    (tmp_path / "m.onnx").write_text("old")
    (tmp_path / "m.plan.json").write_text("old")
    real = os.replace

    def replace(source, target):
        assert (tmp_path / "m.onnx").exists()
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    write_together({tmp_path / "m.onnx": b"new", tmp_path / "m.plan.json": b"new"})


@pytest.mark.parametrize("number", range(5))
def test_a_failure_at_any_moment_brings_the_old_files_back(tmp_path, monkeypatch, number):
    names = ("m.onnx.data", "m.onnx", "m.plan.json")
    for name in names:
        (tmp_path / name).write_text(f"old {name}")
    calls = []

    def fails(function):
        def call(*args):
            calls.append(args)
            if len(calls) == number + 1:
                raise OSError(errno.EIO, "broken")
            return function(*args)

        return call

    for name in ("replace", "rename"):
        monkeypatch.setattr(os, name, fails(getattr(os, name)))
    with pytest.raises(DataError, match="cannot be written: broken"):
        write_together({tmp_path / name: b"new" for name in names})
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {name: f"old {name}" for name in names}


def test_two_writers_take_turns(tmp_path):
    """The second waits with renaming while the first is at it."""
    code = f"""
from pathlib import Path
from onnxmi.model.save import write_together
write_together({{Path({str(tmp_path)!r}, name): b"theirs" for name in "ab"}})
"""
    with exclusive(str(tmp_path)):
        process = subprocess.Popen([sys.executable, "-c", code])
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=3)
        assert not (tmp_path / "a").exists()
    assert process.wait(timeout=60) == 0
    assert left(tmp_path) == ["a", "b"]


def test_a_folder_that_is_swept_before_it_is_locked_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when another process looks just then, finds nobody's lock on it, and removes it."""
    lock, swept = temporary._locked, list[str]()

    def late(path: str) -> int | None:
        if not swept:
            swept.append(os.fspath(path))
            shutil.rmtree(path)
        return lock(path)

    monkeypatch.setattr(temporary, "_locked", late)
    with TemporaryFolder(tmp_path) as name:
        assert swept
        assert name not in swept
        assert Path(name).is_dir()
