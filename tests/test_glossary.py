"""The glossary names modules that exist, and each term once."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8").splitlines()
    if line.startswith("| ") and not line.startswith(("| ---", "| term"))
]
MODULE = re.compile(r"`([a-z_]+/[a-z_]*)`")


def test_each_row_has_all_cells() -> None:
    assert ROWS
    assert not [row for row in ROWS if len(row) != 5]


def test_each_term_is_defined_once() -> None:
    terms = [row[0] for row in ROWS]
    assert not {term for term in terms if terms.count(term) > 1}


def test_the_modules_of_the_glossary_exist() -> None:
    named = {module for row in ROWS for module in MODULE.findall(row[2])}
    paths = {name: ROOT / "onnxmi" / name for name in named}
    assert not [name for name, path in paths.items() if not (path.is_dir() or path.with_suffix(".py").is_file())]


def test_the_slow_tests_that_are_listed_exist() -> None:
    lines = (ROOT / "tests" / "slow.txt").read_text(encoding="utf-8").splitlines()
    assert not [line for line in lines if not line.startswith("#") and not (ROOT / line).exists()]
