"""Write docs/operators.md: what onnxmi knows of every operator.

    python tools/operators.py --out docs/operators.md

Everything is read off the operators' records. For the axes, a signature is shown as it is, any other rule by the first
line of its docstring and by the signatures that it runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import click

from onnxmi import operators
from onnxmi.model import Node
from onnxmi.operators.context import AxisRule
from onnxmi.operators.operator import Key, Operator, every_output, never
from onnxmi.operators.registry import FAMILIES, OPERATORS
from onnxmi.operators.signature_rule import SignatureRule
from onnxmi.operators.vjp import any_settings

STANDARD = "ai.onnx"
COMMAND = "python tools/operators.py --out docs/operators.md"
YES, SOME, ZERO, NO = "yes", "some", "zero", ""


# -- what a record says -----------------------------------------------------------------------------------------------


def cells(operator: Operator) -> tuple[str, ...]:
    """What onnxmi can do with an operator, in the order of `COLUMNS`."""
    return tuple(column(operator) for column in COLUMNS.values())


def _repaired(operator: Operator) -> str:
    node = Node(0, "", "", "", (), (), {"equation": "ab,bc->ac"})  # an Einsum's layout asks for an equation
    refitted = any(layout.why_not_refitted(node) is None for layout in operator.layouts)
    return YES if refitted or operator.norm_parameters is not None else NO


def _gradient(operator: Operator) -> str:
    if operator.piecewise_constant is every_output:
        return ZERO
    if operator.vjp is None:
        return NO
    return YES if operator.vjp.supports is any_settings else SOME


COLUMNS = {
    "cut": lambda operator: YES if operator.axes is not None else NO,
    "scored": lambda operator: YES if operator.layouts or operator.query_keys is not None else NO,
    "repaired": _repaired,
    "gradient": _gradient,
    "MACs": lambda operator: YES if operator.macs is not None else NO,
    "moved up": lambda operator: YES if operator.positionwise is not None else NO,
    "constants pass": lambda operator: NO if operator.broadcasts_constants is never else YES,
}
MEANING = {
    "cut": "channels on its axes can be cut; the rules are below. Otherwise every axis that it touches is frozen.",
    "scored": "the channels that it contracts over are scored by what they tell about its results.",
    "repaired": "its weights and bias, or its scale and shift, are refitted after a cut.",
    "gradient": "the backward pass goes through it, in all settings or in some; `zero`: its results change in steps.",
    "MACs": "its multiply-accumulates are counted.",
    "moved up": "a Gather of one position moves up through it, so that no other position is computed.",
    "constants pass": "a branch that lost all its channels may end in it: a constant takes the place of its operand.",
}


EXCEPTIONS = {
    "GRU with `linear_before_reset=0`: the recurrence": (
        "scored, not refitted",
        "its reset gate scales the state before the product, so the rows of the product are no tensor of the model",
    ),
    "a weight made from one that other operators read, too (Split, Slice)": (
        "scored, not refitted",
        "a repaired copy would be stored beside it, and the file would grow",
    ),
    "a sum over heads, a normalization, a product of two activations": (
        "not scored, not refitted",
        "it has no weight: units are chosen by the norms of their own weights where nothing else reads them",
    ),
    "a weight for each head, and others whose bias would have several axes": (
        "refitted without a bias",
        "the regression goes through the origin, in one pass",
    ),
    "operators inside bodies, and recurrences": (
        "refitted in one pass",
        "a body and a recurrent layer run as a whole: there is nothing to stop at between their operators",
    ),
    "integers whose scale is not stored, not found in a Cast and a Mul behind them, or differs by direction": (
        "left alone",
        "the integers that come nearest to new weights are not known",
    ),
    "DynamicQuantizeLSTM": ("no gradient", "what comes before it has no output sensitivity: all neurons count alike"),
}
"""What of the table above does not hold everywhere: where -> what is done, and why."""


# -- what an axis rule says --------------------------------------------------------------------------------------------


def describe(rule: AxisRule, family: str) -> str:
    """A signature with its declarations; else docstrings, then the signatures it runs; else the family's line."""
    if isinstance(rule, SignatureRule):
        return spell(rule)
    said = [*map(_first_line, _documented(rule)), *sorted(map(spell, _signatures(rule)))]
    return "<br>".join(dict.fromkeys(text for text in said if text)) or family


def spell(rule: SignatureRule) -> str:
    """One line: the signature, what is contracted, normalised over and frozen, and which attributes state sizes."""
    frozen = [f"{letters} ({what})" for what, letters in _by_reason(rule.freezes).items()]
    told = {
        "contracts": _letters(rule.contracts),
        "normalises over": _letters(rule.normalises),
        "freezes": ", ".join(frozen),
        "sizes in": ", ".join(f"{_letters((letter,))} ({name})" for letter, name in rule.sizes.items()),
    }
    return "; ".join([f"`{rule.signature}`", *(f"{verb} {what}" for verb, what in told.items() if what)])


def _letters(letters: tuple[str, ...]) -> str:
    return ", ".join(f"`{letter}`" for letter in letters)


