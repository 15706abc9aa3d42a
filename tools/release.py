"""Build a release and try it.

    python tools/release.py check --out dist               build wheel and source distribution, and check both
    python tools/release.py check --tag v0.2.0 --out dist  and that version, tag and changelog agree
    python tools/release.py try dist/*.whl                 install it in a fresh environment and run README's commands

`check` needs the extra `release` (build, twine). `try` needs a package index for what onnxmi depends on.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
IN_WHEEL = ("onnxmi/__init__.py", "onnxmi/py.typed", "onnxmi/reporting/html/templates/")
IN_SOURCE = ("setup.py", "pyproject.toml", "README.md", "LICENSE", "onnxmi/__init__.py")
BUNDLED = "digits-mlp"  # the model that README's MODEL.onnx stands for here
MAY_END_WITH_1 = ("--speedup", "--max-size", "--max-drop")  # what they ask for may be out of reach of a small network


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    checking = commands.add_parser("check")
    checking.add_argument("--out", type=Path, default=ROOT / "dist")
    checking.add_argument("--tag", default="")
    trying = commands.add_parser("try")
    trying.add_argument("wheel", type=Path)
    trying.add_argument("--python", default=sys.executable)
    args = parser.parse_args()
    problems = check(args.out, args.tag) if args.command == "check" else try_wheel(args.wheel, args.python)
    for problem in problems:
        print(f"release: {problem}", file=sys.stderr)
    return 1 if problems else 0


# -- build and check --------------------------------------------------------------------------------------------------


def check(out: Path, tag: str = "") -> list[str]:
    """Build into an empty folder, and return what is wrong."""
    version = stated_version()
    problems = agreement(version, tag, (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"))
    shutil.rmtree(out, ignore_errors=True)
    with tempfile.TemporaryDirectory() as clean:  # what lies about in the checkout must not get into it
        copy_tracked(Path(clean))
        subprocess.run([sys.executable, "-m", "build", "--outdir", str(out.resolve()), clean], check=True)
    wheels, sources = sorted(out.glob("*.whl")), sorted(out.glob("*.tar.gz"))
    if len(wheels) != 1 or len(sources) != 1:
        return [*problems, f"{out}: expected a wheel and a source distribution"]
    with zipfile.ZipFile(wheels[0]) as wheel:
        problems += contents("wheel", wheel.namelist(), IN_WHEEL, version)
    with tarfile.open(sources[0]) as source:
        names = [name.partition("/")[2] for name in source.getnames()]
        problems += contents("source distribution", names, IN_SOURCE)
    done = subprocess.run([sys.executable, "-m", "twine", "check", "--strict", *map(str, (*wheels, *sources))])
    return problems if done.returncode == 0 else [*problems, "twine check failed"]


def stated_version() -> str:
    text = (ROOT / "onnxmi" / "version.py").read_text(encoding="utf-8")
    return re.search(r'^__version__ = "(.+)"', text, re.MULTILINE)[1]


def agreement(version: str, tag: str, changelog: str) -> list[str]:
    """Say where the version, the tag and the changelog contradict each other; without a tag, only that it is listed."""
    problems = [f"the tag is {tag}, the version {version}"] if tag and tag != f"v{version}" else []
    sections = re.findall(r"^## \[([^\]]+)\](.*)$", changelog, re.MULTILINE)
    dated = {name for name, rest in sections if re.search(r"\d{4}-\d\d-\d\d", rest)}
    if tag and version not in dated:
        problems.append(f"CHANGELOG.md has no dated section [{version}]")
    return problems


def contents(what: str, names: Sequence[str], needed: Sequence[str], version: str = "") -> list[str]:
    """Say what a package lacks, and what does not belong into it."""
    problems = [f"the {what} lacks {need}" for need in needed if not any(name.startswith(need) for name in names)]
    strange = [name for name in names if re.search(r"\.(onnx|npz|pyc)$|__pycache__|\.venv", name)]
    if version:
        allowed = ("onnxmi/", f"onnxmi-{version}.dist-info/")
        strange += [name for name in names if not name.startswith(allowed)]
    return [*problems, *(f"the {what} has {name}" for name in strange[:3])]


def copy_tracked(target: Path) -> None:
    """Copy what git knows, as it lies here."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target / name)


# -- a fresh environment ----------------------------------------------------------------------------------------------


def try_wheel(wheel: Path, python: str) -> list[str]:
    """Install the wheel where nothing else is, and run README's commands far from the checkout."""
    with tempfile.TemporaryDirectory() as home:
        environment, place = Path(home) / "env", Path(home) / "place"
        subprocess.run([python, "-m", "venv", str(environment)], check=True)
        pip = [str(environment / "bin" / "pip"), "install", "-q", "--disable-pip-version-check"]
        subprocess.run([*pip, f"{wheel.resolve()}[report]"], check=True)
        lay_out(place)
        commands = readme_commands((ROOT / "README.md").read_text(encoding="utf-8"))
        results = [(command, run(command, place, environment / "bin")) for command in commands]
        results.append(("onnxmi doctor", run("onnxmi doctor", place, environment / "bin")))
    print(f"{len(results)} commands were run from the wheel")
    return [f"{command}: exit code {code}" for command, code in results if code not in allowed(command)]


def lay_out(place: Path) -> None:
    """Put the files that README's commands name into a folder."""
    place.mkdir()
    models = ROOT / "models"
    for name, source in (("MODEL.onnx", ".onnx"), ("CALIB.npz", ".calib.npz"), ("EVAL.npz", ".eval.npz")):
        shutil.copy(models / f"{BUNDLED}{source}", place / name)
    (place / "FOLDER").mkdir()
    shutil.copy(models / f"{BUNDLED}.eval.npz", place / "FOLDER" / "shard.npz")


def readme_commands(text: str) -> list[str]:
    """Return README's indented commands of onnxmi, without the first one and what stands beside them."""
    lines = re.findall(r"^    (onnxmi .+)$", text, re.MULTILINE)
    commands = [re.sub(r" {3,}\S.*$", "", line).strip() for line in lines]
    return [command for command in commands if "COMMAND" not in command]


def run(command: str, place: Path, programs: Path) -> int:
    words = shlex.split(command)
    words[0] = str(programs / words[0])
    extra = ["--overwrite"] if words[1] in ("prune", "apply") else []
    environment = {**os.environ, "ONNXMI_CACHE": str(place / "cache"), "OMP_NUM_THREADS": "1"}
    environment.pop("PYTHONPATH", None)
    done = subprocess.run([*words, *extra], cwd=place, env=environment, capture_output=True, text=True)
    print(f"{done.returncode}  {command}")
    return done.returncode


def allowed(command: str) -> tuple[int, ...]:
    return (0, 1) if any(option in command for option in MAY_END_WITH_1) else (0,)


if __name__ == "__main__":
    sys.exit(main())
