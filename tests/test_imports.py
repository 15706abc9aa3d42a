"""The shape of the package, read off its source: who may import whom, and how large anything may get."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "onnxmi"

# From the top to the bottom: a module imports from its own layer and those below it. Whatever is not named is a verb.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("__main__",),
    ("cli",),
    ("html",),
    ("report_bench", "report_budget", "report_check", "report_outputs", "junit"),
    ("report", "report_data", "outputs_data", "progress"),
    ("__init__", "pipeline"),
    ("VERBS",),
    ("outputs",),
    (
        "plan",
        "calibration",
        "padding",
        "padding_mask",
        "linear",
        "lenses",
        "quantised",
        "stored",
        "codings",
        "obstacles",
        "einsum",
        "patches",
    ),
    ("dims",),
    ("probe",),
    ("runtime", "archive"),
    ("model",),
    ("information",),
    ("errors", "version", "stages"),
)
HEIGHT = {name: -depth for depth, names in enumerate(LAYERS) for name in names}

# The only doors to other packages.
DOORS = {
    "onnxruntime": {"onnxmi.runtime"},
    "click": {"onnxmi.cli"},
    "onnx_graphsurgeon": {"onnxmi.model"},
    "google": {"onnxmi.model"},
    "jinja2": {"onnxmi.html"},
    "markupsafe": {"onnxmi.html"},
    "matplotlib": {"onnxmi.html"},
    "threadpoolctl": {"onnxmi.threads"},
    "rich": {
        "onnxmi.cli",
        "onnxmi.report",
        "onnxmi.report_bench",
        "onnxmi.report_budget",
        "onnxmi.report_check",
        "onnxmi.report_outputs",
        "onnxmi.progress",
    },
}

MODULE_LINES, FUNCTION_LINES = 400, 60


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


@cache
def tree(module: str) -> ast.Module:
    return ast.parse(SOURCES[module].read_text(encoding="utf-8"))


def imports(module: str) -> Iterator[str]:
    """Dotted names of everything imported: modules, and what is taken out of them."""
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} has a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def own_imports(module: str) -> set[str]:
    """The package's modules that a module imports; a name taken out of a module counts as that module."""
    found = {name if name in SOURCES else name.rpartition(".")[0] for name in imports(module)}
    return {name for name in found if name in SOURCES} - {module}


def within(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def layer(module: str) -> str:
    part = [*module.split("."), "__init__"][1]
    return part if part in HEIGHT else "VERBS"


def defined_functions(module: str) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree(module)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node


def test_the_sources_are_found() -> None:
    assert {"onnxmi", "onnxmi.cli", "onnxmi.dims.rules", "onnxmi.model.load", "onnxmi.errors"} <= SOURCES.keys()
    assert own_imports("onnxmi.rewrite") >= {"onnxmi.dims.term", "onnxmi.errors", "onnxmi.model"}


def test_every_layer_that_is_named_exists() -> None:
    named = {name for names in LAYERS for name in names} - {"VERBS", "__init__"}
    assert named <= {module.split(".")[1] for module in SOURCES if "." in module}


@pytest.mark.parametrize("module", SOURCES)
def test_imports_go_one_way(module: str) -> None:
    for other in own_imports(module):
        assert HEIGHT[layer(other)] <= HEIGHT[layer(module)], (
            f"{module} ({layer(module)}) imports {other} ({layer(other)})"
        )


def test_no_module_imports_itself_by_a_detour() -> None:
    try:
        TopologicalSorter({module: own_imports(module) for module in SOURCES}).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


@pytest.mark.parametrize("module", SOURCES)
def test_other_packages_are_entered_by_their_doors(module: str) -> None:
    for name in imports(module):
        doors = DOORS.get(name.partition(".")[0])
        assert doors is None or any(within(module, door) for door in doors), f"{module} imports {name}"


@pytest.mark.parametrize("module", [m for m in SOURCES if not within(m, "onnxmi.model")])
def test_outside_of_model_onnx_is_only_the_name_of_its_message_types(module: str) -> None:
    used = {
        node.attr
        for node in ast.walk(tree(module))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "onnx"
    }
    assert all(name.endswith("Proto") for name in used), used
    assert not any(name.startswith("onnx.") for name in imports(module))


@pytest.mark.parametrize("module", [m for m in SOURCES if within(m, "onnxmi.information")])
def test_information_knows_numpy_and_itself_alone(module: str) -> None:
    standard = {
        "__future__",
        "collections",
        "dataclasses",
        "functools",
        "math",
        "typing",
        "heapq",
        "itertools",
        "statistics",
    }
    for name in imports(module):
        top = name.partition(".")[0]
        assert top in standard | {"numpy"} or within(name, "onnxmi.information"), f"{module} imports {name}"


def test_errors_import_nothing_of_the_package() -> None:
    assert own_imports("onnxmi.errors") == set()


def test_the_oracle_shares_no_code_with_the_rewriter() -> None:
    """What builds the masked original must not use what it is there to check."""
    assert not own_imports("onnxmi.model.surgery") & {"onnxmi.model.edit", "onnxmi.rewrite"}
    assert "onnxmi.rewrite" not in own_imports("onnxmi.verify")
    assert "onnxmi.model.edit" not in own_imports("onnxmi.verify")


def test_no_module_is_called_utils() -> None:
    vague = {"utils", "util", "helpers", "misc", "common"}
    assert not [module for module in SOURCES if module.rpartition(".")[2] in vague]


@pytest.mark.parametrize("module", SOURCES)
def test_modules_and_functions_stay_small(module: str) -> None:
    assert len(SOURCES[module].read_text(encoding="utf-8").splitlines()) < MODULE_LINES
    for function in defined_functions(module):
        first = function.body[1] if ast.get_docstring(function) and len(function.body) > 1 else function.body[0]
        assert (function.end_lineno or 0) - first.lineno < FUNCTION_LINES, function.name


@pytest.mark.parametrize("module", SOURCES)
def test_no_import_hides_in_a_function(module: str) -> None:
    """It would hide a cycle, or a dependency, from the reader."""
    for function in defined_functions(module):
        assert not [node for node in ast.walk(function) if isinstance(node, (ast.Import, ast.ImportFrom))], (
            function.name
        )
