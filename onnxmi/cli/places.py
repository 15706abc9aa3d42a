"""Where a command writes: refused before the work where it cannot go, or where it would replace a result."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click

from onnxmi.api.targets import check_page, check_target, default_target, plan_path
from onnxmi.errors import UsageError
from onnxmi.model.save import data_path

OVERWRITE = click.option("--overwrite", is_flag=True, help="Replace an existing result.")


@dataclass(frozen=True)
class Places:
    """The files that a result is written to.

    Attributes
    ----------
    model : Path
        The smaller model.
    page : Path or None
        An HTML page of the run.
    """

    model: Path
    page: Path | None = None

    @property
    def plan(self) -> Path:
        """The plan beside the model."""
        return plan_path(self.model)

    @staticmethod
    def beside(model: Path, output: Path | None, page: Path | None = None) -> Places:
        """Return the places for a model's result: as asked for, or beside the model."""
        return Places(output or default_target(model), page)

    def check(self, *inputs: Path | None, plan: Path | None = None) -> None:
        """Refuse places that cannot be written, or that are an input.

        Parameters
        ----------
        *inputs : Path or None
            Files that are read; None where one is not given.
        plan : Path or None
            A plan that is read: that of the result may take its place.
        """
        read = [path for path in inputs if path is not None]
        all_read = read if plan is None else [*read, plan]
        check_target(self.model, *all_read)
        check_target(self.plan, *read)
        if self.page is not None:
            check_page(self.page, *all_read, self.model, self.plan, data_path(self.model))


def refuse_to_replace(model: Path) -> None:
    """Refuse to replace a model that exists; a plan without its model is nothing that anybody deploys.

    Raises
    ------
    UsageError
        Naming the file.
    """
    if model.exists():
        raise UsageError(f"{model}: exists; replace it with --overwrite, or write elsewhere with -o FILE")
