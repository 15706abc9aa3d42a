"""`onnxmi doctor`: what a bug report needs, and nothing of the user."""

from __future__ import annotations

import json

import pytest

from onnxmi.runtime.environment import processor_identity, read_environment, without_home
from onnxmi.runtime.session import providers

CPUINFO = "processor\t: 0\nmodel name\t: Test CPU 7\nflags\t\t: fpu avx2 fma avx512_vnni amx_int8\n"
MEMINFO = "MemTotal:       16384 kB\nMemFree:    1 kB\nMemAvailable:    4096 kB\n"


@pytest.fixture
def proc(tmp_path):
    (tmp_path / "cpuinfo").write_text(CPUINFO)
    (tmp_path / "meminfo").write_text(MEMINFO)
    return tmp_path


def test_the_processor_and_the_memory_are_read(proc):
    found = read_environment(proc)
    assert (found.processor, found.features) == ("Test CPU 7", ("fma", "avx2", "avx512_vnni", "amx_int8"))
    assert (found.memory, found.free_memory) == (16384 * 1024, 4096 * 1024)
    assert found.providers == providers()


def test_processors_are_told_apart_by_names_and_instructions(proc):
    one = processor_identity(proc)
    assert one == "flags\t\t: fpu avx2 fma avx512_vnni amx_int8\nmodel name\t: Test CPU 7"
    (proc / "cpuinfo").write_text(2 * CPUINFO)
    assert processor_identity(proc) == one
    (proc / "cpuinfo").unlink()
    assert processor_identity(proc)


def test_arm_spells_its_features_otherwise(proc):
    (proc / "cpuinfo").write_text("processor : 0\nFeatures : fp asimd asimddp i8mm\n")
    assert read_environment(proc).features == ("asimd", "asimddp", "i8mm")


def test_what_the_system_does_not_tell_is_left_out(tmp_path):
    found = read_environment(tmp_path)
    assert (found.features, found.memory, found.free_memory) == ((), None, None)
    assert found.threads >= 1


def test_the_home_folder_is_not_told(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path / "somebody"))
    assert without_home(tmp_path / "somebody" / ".cache") == "~/.cache"
    assert without_home("/var/tmp") == "/var/tmp"


def test_the_screen_has_what_a_report_needs(place, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path / "somebody"))
    monkeypatch.setenv("ONNXMI_CACHE", str(tmp_path / "somebody" / "cache"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    text = place.succeeds("doctor")
    assert "somebody" not in text
    for label in ("python", "onnxruntime", "numpy", "features", "8-bit products", "threads", "cache", "~/cache"):
        assert label in text


def test_a_busy_machine_and_a_small_share_of_it_are_remarked(place, monkeypatch):
    monkeypatch.setattr("os.getloadavg", lambda: (99.0, 0.0, 0.0))
    monkeypatch.setattr("os.cpu_count", lambda: 64)
    monkeypatch.setattr("onnxmi.runtime.environment.available_threads", lambda: 3)
    remarks = json.loads(place.succeeds("doctor", "--json"))["remarks"]
    assert remarks[0].startswith("this machine is busy")
    assert remarks[1] == "the process may use 3 of 64 processors"


@pytest.mark.parametrize("columns", [40, 80, 120])
def test_it_fits_the_terminal(place, columns):
    assert max(map(len, place.succeeds("doctor", columns=columns).splitlines())) <= columns
