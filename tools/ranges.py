"""Run the tests with the oldest, or the newest, versions of what the package depends on.

    python tools/ranges.py oldest --at DIR
    python tools/ranges.py newest --at DIR -- tests/cli tests/test_pipeline.py

The ranges are read from setup.py: the oldest versions are the bounds that it states, the newest are what pip finds. A
virtual environment is made at DIR/oldest or DIR/newest; what tests need besides (pytest, scipy, ...) is as new as goes
with it. What follows `--` goes to pytest. The exit code is pytest's, or 1 if the versions cannot be installed.
"""

from __future__ import annotations

import argparse
import ast
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# What cannot pass with the oldest versions, for reasons of its own.
LEFT_OUT: dict[str, dict[str, str]] = {
    "oldest": {},
    "newest": {},
}


def stated(argument: str) -> list[str]:
    """Requirements that setup.py states, read without running it."""
    tree = ast.parse((ROOT / "setup.py").read_text(encoding="utf-8"))
    names = {
        target.id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.keyword) and node.arg == argument:
            return listed(node.value, names)
    return listed(names[argument], names)


def listed(node: ast.expr, names: dict[str, ast.expr]) -> list[str]:
    if isinstance(node, ast.Constant):
        return [str(node.value)]
    if isinstance(node, ast.List):
        return [one for entry in node.elts for one in listed(entry, names)]
    if isinstance(node, ast.Starred):
        return listed(node.value, names)
    return listed(names[node.id], names) if isinstance(node, ast.Name) else []


def lower_bound(requirement: str) -> str:
    """`name>=1.2,<3` as `name==1.2`: pip takes that for 1.2.0, too."""
    name, bound = re.fullmatch(r"([\w.-]+)>=([\w.]+).*", requirement).groups()
    return f"{name}=={bound}"


def install(python: Path, end: str) -> None:
    wanted = stated("install_requires")
    wanted = [lower_bound(one) for one in wanted] if end == "oldest" else ["--upgrade", *wanted]
    pip = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    subprocess.run([*pip, *wanted, *stated("TEST")], check=True)
    subprocess.run([*pip, "--no-deps", "-e", str(ROOT)], check=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("end", choices=LEFT_OUT)
    parser.add_argument("--at", type=Path, required=True, help="folder for the virtual environment")
    typed = sys.argv[1:]
    end = typed.index("--") if "--" in typed else len(typed)
    args = parser.parse_args(typed[:end])
    home = args.at.resolve() / args.end
    python = home / "bin" / "python"
    try:
        if not python.exists():
            subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
        install(python, args.end)
    except subprocess.CalledProcessError as error:
        print(f"cannot install the {args.end} versions: {error}", file=sys.stderr)
        return 1
    shown = subprocess.run([str(python), "-m", "pip", "freeze"], capture_output=True, text=True, check=True).stdout
    wanted = {re.split(r"[<>=]", one)[0].lower().replace("_", "-") for one in stated("install_requires")}
    print(*(line for line in shown.splitlines() if line.split("==")[0].lower().replace("_", "-") in wanted), sep="\n")
    for path, reason in LEFT_OUT[args.end].items():
        print(f"left out: {path} ({reason})")
    ignored = [f"--ignore={path}" for path in LEFT_OUT[args.end]]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        [str(python), "-m", "pytest", *ignored, *typed[end + 1 :]], cwd=ROOT, env=environment, check=False
    ).returncode


if __name__ == "__main__":
    sys.exit(main())
