"""docs/operators.md is what tools/operators.py makes of the operators' records now."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from onnxmi.operators.registry import OPERATORS

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("operator_table", ROOT / "tools" / "operators.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_file_is_what_the_tool_makes(tool: ModuleType) -> None:
    written = (ROOT / "docs" / "operators.md").read_text(encoding="utf-8")
    assert written == tool.render(), f"make it anew: {tool.COMMAND}"


def test_every_operator_is_in_each_table_once(tool: ModuleType) -> None:
    matrix, _, rest = tool.render().partition("## Exceptions")
    rules = rest.partition("## How axes are tied")[2]
    assert _named(matrix) == sorted(_spelled(key) for key, record in OPERATORS.items() if any(tool.cells(record)))
    assert _named(rules) == sorted(_spelled(key) for key, operator in OPERATORS.items() if operator.axes is not None)


def _named(tables: str) -> list[str]:
    """Operators in the first column of the tables of a part of the document."""
    first = re.findall(r"^\| (.+?) \|", tables, flags=re.MULTILINE)
    return sorted(name for cell in first if cell not in ("operators", "---") for name in cell.split(", "))


def _spelled(key: tuple[str, str]) -> str:
    return ".".join(filter(None, key))


def test_a_signature_is_shown_with_its_declarations(tool: ModuleType) -> None:
    _, _, rules = tool.render().partition("## How axes are tied")
    rows = [line for line in rules.splitlines() if line.startswith("| Conv |")]
    assert len(rows) == 1
    for part in ("`n (g c) *s, (g o) c *k, (g o)? -> n (g o) *t`", "contracts `c`", "(slides over it)", "(group)"):
        assert part in rows[0]
