"""A release can be built, has what it should have, and works from the wheel in a fresh environment."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from typing import Any

import pytest

from tools import release

NEEDED = ("build", "twine")


def test_versions_that_contradict_each_other_are_told():
    changelog = "## [Unreleased]\n\n## [0.2.0] - 2026-11-27\n\n- x\n"
    assert release.agreement("0.2.0", "v0.2.0", changelog) == []
    assert release.agreement("0.2.0", "", "## [Unreleased]\n") == []
    assert release.agreement("0.3.0", "v0.2.0", changelog) == [
        "the tag is v0.2.0, the version 0.3.0",
        "CHANGELOG.md has no dated section [0.3.0]",
    ]


def test_what_does_not_belong_into_a_package_is_told():
    names = ["onnxmi/__init__.py", "onnxmi/x.pyc", "tests/test_x.py", "onnxmi-1.0.dist-info/METADATA"]
    problems = release.contents("wheel", names, ("onnxmi/__init__.py", "onnxmi/py.typed"), "1.0")
    assert problems == [
        "the wheel lacks onnxmi/py.typed",
        "the wheel has onnxmi/x.pyc",
        "the wheel has tests/test_x.py",
    ]


def test_the_description_for_an_index_has_no_broken_link():
    text = (release.ROOT / "setup.py").read_text(encoding="utf-8")
    function = text[text.index("def read_description") : text.index("\n\nsetup(")]
    place: dict[str, Any] = {"re": re, "ROOT": release.ROOT}
    exec(function, place)
    assert re.findall(r"\]\((?!https?:)", place["read_description"]()) == []
    assert "docs/quantize.md" in place["read_description"]()


def test_readme_has_commands_to_try():
    commands = release.readme_commands((release.ROOT / "README.md").read_text(encoding="utf-8"))
    assert len(commands) >= 6
    assert all(command.startswith("onnxmi ") and "   " not in command for command in commands)


@pytest.mark.skipif(any(importlib.util.find_spec(name) is None for name in NEEDED), reason="needs the extra `release`")
def test_the_release_is_built_and_works_in_a_fresh_environment(tmp_path):
    command = [sys.executable, "tools/release.py"]
    out = tmp_path / "dist"
    built = subprocess.run([*command, "check", "--out", str(out)], cwd=release.ROOT, capture_output=True, text=True)
    if "Could not find a version" in built.stderr + built.stdout and not os.environ.get("CI"):
        pytest.skip("no package index can be reached")
    assert built.returncode == 0, built.stdout[-3000:] + built.stderr[-3000:]
    (wheel,) = out.glob("*.whl")
    tried = subprocess.run([*command, "try", str(wheel)], cwd=release.ROOT, capture_output=True, text=True)
    assert tried.returncode == 0, tried.stdout[-3000:] + tried.stderr[-3000:]