def _by_reason(freezes: Mapping[str, str]) -> dict[str, str]:
    reasons = dict.fromkeys(freezes.values())
    return {what: _letters(tuple(letter for letter, said in freezes.items() if said == what)) for what in reasons}


def _first_line(thing: Any) -> str:
    return (thing.__doc__ or "").strip().partition("\n")[0]


def _documented(rule: AxisRule) -> list[Any]:
    """What documents a rule: itself, the class it is an instance of, or the rules' functions that it calls."""
    if isinstance(rule, partial):
        return _documented(rule.func)
    if not isinstance(rule, FunctionType):
        return [type(rule)]
    if rule.__doc__:
        return [rule]
    called = [value for value in _reached(rule) if isinstance(value, FunctionType)]
    return [function for function in called if function.__module__.startswith(operators.__name__)]


def _signatures(rule: AxisRule) -> list[SignatureRule]:
    """Signatures that a function refers to: in its closure, by name, or in a table with a name."""
    found: list[SignatureRule] = []
    for value in _reached(rule) if isinstance(rule, FunctionType) else ():
        every = value.values() if isinstance(value, dict) else (value,)
        found.extend(entry for entry in every if isinstance(entry, SignatureRule))
    return found


def _reached(function: FunctionType) -> Iterator[Any]:
    for cell in function.__closure__ or ():
        yield cell.cell_contents
    for name in function.__code__.co_names:
        if name in function.__globals__:
            yield function.__globals__[name]


# -- the document -----------------------------------------------------------------------------------------------------


def render() -> str:
    """The Markdown document."""
    cut = [key for key, operator in OPERATORS.items() if operator.axes is not None]
    domains = sorted({domain for domain, _ in cut})
    counts = ", ".join(f"{sum(key[0] == domain for key in cut)} of {domain or STANDARD}" for domain in domains)
    return "\n".join(
        [
            "# Operators",
            "",
            f"{len(cut)} operators can be cut: {counts}. Any other operator freezes every axis it touches, by name.",
            "[Adding an operator](adding_an_operator.md) says how to add one.",
            "",
            "Made by",
            "",
            f"    {COMMAND}",
            "",
            "## What is known of each",
            "",
            *(f"- **{name}**: {text}" for name, text in MEANING.items()),
            "",
            f"| operators | {' | '.join(COLUMNS)} |",
            f"| --- |{' --- |' * len(COLUMNS)}",
            *(line for family in FAMILIES for line in _matrix(family)),
            "",
            "## Exceptions",
            "",
            "`inspect` and the report give the reason of each layer.",
            "",
            "| where | what is done | why |",
            "| --- | --- | --- |",
            *(f"| {where} | {done} | {why} |" for where, (done, why) in EXCEPTIONS.items()),
            "",
            "## How axes are tied",
            "",
            "A signature is read like einsum: a letter is one axis, `(g c)` one axis that is a row-major flattening,",
            "`*s` all remaining axes, `...` leading axes that broadcast, `~` an operand that broadcasts onto the",
            "output, `_` an axis tied to nothing; `?` follows an operand that may be absent, `!` one that may be one",
            "number. What is contracted is where channels are consumed; what is normalised over makes a layer",
            "renormalising; what is frozen is never cut.",
            "",
            *(line for family in FAMILIES for line in _section(family) if _has_axis_rules(family)),
        ]
    )


def _matrix(family: ModuleType) -> Iterator[str]:
    """One row for all operators of a family of which the same is known."""
    rows: dict[tuple[str, ...], list[Key]] = {}
    for key, operator in family.OPERATORS.items():
        rows.setdefault(cells(operator), []).append(key)
    rows.pop((NO,) * len(COLUMNS), None)  # what is known says where sizes come from, and nothing more
    for texts, keys in rows.items():
        yield f"| {_names(keys)} | {' | '.join(texts)} |"


def _has_axis_rules(family: ModuleType) -> bool:
    return any(operator.axes is not None for operator in family.OPERATORS.values())


def _section(family: ModuleType) -> list[str]:
    line = _first_line(family)
    rows: dict[str, list[Key]] = {}
    for key, operator in family.OPERATORS.items():
        if operator.axes is not None:
            rows.setdefault(describe(operator.axes, line), []).append(key)
    title = family.__name__.rpartition(".")[2].replace("_", " ").capitalize()
    table = [f"| {_names(keys)} | {text.replace('|', '/')} |" for text, keys in rows.items()]
    return [f"### {title}", "", line, "", "| operators | rule |", "| --- | --- |", *table, ""]


def _names(keys: list[Key]) -> str:
    """Sorted names, those of the standard domain first."""
    return ", ".join(f"{domain}.{op}" if domain else op for domain, op in sorted(keys))


@click.command()
@click.option("--out", type=click.Path(path_type=Path), help="Markdown file to write; without it, print.")
def main(out: Path | None) -> None:
    """Tabulate what is known of each operator."""
    if out is None:
        click.echo(render(), nl=False)
    else:
        out.write_text(render(), encoding="utf-8")


if __name__ == "__main__":
    main()
