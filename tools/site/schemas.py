"""The reference of what `--json` prints, from the schemas in docs/schemas."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "schemas"


def page() -> str:
    """Return the keys of every command's JSON as Markdown."""
    lines = [
        "# JSON",
        "",
        "`--json` prints one JSON object on standard output, also when a run fails. Its key `schema` is the number of",
        "the schema. A key keeps its name, type and meaning while that number stays; new keys may come.",
        "The tables are made from the files, which are JSON Schemas (draft 2020-12). `onnxmi report` makes a page of",
        "the JSON of prune, sweep, bench and check.",
        "",
    ]
    for path in sorted(FOLDER.glob("*.schema.json")):
        lines += _schema(path, json.loads(path.read_text(encoding="utf-8")))
    return "\n".join(lines) + "\n"


def _schema(path: Path, schema: dict[str, Any]) -> Iterator[str]:
    yield from (f"## {path.name.split('.')[0].replace('_', '-')}", "")
    described = schema.get("description") or schema.get("title") or ""
    yield from (f"{described.rstrip('.')}. File: [{path.name}](../schemas/{path.name}).", "")
    yield from ("| key | type | what it is |", "| --- | --- | --- |")
    required = set(schema.get("required", ()))
    for key, value in schema["properties"].items():
        optional = "" if key in required else " (may be missing)"
        yield f"| `{key}` | {_type(value)} | {str(value.get('description', '')).replace('|', '/')}{optional} |"
    yield ""


def _type(value: dict[str, Any]) -> str:
    if "const" in value:
        return f"`{value['const']}`"
    if "enum" in value:
        return ", ".join(f"`{one}`" for one in value["enum"])
    if "anyOf" in value or "oneOf" in value:
        return " or ".join(_type(one) for one in value.get("anyOf") or value["oneOf"])
    kinds = value.get("type", "anything")
    return " or ".join(kinds) if isinstance(kinds, list) else str(kinds)
