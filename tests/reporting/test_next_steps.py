"""What a run suggests can be typed as it stands."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import click

from onnxmi.cli.samples import sample_options, typed_options
from onnxmi.reporting.next_steps import Run, next_steps, steps_of_sweep

RESULT = SimpleNamespace(goals=(), hints=(), contributions=(), after=SimpleNamespace(size=1009, parameters=997))


def suggested(run: Run) -> str:
    return next(command for command, _ in next_steps(RESULT, run) if command.startswith("onnxmi check"))


def test_the_check_reads_samples_as_the_run_did() -> None:
    files = Path("a model.onnx"), Path("small.onnx"), Path("texts.jsonl")
    reading = ("--tokenizer", "my tokenizer.json")
    command = suggested(Run(*files, Path("eval.jsonl"), reading))
    assert "--data eval.jsonl --tokenizer 'my tokenizer.json' --max-drop 1%" in command
    assert "--data EVAL.jsonl --tokenizer" in suggested(Run(*files, None, reading))
    assert "--data EVAL --mean 0.5" in suggested(Run(*files[:2], Path("photos"), None, ("--mean", "0.5")))


def test_what_was_typed_of_samples_is_what_is_suggested() -> None:
    @click.command()
    @sample_options
    @click.option("--seed", type=int)
    def command(**_options: object) -> None: ...

    def typed(*words: str) -> tuple[str, ...]:
        return typed_options(command.make_context("x", list(words)))

    assert typed() == ()
    assert typed("--seed", "3", "--column", "a,b") == ("--column", "a,b")
    assert typed("--value", "sr=3", "--value", "g=1") == ("--value", "sr=3", "--value", "g=1")
    assert typed("--sequence") == ("--sequences",)
    assert typed("--sequence", "ids.npy") == ("--sequences", "ids.npy")


def test_a_sweep_ends_with_the_command_of_its_fastest_model_within_a_point() -> None:
    dense = SimpleNamespace(size=1009, parameters=211, macs=4001)
    points = [
        SimpleNamespace(
            share=share, drop=drop, speedup=speedup, cost=SimpleNamespace(size=size, parameters=97, macs=2003)
        )
        for share, drop, speedup, size in ((0.8, 0.001, 1.2, 800), (0.5, 0.009, 1.9, 505), (0.2, 0.04, 4.1, 202))
    ]
    curve = SimpleNamespace(points=points, dense=dense, metric="accuracy", by="time")
    place = Path("m.onnx"), Path("c.npz"), ("--length", "7")
    ((command, why),) = steps_of_sweep(curve, *place)
    assert command == "onnxmi prune m.onnx c.npz --length 7 --speedup 1.90"
    assert why == "makes the model at x 0.50: 0.9 points of accuracy lost"
    ((command, _),) = steps_of_sweep(SimpleNamespace(points=points, dense=dense, metric="accuracy", by="size"), *place)
    assert command.endswith("--max-size 50.05%")
    ((command, _),) = steps_of_sweep(SimpleNamespace(points=points[2:], dense=dense, metric="f1", by="macs"), *place)
    assert command.endswith("--macs 50.06%")
