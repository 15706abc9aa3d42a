"""The doors to other systems: their files are well formed, and their steps do what they say when they are run here."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from onnxmi.cli import main

ROOT = Path(__file__).resolve().parents[2]
yaml = pytest.importorskip("yaml", reason="PyYAML comes with the extra `docs`")
YAML = (
    *("action.yml", ".pre-commit-hooks.yaml", "docs/ci/gitlab-template.yml", "docs/ci/github-workflow.yml"),
    *("docs/ci/pre-commit-config.yaml", ".github/workflows/release.yml", ".github/ISSUE_TEMPLATE/bug.yml"),
    *(".github/ISSUE_TEMPLATE/model.yml", ".ci/dependencies.yml"),
)
LIMITS = '[check]\nmodel = "{model}"\nmax-size = "{size}"\n'


def read(name: str) -> Any:
    return yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


@pytest.fixture
def project(tmp_path):
    """A project with a model and its limits; its `bin` has what the steps call, without installing anything."""
    model = ROOT / "models" / "digits-mlp.onnx"
    (tmp_path / "onnxmi.toml").write_text(LIMITS.format(model=model, size="1MB"))
    programs = tmp_path / "onnxmi" / "bin"
    programs.mkdir(parents=True)
    (programs / "onnxmi").symlink_to(Path(sys.executable).parent / "onnxmi")
    return tmp_path


def in_bash(script: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "RUNNER_TEMP": str(folder), **variables}
    command = ["bash", "-eo", "pipefail", "-c", script]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize("name", YAML)
def test_the_file_is_well_formed(name):
    assert read(name)


@pytest.mark.parametrize("name", YAML)
def test_its_commands_exist(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    for command in re.findall(r"(?<![\w./-])onnxmi (check|prune|bench|doctor)\b", text):
        assert command in main.commands
    for option in re.findall(r"onnxmi[\"']? check [^\n]*", text):
        known = {name for parameter in main.commands["check"].params for name in parameter.opts}
        assert set(re.findall(r"(?<=\s)--[a-z-]+", option)) <= known


def steps(name: str) -> dict[str, dict[str, Any]]:
    return {step["name"]: step for step in read(name)["runs"]["steps"]}


def test_the_action_checks_and_passes_arguments_on(project):
    step = steps("action.yml")["Check the model"]
    assert set(step["env"]) == {"CONFIG", "ARGUMENTS", "JUNIT"}
    done = in_bash(step["run"], project, CONFIG="onnxmi.toml", ARGUMENTS="", JUNIT="check.xml")
    assert done.returncode == 0, done.stderr
    assert "<testsuite" in (project / "check.xml").read_text()
    failing = in_bash(step["run"], project, CONFIG="onnxmi.toml", ARGUMENTS="--max-size 1kB --strict", JUNIT="a b.xml")
    assert failing.returncode == 1
    assert (project / "a b.xml").exists()


def test_the_action_installs_its_checkout_or_what_is_named(project):
    script = steps("action.yml")["Install onnxmi"]["run"]
    calls = project / "calls"
    fake = project / "python"
    fake.write_text(
        '#!/bin/bash\nmkdir -p "$3/bin"\nprintf \'#!/bin/bash\\necho "${@: -1}" >> "$CALLS"\\n\' > "$3/bin/pip"\n'
        'chmod +x "$3/bin/pip"\n'
    )
    fake.chmod(0o755)
    variables = {"PATH": f"{project}:{os.environ['PATH']}", "CALLS": str(calls), "CHECKOUT": "/a checkout"}
    for install in ("", "wheels/x.whl"):
        assert in_bash(script, project, INSTALL=install, **variables).returncode == 0
    assert calls.read_text().splitlines() == ["/a checkout", "wheels/x.whl"]


def test_the_template_runs_a_check(project):
    job = read("docs/ci/gitlab-template.yml")[".onnxmi-check"]
    script = job["script"][-1].replace("/tmp/onnxmi/bin", str(project / "onnxmi" / "bin"))
    done = in_bash(script, project, **{**job["variables"], "ONNXMI_CONFIG": "onnxmi.toml"})
    assert done.returncode == 0, done.stderr
    assert (project / job["artifacts"]["reports"]["junit"]).exists()


def test_the_hook_is_a_command_of_the_package(project):
    (hook,) = read(".pre-commit-hooks.yaml")
    assert (hook["id"], hook["language"], hook["pass_filenames"]) == ("onnxmi-check", "python", False)
    assert re.search(hook["files"], "models/net.onnx")
    assert not re.search(hook["files"], "README.md")
    entry = hook["entry"].replace("onnxmi", str(project / "onnxmi" / "bin" / "onnxmi"), 1)
    assert in_bash(entry, project).returncode == 0


@pytest.mark.skipif(importlib.util.find_spec("pre_commit") is None, reason="pre-commit is not installed")
def test_pre_commit_accepts_the_hook():
    from pre_commit.clientlib import load_manifest

    assert [hook["id"] for hook in load_manifest(ROOT / ".pre-commit-hooks.yaml")] == ["onnxmi-check"]


DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")


def test_the_image_runs_without_rights_and_writes_to_tmp_only():
    final = DOCKERFILE.rpartition("FROM ")[2]
    assert re.search(r"^USER 10001:10001$", final, re.MULTILINE)
    variables = dict(pair.split("=", 1) for pair in re.search(r"^ENV (.+)$", final, re.MULTILINE)[1].split())
    assert variables["ONNXMI_CACHE"].startswith("/tmp/")
    assert variables["MPLCONFIGDIR"].startswith("/tmp/")


def test_what_the_image_is_built_from_is_in_its_context():
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    for line in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE):
        for name in line.split()[:-1]:
            assert (ROOT / name).exists()
            assert any(pattern.lstrip("!").split("/")[0] == name for pattern in ignored if pattern.startswith("!"))


@pytest.mark.skipif(os.getuid() != 0, reason="only root may run as another user")
def test_the_steps_work_without_a_home_and_without_rights():
    """What the container does: another user, no HOME, a place to work in, and nothing else that can be written to."""
    with TemporaryDirectory() as place:  # pytest's own folders are closed to other users
        Path(place).chmod(0o755)
        work, scratch = Path(place) / "work", Path(place) / "tmp"
        for folder in (work, scratch):
            folder.mkdir()
            folder.chmod(0o777)
        done = prune_as_nobody(work, scratch)
        assert done.returncode == 0, done.stderr
        assert (work / "small.onnx").stat().st_uid == 10001
        assert {path.name for path in work.iterdir()} == {"small.onnx", "small.plan.json", "small.html"}


def open_python() -> str:
    """Return a Python of this version that other users may run: this one, or the system's."""
    candidates = (sys.executable, f"/usr/bin/python{sys.version_info.major}.{sys.version_info.minor}")
    for candidate in candidates:
        try:
            subprocess.run([candidate, "-c", ""], check=True, user=10001, group=10001, extra_groups=[])
        except (OSError, subprocess.CalledProcessError):
            continue
        return candidate
    pytest.skip("another user may run no Python of this version")


def prune_as_nobody(work: Path, scratch: Path) -> subprocess.CompletedProcess[str]:
    model = str(ROOT / "models" / "digits-mlp.onnx")
    command = [open_python(), "-B", "-m", "onnxmi", "prune", model, model.replace(".onnx", ".calib.npz")]
    return subprocess.run(
        [*command, "--keep", "0.5", "--threads", "1", "-o", "small.onnx", "--report", "small.html"],
        cwd=work,
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.pathsep.join([str(ROOT), sysconfig.get_path("purelib")]),
            "TMPDIR": str(scratch),
            "ONNXMI_CACHE": str(scratch / "onnxmi"),
            "MPLCONFIGDIR": str(scratch / "matplotlib"),
        },
        user=10001,
        group=10001,
        extra_groups=[],
        capture_output=True,
        text=True,
        timeout=300,
    )
