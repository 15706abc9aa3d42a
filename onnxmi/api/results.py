"""Results as users see them: printed as the command line prints them, shown in notebooks, saved, as plain data."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from rich.console import Console

from onnxmi.api.targets import check_result_target
from onnxmi.benchmark import compare
from onnxmi.budget.units import size_text
from onnxmi.errors import CheckError
from onnxmi.gate import difference, report
from onnxmi.graph.channel_graph import Frozen, Layer
from onnxmi.graph.plan import plan_path
from onnxmi.model.load import as_path, proto_digest
from onnxmi.model.save import Content, files_of, write_together
from onnxmi.outputs.view import Meaning, View
from onnxmi.pruning import sweep
from onnxmi.pruning.outcome import Outcome
from onnxmi.reporting import benchmark, gate, text
from onnxmi.reporting.difference import difference_data, show_difference
from onnxmi.reporting.inspection import show_graph
from onnxmi.reporting.json_data import curve_data, graph_data, result_data, to_json
from onnxmi.reporting.printed import as_html, as_text
from onnxmi.reporting.result import show_summary
from onnxmi.reporting.verdict import show_verdict
from onnxmi.transforms.analysis import Analysis
from onnxmi.typing import AnyPath


class Printed:
    """Something that the command line prints: `print` and notebooks show the same."""

    def _show(self, console: Console) -> None:
        raise NotImplementedError

    def _data(self) -> Mapping[str, Any]:
        raise NotImplementedError

    def __str__(self) -> str:
        return as_text(self._show)

    def _repr_html_(self) -> str:
        return as_html(self._show)

    def to_dict(self) -> dict[str, Any]:
        """Return what the command line prints with `--json`, as dicts, lists, texts and numbers."""
        data: dict[str, Any] = json.loads(to_json(self._data()))
        return data


class Result(Printed, Outcome):
    """A smaller model that passed every check, and what was found on the way to it.

    `print(result)` is the summary of the command line, which a notebook shows, too.

    Attributes
    ----------
    model : onnx.ModelProto
        The smaller model. `proto` is the same.
    plan : Plan
        The units that stay, of each layer that was cut.
    before, after : Cost
        Parameters, bytes of the file, and multiply-accumulates (MACs) for one sample.
    quality : Quality or None
        Agreement with the original on samples that nothing was fitted to; None where there was one sample or none.
    damage : Damage
        How much each output lost, on the same samples: 0 is nothing, 1 is as bad as a constant.
    latency : tuple of two Latency, or None
        Times of one run in ms, of the original and of the result; None where they were not measured.
    goals : tuple of Goal
        What was asked for, beside what was reached.
    trials : tuple of Trial
        The models that a search tried.
    metric : str
        The metric that decided.
    readings : mapping of str to tuple of MetricValue
        Output -> its metrics, with what they lost.
    checks : tuple of Check
        The checks, all of which passed.
    notes : tuple of str
        What else to know.
    analysis : Analysis
        The original's layers, and what cannot be cut and why.
    left_out, unseen, idle : tuple of Layer
        Layers that were not to be cut; of them, those that no compared output depends on, and those in branches that no
        sample takes.
    repairs : tuple of RepairNote
        What repair did to each operator.
    digest : str
        SHA-256 of the model as it was verified.

    Examples
    --------
    >>> result = onnxmi.prune("digits-mlp.onnx", "digits-mlp.calib.npz", keep="50%", threads=1, latency=False)
    >>> result
    <onnxmi.Result: 2 layers cut, 85,002 -> 26,122 parameters, 340.8 kB -> 105.3 kB>
    >>> [path.name for path in result.save("small.onnx")]
    ['small.onnx', 'small.plan.json']
    """

    @property
    def model(self) -> onnx.ModelProto:
        """The smaller model."""
        return self.proto

    def save(self, path: AnyPath) -> tuple[Path, ...]:
        """Write the model, and beside it its plan: all files or none.

        Parameters
        ----------
        path : path
            Of the model, such as "small.onnx"; the plan goes to "small.plan.json". The weights of a model that had
            external data, or is over 2 GiB, go to "small.onnx.data".

        Returns
        -------
        tuple of Path
            The files that were written.

        Raises
        ------
        CheckError
            If the model was changed after it was verified.
        UsageError
            If a file is also the original model.
        DataError
            If a file cannot be written.
        """
        target = as_path(path, "path")
        check_result_target(self.analysis.source, target)
        files = self.files(target)
        write_together(files)
        return tuple(sorted(files))

    def files(self, target: Path) -> dict[Path, Content]:
        """Return what `save` writes.

        Raises
        ------
        CheckError
            If the model was changed after it was verified.
        """
        if proto_digest(self.proto) != self.digest:
            raise CheckError("the model was changed after it was verified: write it with onnxmi.save")
        files = files_of(self.proto, target, external=bool(self.analysis.source.externals))
        files[plan_path(target)] = self.plan.to_json().encode()
        return files

    def _show(self, console: Console) -> None:
        show_summary(console, self)
        show_verdict(console, self)

    def _data(self) -> Mapping[str, Any]:
        return result_data(self)

    def __repr__(self) -> str:
        cut = len(self.plan.choices)
        return (
            f"<onnxmi.Result: {cut} {'layer' if cut == 1 else 'layers'} cut,"
            f" {self.before.parameters:,} -> {self.after.parameters:,} parameters,"
            f" {size_text(self.before.size)} -> {size_text(self.after.size)}>"
        )

    def __iter__(self) -> Iterator[Any]:
        _warn_of_pair()
        return iter((self.proto, self.checks))

    def __getitem__(self, index: int) -> Any:
        _warn_of_pair()
        return (self.proto, self.checks)[index]


def _warn_of_pair() -> None:
    message = "onnxmi.apply returns a Result, no pair any more: use its attributes `model` and `checks`"
    warnings.warn(message, DeprecationWarning, stacklevel=3)


class TradeOff(Printed, sweep.TradeOff):
    """A trade-off curve, as `onnxmi sweep` prints it."""

    def _show(self, console: Console) -> None:
        text.show_curve(console, self)

    def _data(self) -> Mapping[str, Any]:
        return curve_data(self)

    def __repr__(self) -> str:
        return f"<onnxmi.TradeOff: {len(self.points)} models by {self.by}, {self.metric} on {self.samples} samples>"


@dataclass(frozen=True, eq=False, repr=False)
class Inspection(Printed):
    """What can be cut in a model, what cannot and why, and what its outputs mean, as `onnxmi inspect` prints it.

    Attributes
    ----------
    analysis : Analysis
        The model with its channel graph.
    meaning : Meaning
        What its outputs mean.
    """

    analysis: Analysis
    meaning: Meaning

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The layers that can be cut; `name` is what `skip` and `only` match."""
        return self.analysis.graph.layers

    @property
    def frozen(self) -> tuple[Frozen, ...]:
        """What cannot be cut, each with its `reason`."""
        return self.analysis.graph.frozen

    @property
    def outputs(self) -> tuple[View, ...]:
        """What is compared of the outputs, each with its `kind`."""
        return self.meaning.views

    def _show(self, console: Console) -> None:
        show_graph(console, self.analysis, self.meaning)

    def _data(self) -> Mapping[str, Any]:
        return graph_data(self.analysis, self.meaning)

    def __repr__(self) -> str:
        units = sum(layer.units for layer in self.layers)
        return f"<onnxmi.Inspection: {len(self.layers)} layers with {units:,} units can be cut>"


class Bench(Printed, compare.Bench):
    """Models side by side, as `onnxmi bench` prints them."""

    def _show(self, console: Console) -> None:
        benchmark.show_bench(console, self)

    def _data(self) -> Mapping[str, Any]:
        return benchmark.bench_data(self)

    def __repr__(self) -> str:
        return f"<onnxmi.Bench: {', '.join(subject.name for subject in self.subjects)}>"


class Report(Printed, report.Report):
    """The checks of a model, as `onnxmi check` prints them; `passed` is the verdict."""

    def _show(self, console: Console) -> None:
        gate.show_check(console, self)

    def _data(self) -> Mapping[str, Any]:
        return gate.check_data(self)

    def __repr__(self) -> str:
        return f"<onnxmi.Report: {len(self.failed)} of {len(self.verdicts)} checks of {self.model} failed>"


class Difference(Printed, difference.Difference):
    """What is different between two models, as `onnxmi diff` prints it."""

    def _show(self, console: Console) -> None:
        show_difference(console, self)

    def _data(self) -> Mapping[str, Any]:
        return difference_data(self)

    def __repr__(self) -> str:
        return f"<onnxmi.Difference: {len(self.layers)} layers differ between {self.names[0]} and {self.names[1]}>"
