"""`onnxmi prune`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from onnxmi.api.pruning import prune as prune_model
from onnxmi.api.results import Result
from onnxmi.api.targets import check_external
from onnxmi.budget.goals import COSTS, option
from onnxmi.cli.arguments import (
    ALLOW_INTERFACE,
    BATCH_SIZE,
    CALIBRATION,
    FIXED_INPUTS,
    FRESH,
    HALF_STORAGE,
    IGNORED_OUTPUTS,
    JSON,
    MASK,
    MEMORY,
    MODEL,
    QUANTIZATION,
    SEED,
    STATISTICS,
    TARGET_AND_OUTPUTS,
    THREADS,
    TIMINGS,
    budgets,
    layer_choice,
    scoring,
    take_half,
)
from onnxmi.cli.config import config_options
from onnxmi.cli.failures import command_line, epilog
from onnxmi.cli.places import OVERWRITE, Places
from onnxmi.cli.samples import opened, opened_if_given, sample_options, typed_options
from onnxmi.cli.unchanged import write_unchanged
from onnxmi.cli.verbosity import print_data
from onnxmi.cli.workers import Choice, shard_options, timing_worker_option
from onnxmi.errors import NothingToPruneError, UsageError
from onnxmi.model import load
from onnxmi.model.save import Content, data_path, write_together
from onnxmi.pruning.dry_run import DryRun, rehearse
from onnxmi.pruning.options import PruneOptions
from onnxmi.pruning.stages import stages_of_prune
from onnxmi.reporting import html
from onnxmi.reporting.dry_run import dry_run_data, show_dry_run
from onnxmi.reporting.json_data import result_data, to_json
from onnxmi.reporting.next_steps import Run, next_steps, show_next_steps
from onnxmi.reporting.progress import is_verbose, progress_bars
from onnxmi.reporting.result import show_summary
from onnxmi.reporting.tables import printable
from onnxmi.reporting.verdict import show_verdict

COST_OPTIONS = ("keep", *COSTS)


@click.command(
    epilog=epilog(
        "onnxmi prune model.onnx calib.npz               at most one point lost",
        "onnxmi prune model.onnx calib.npz --speedup 2   twice as fast",
        "onnxmi prune model.onnx calib.npz --max-size 10MB --max-drop 0.02",
        "onnxmi prune model.onnx calib.npz --quantize auto   8 bits where faster",
        "onnxmi prune model.onnx calib.npz --keep 0.3    30 % of every layer",
        "onnxmi prune model.onnx calib.npz --skip '*/attention/*' -o small.onnx",
        "onnxmi prune model.onnx calib.npz --plan edited.plan.json",
        "onnxmi prune model.onnx photos/ --mean 0.5 --std 0.25     images",
    )
)
@MODEL
@CALIBRATION
@sample_options
@TARGET_AND_OUTPUTS
@budgets
@QUANTIZATION
@HALF_STORAGE
@IGNORED_OUTPUTS
@FIXED_INPUTS
@ALLOW_INTERFACE
@scoring
@layer_choice
@click.option("--plan", type=click.Path(path_type=Path), help="Cut by this plan file instead of selecting.")
@SEED
@THREADS
@BATCH_SIZE
@MASK
@MEMORY
@FRESH
@TIMINGS
@STATISTICS
@shard_options
@timing_worker_option
@click.option(
    "--allow-unchanged", is_flag=True, help="If there is nothing to prune, write MODEL as it is and exit with 0."
)
@click.option("--few-samples", is_flag=True, help="Promise a loss on fewer distinct samples than a promise needs.")
@click.option("--force", is_flag=True, help="Write a result whose outputs are lost, and replace one that exists.")
@click.option(
    "--eval",
    "evaluation",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Also report the result on these samples of your own; nothing is chosen on them.",
)
@click.option(
    "--float",
    "float_output",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Also write the pruned model as it was before it was quantized, for bench and check.",
)
@OVERWRITE
@click.option("--dry-run", is_flag=True, help="Say what would be cut and tried, and about how long; write nothing.")
@config_options("prune")
@click.option("--report", "page", type=click.Path(path_type=Path), help="Also write an HTML page of the run.")
@JSON
def prune(
    model: Path,
    calib: Path,
    output: Path | None,
    plan: Path | None,
    stats: Path | None,
    page: Path | None,
    *,
    float_output: Path | None,
    evaluation: Path | None,
    overwrite: bool,
    dry_run: bool,
    allow_unchanged: bool,
    as_json: bool,
    **settings: Any,
) -> None:
    """Cut MODEL down, using the sample inputs in CALIB.

    CALIB is an .npz file whose arrays are named as the model's inputs, samples on the first axis; an array `labels`
    with one class a sample is optional. Or it has .npy arrays, images, texts, tables or sounds: a file or a folder.
    The result is written beside MODEL as MODEL.pruned.onnx with its plan MODEL.pruned.plan.json, and only if every
    check on it passes.

    Without a budget the result is the fastest model that loses at most 0.01 of the metric on samples that nothing was
    fitted to. Budgets of cost (--max-size, --params, --macs, --speedup, --latency) hold together, at the least damage
    to the outputs; --max-drop beside them is a condition. A budget out of reach is an error, unless --best-effort.

    PATTERN is a shell pattern (*, ?, [abc]) for the names that `onnxmi inspect` prints.
    """
    context = click.get_current_context()
    take_half(settings)
    if plan is not None:
        _refuse_beside_a_plan(context)
    places = Places.beside(model, output, page, float_output)
    places.check(model, calib, stats, evaluation, plan=plan)
    if not (overwrite or dry_run or settings["force"]):
        places.refuse_to_replace()
    if page is not None:
        html.require_extra()
    choice = Choice.taken(settings)
    evaluated, reading = opened_if_given(evaluation, dict(settings)), typed_options(context)
    samples = opened(calib, settings)
    options = PruneOptions(**settings)
    options.check()
    source = load(model)
    check_external(source, places.model, places.plan, *filter(None, [page]))
    if dry_run:
        _rehearse(rehearse(source, samples, options), as_json=as_json)
        return
    given = {"given_plan": plan is not None, "given_statistics": stats is not None}
    stages = stages_of_prune(options, **given, by_workers=choice.who is not None)
    try:
        with progress_bars(stages) as progress:
            result = prune_model(
                source,
                samples,
                options,
                plan=plan,
                statistics=stats,
                evaluation=evaluated,
                progress=progress,
                workers=choice.who,
                shards=choice.shards,
                shared=choice.shared,
                latency_worker=choice.latency_worker,
            )
    except NothingToPruneError as error:
        if not allow_unchanged:
            raise
        write_unchanged(source, places.model, places.plan, str(error), as_json=as_json)
        return
    files = places.files(result)
    if plan is not None and plan.resolve() == places.plan.resolve():  # it says so already, perhaps by hand
        del files[places.plan]
    data = _as_json(result, model, places, files) if as_json or page is not None else ""
    if page is not None:
        files[page] = html.render(json.loads(data), "this run")
    write_together(files)
    if as_json:
        print_data(data)
    else:
        _show(result, files, Run(model, places.model, calib, evaluation, reading, has_page=page is not None))


def _rehearse(run: DryRun, *, as_json: bool) -> None:
    if as_json:
        print_data(to_json({"dry_run": True, **dry_run_data(run)}))
    else:
        show_dry_run(Console(), run)


def _as_json(result: Result, model: Path, places: Places, files: Mapping[Path, Content]) -> str:
    paths = {"input": str(model), "output": str(places.model), "plan": str(places.plan)}
    if data_path(places.model) in files:
        paths["data"] = str(data_path(places.model))
    return to_json({**paths, "command": command_line(click.get_current_context()), **result_data(result)})


def _show(result: Result, files: Iterable[Path], run: Run) -> None:
    show_summary(console := Console(), result, full=is_verbose())
    for path in files:
        console.print(printable(f"wrote {path}"), markup=False, highlight=False, soft_wrap=True)
    console.print()
    show_verdict(console, result)
    show_next_steps(console, next_steps(result, run))


def _refuse_beside_a_plan(ctx: click.Context) -> None:
    """A plan says what stays: options that say so too would be ignored."""
    for name in (*COST_OPTIONS, "score", "estimator", "cut", "skip", "only"):
        if ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
            raise UsageError(f"{option(name)} cannot be combined with --plan, which names the kept units")
