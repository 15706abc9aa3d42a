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

# From the bottom to the top: the modules of a folder import from it and from those above it in this list.
FOLDERS = (
    "information",
    "model",
    "runtime",
    "execution",
    "quantization",
    "data",
    "axes",
    "operators",
    "graph",
    "outputs",
    "evaluation",
    "verification",
    "transforms",
    "statistics",
    "selection",
    "repair",
    "budget",
    "pruning",
    "benchmark",
    "gate",
    "reporting",
    "api",
    "integrations",
    "cli",
)
# The modules of the root: those that everything may import, and those that nothing in the package imports.
BELOW, ABOVE = ("errors", "typing", "version"), ("__init__", "__main__")
HEIGHT = {name: height for height, names in enumerate((BELOW, *((f,) for f in FOLDERS), ABOVE)) for name in names}

# The only doors to other packages.
DOORS = {
    "onnxruntime": {"onnxmi.runtime.session", "onnxmi.quantization.ort_quantizer"},
    "click": {"onnxmi.cli"},
    "dask": {"onnxmi.execution.dask_cluster", "onnxmi.execution.dask_local"},
    "distributed": {"onnxmi.execution.dask_cluster", "onnxmi.execution.dask_local"},
    "onnx_graphsurgeon": {"onnxmi.verification"},
    "google": {"onnxmi.model"},
    "jinja2": {"onnxmi.reporting.html"},
    "markupsafe": {"onnxmi.reporting.html"},
    "matplotlib": {"onnxmi.reporting.html"},
    "olive": {"onnxmi.integrations"},
    "threadpoolctl": {"onnxmi.runtime"},
    "rich": {"onnxmi.api.results", "onnxmi.cli", "onnxmi.reporting"},
}
# Who builds models: the door to onnx, and the oracle, which shares no code with it.
BUILDERS = ("onnxmi.model", "onnxmi.verification")

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


def folder(module: str) -> str:
    """The folder that a module is in; of one in the root, its own name."""
    return [*module.split("."), "__init__"][1]


def defined_functions(module: str) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree(module)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node


def test_the_sources_are_found() -> None:
    assert {"onnxmi", "onnxmi.cli", "onnxmi.operators.matmul", "onnxmi.model.load", "onnxmi.errors"} <= SOURCES.keys()
    assert own_imports("onnxmi.transforms.prune_channels") >= {"onnxmi.axes.terms", "onnxmi.errors", "onnxmi.model"}


def test_the_root_has_these_folders_and_no_other_modules() -> None:
    assert {folder(module) for module in SOURCES} == HEIGHT.keys()
    assert {path.stem for path in PACKAGE.glob("*.py")} == {*BELOW, *ABOVE}


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_says_in_a_line_what_lives_there(name: str) -> None:
    said = ast.get_docstring(tree(f"onnxmi.{name}"))
    assert said
    assert said.splitlines()[0].endswith(".")


@pytest.mark.parametrize("module", SOURCES)
def test_imports_go_one_way(module: str) -> None:
    for other in own_imports(module):
        assert HEIGHT[folder(other)] <= HEIGHT[folder(module)], f"{module} imports {other}"


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


def test_its_doors_alone_know_dask() -> None:
    """It is an extra, imported by name when it is asked for: no import statement would tell."""
    knowing = {module for module, path in SOURCES.items() if '"distributed"' in path.read_text(encoding="utf-8")}
    assert knowing == DOORS["distributed"]


@pytest.mark.parametrize("module", [m for m in SOURCES if not any(within(m, b) for b in BUILDERS)])
def test_outside_of_builders_onnx_is_only_the_name_of_its_message_types(module: str) -> None:
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
        "contextlib",
        "dataclasses",
        "functools",
        "hashlib",
        "math",
        "typing",
        "heapq",
        "itertools",
        "statistics",
    }
    for name in imports(module):
        top = name.partition(".")[0]
        known = top in standard | {"numpy"} or any(within(name, own) for own in ("onnxmi.information", "onnxmi.typing"))
        assert known, f"{module} imports {name}"


@pytest.mark.parametrize("name", BELOW)
def test_what_everything_may_import_imports_nothing_of_the_package(name: str) -> None:
    assert own_imports(f"onnxmi.{name}") == set()


@pytest.mark.parametrize("module", [m for m in SOURCES if within(m, "onnxmi.verification")])
def test_the_oracle_shares_no_code_with_the_rewriter(module: str) -> None:
    """What builds the masked original must not use what it is there to check."""
    assert not [o for o in own_imports(module) if within(o, "onnxmi.transforms") or o == "onnxmi.model.editor"]


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


def test_helpers_of_tests_are_imported_by_one_name() -> None:
    """A file imported as `support.build` and as `tests.support.build` would be two modules."""
    helpers = {path.name for path in (ROOT / "tests").iterdir() if path.is_dir()} - {"shipped"}
    for path in [*(ROOT / "tests").rglob("*.py"), *(ROOT / "tools").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module and "." in node.module:
                assert node.module.partition(".")[0] not in helpers, f"{path}: {node.module}"


@pytest.mark.parametrize("module", SOURCES)
def test_no_call_unpacks_two_tuples(module: str) -> None:
    """Neither a reader nor a type checker can tell which argument is which."""
    calls = [node for node in ast.walk(tree(module)) if isinstance(node, ast.Call)]
    assert not [
        ast.unparse(call) for call in calls if sum(isinstance(argument, ast.Starred) for argument in call.args) > 1
    ]
