"""Where the cache is: where the user says, in the user's folder, or nowhere."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from onnxmi.runtime.cache_folder import cache_entries, cache_folder


@pytest.fixture
def nobody(monkeypatch):
    """A user whom the system does not know, without HOME."""

    def fail() -> Path:
        raise RuntimeError("Could not determine home directory.")

    for name in ("HOME", "XDG_CACHE_HOME", "ONNXMI_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", fail)


def test_a_user_without_a_home_has_no_cache(nobody):
    folder = cache_folder()
    assert not folder.exists()
    assert cache_entries(folder) == []
    with pytest.raises(OSError, match=os.devnull):
        folder.mkdir(parents=True)


@pytest.mark.usefixtures("nobody")
@pytest.mark.parametrize(("variable", "rest"), [("ONNXMI_CACHE", ""), ("XDG_CACHE_HOME", "onnxmi")])
def test_what_the_environment_says_needs_no_home(monkeypatch, tmp_path, variable, rest):
    monkeypatch.setenv(variable, str(tmp_path))
    assert cache_folder() == tmp_path / rest
