"""What a run suggests can be typed as it stands."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import click

from onnxmi.cli.samples import sample_options, typed_options
from onnxmi.reporting.next_steps import Run, next_steps

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
