"""Where a command writes: refused before the work where it cannot go, or where it would replace a result."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click

from onnxmi.api.results import Result
from onnxmi.api.targets import check_page, check_target, default_target
from onnxmi.errors import UsageError
from onnxmi.graph.plan import plan_path
from onnxmi.model.save import Content, data_path, files_of

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
    float_model : Path or None
        The pruned model as it was before it was quantized.
    """

    model: Path
    page: Path | None = None
    float_model: Path | None = None

    @property
    def plan(self) -> Path:
        """The plan beside the model."""
        return plan_path(self.model)

    @staticmethod
    def beside(model: Path, output: Path | None, page: Path | None = None, float_model: Path | None = None) -> Places:
        """Return the places for a model's result: as asked for, or beside the model."""
        return Places(output or default_target(model), page, float_model)

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
        if self.float_model is not None:
            others = [self.model, self.plan] if self.page is None else [self.model, self.plan, self.page]
            check_target(self.float_model, *[*all_read, *others])

    def refuse_to_replace(self) -> None:
        """Refuse to replace models that exist; see the function of that name."""
        for path in filter(None, (self.model, self.float_model)):
            refuse_to_replace(path)

    def files(self, result: Result) -> dict[Path, Content]:
        """Return the models and the plan of a result, for `write_together`."""
        files = result.files(self.model)
        if self.float_model is not None:
            files.update(files_of(result.unquantized or result.proto, self.float_model))
        return files


def refuse_to_replace(model: Path) -> None:
    """Refuse to replace a model that exists; a plan without its model is nothing that anybody deploys.

    Raises
    ------
    UsageError
        Naming the file.
    """
    if model.exists():
        raise UsageError(f"{model}: exists; replace it with --overwrite, or write elsewhere with -o FILE")
