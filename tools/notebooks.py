"""Write the notebooks of docs/notebooks from the scripts beside them, and execute them.

    python tools/notebooks.py                 all of them
    python tools/notebooks.py cnn detector

The scripts have a cell after each line `# %%`. Needs the extra `docs`.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "notebooks"
MOST_BYTES = 60_000  # of a notebook with its outputs
_CELL = re.compile(r"^# %%(.*)$", re.MULTILINE)


def names() -> list[str]:
    return sorted(path.stem for path in FOLDER.glob("*.py"))


def cells(name: str) -> Iterator[tuple[str, str]]:
    """Yield (kind, text) for the cells of a script."""
    parts = _CELL.split((FOLDER / f"{name}.py").read_text(encoding="utf-8"))[1:]
    for mark, text in zip(parts[::2], parts[1::2], strict=True):
        if "markdown" in mark:
            yield "markdown", "\n".join(line.removeprefix("#").removeprefix(" ") for line in text.strip().splitlines())
        else:
            yield "code", text.strip()


def notebook(name: str) -> Any:
    """Return a notebook without outputs."""
    import nbformat

    makers = {"markdown": nbformat.v4.new_markdown_cell, "code": nbformat.v4.new_code_cell}
    made = nbformat.v4.new_notebook(cells=[makers[kind](text) for kind, text in cells(name)])
    for number, cell in enumerate(made.cells):
        cell.id = f"{name}-{number}"
    made.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return made


def executed(name: str) -> Any:
    """Return a notebook with its outputs; a cell that fails is an error."""
    from nbclient import NotebookClient

    made = notebook(name)
    NotebookClient(made, timeout=900, kernel_name="python3", resources={"metadata": {"path": str(FOLDER)}}).execute()
    for cell in made.cells:
        cell.metadata.pop("execution", None)  # times of the run
    return made


def main() -> int:
    import nbformat

    for name in sys.argv[1:] or names():
        nbformat.write(executed(name), FOLDER / f"{name}.ipynb")
        print(f"wrote {name}.ipynb, {(FOLDER / f'{name}.ipynb').stat().st_size:,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
