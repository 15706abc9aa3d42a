"""docs/operators.md is what tools/operators.py makes of the rules now."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from onnxmi.operators.rules import RULES

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


def test_every_rule_is_in_it_once(tool: ModuleType) -> None:
    cells = re.findall(r"^\| (.+?) \|", tool.render(), flags=re.MULTILINE)
    named = [name for cell in cells if cell not in ("operators", "---") for name in cell.split(", ")]
    assert sorted(named) == sorted(f"{domain}.{op}" if domain else op for domain, op in RULES)


def test_a_signature_is_shown_with_its_declarations(tool: ModuleType) -> None:
    rows = [line for line in tool.render().splitlines() if line.startswith("| Conv |")]
    assert len(rows) == 1
    for part in ("`n (g c) *s, (g o) c *k, (g o)? -> n (g o) *t`", "contracts `c`", "(slides over it)", "(group)"):
        assert part in rows[0]
