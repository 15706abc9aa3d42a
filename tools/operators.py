"""Write docs/operators.md: every operator with a rule, and what the rule says.

    python tools/operators.py --out docs/operators.md

Everything is read off the rules: a signature is shown as it is, any other rule by the first line of its docstring and
by the signatures that it runs.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import click

from onnxmi.operators import rules
from onnxmi.operators.context import Rule
from onnxmi.operators.rules import RULES, Key
from onnxmi.operators.rules.apply_signature import SignatureRule
from onnxmi.statistics.backward import DIFFERENTIABLE

STANDARD = "ai.onnx"
COMMAND = "python tools/operators.py --out docs/operators.md"


# -- what a rule says -------------------------------------------------------------------------------------------------


def describe(rule: Rule, family: str) -> str:
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


def _documented(rule: Rule) -> list[Any]:
    """What documents a rule: itself, the class it is an instance of, or the rules' functions that it calls."""
    if not isinstance(rule, FunctionType):
        return [type(rule)]
    if rule.__doc__:
        return [rule]
    called = [value for value in _reached(rule) if isinstance(value, FunctionType)]
    return [function for function in called if function.__module__.startswith(rules.__name__)]


def _signatures(rule: Rule) -> list[SignatureRule]:
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


def families() -> Iterator[ModuleType]:
    """The modules that hold rules."""
    for info in pkgutil.iter_modules(rules.__path__):
        module = importlib.import_module(f"{rules.__name__}.{info.name}")
        if hasattr(module, "RULES"):
            yield module


def render() -> str:
    """The Markdown document."""
    domains = sorted({domain for domain, _ in RULES})
    counts = ", ".join(f"{sum(key[0] == domain for key in RULES)} of {domain or STANDARD}" for domain in domains)
    return "\n".join(
        [
            "# Operators",
            "",
            f"{len(RULES)} operators have a rule: {counts}. Any other operator freezes every axis it touches, by name.",
            "",
            "Made by",
            "",
            f"    {COMMAND}",
            "",
            "A signature is read like einsum: a letter is one axis, `(g c)` one axis that is a row-major flattening,",
            "`*s` all remaining axes, `...` leading axes that broadcast, `~` an operand that broadcasts onto the",
            "output, `_` an axis tied to nothing; `?` follows an operand that may be absent, `!` one that may be one",
            "number. What is contracted is where channels are consumed; what is normalised over makes a layer",
            "renormalising; what is frozen is never cut.",
            "",
            *(line for family in families() for line in _section(family)),
            "## Gradients",
            "",
            "The joint score asks how much the outputs mind an error of a layer's results. It goes back from the",
            "outputs through these operators; what lies before another is scored without that, and the run says so. A",
            "Resize must be nearest or linear; indices and masks that depend on activations end the way, too.",
            "",
            f"{_names(sorted(DIFFERENTIABLE))}.",
            "",
        ]
    )


def _section(family: ModuleType) -> list[str]:
    line = _first_line(family)
    rows: dict[str, list[Key]] = {}
    for key, rule in family.RULES.items():
        rows.setdefault(describe(rule, line), []).append(key)
    title = family.__name__.rpartition(".")[2].replace("_", " ").capitalize()
    table = [f"| {_names(keys)} | {text.replace('|', '/')} |" for text, keys in rows.items()]
    return [f"## {title}", "", line, "", "| operators | rule |", "| --- | --- |", *table, ""]


def _names(keys: list[Key]) -> str:
    """Sorted names, those of the standard domain first."""
    return ", ".join(f"{domain}.{op}" if domain else op for domain, op in sorted(keys))


@click.command()
@click.option("--out", type=click.Path(path_type=Path), help="Markdown file to write; without it, print.")
def main(out: Path | None) -> None:
    """Tabulate the operators that have a rule."""
    if out is None:
        click.echo(render(), nl=False)
    else:
        out.write_text(render(), encoding="utf-8")


if __name__ == "__main__":
    main()
