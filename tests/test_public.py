"""What the pages tell people to import, subclass or call is public where they are told to."""

from __future__ import annotations

import ast
import inspect
import json
import pkgutil
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import unlearning

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("experiments/**/*.md")])
BLOCK = re.compile(r"^```(?:python|py)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def imports_of(code: str) -> set[tuple[str, str]]:
    """Module and name of what a piece of code imports from the package."""
    lines = [line for line in code.splitlines() if not line.lstrip().startswith(("%", "!"))]
    return {
        (node.module, alias.name)
        for node in ast.walk(ast.parse("\n".join(lines)))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("unlearning")
        for alias in node.names
    }


def shown_imports() -> list[tuple[str, str]]:
    pieces = [code for page in PAGES for code in BLOCK.findall(page.read_text(encoding="utf-8"))]
    for notebook in ROOT.glob("notebooks/*.ipynb"):
        cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
        pieces += ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    return sorted(set().union(*map(imports_of, pieces)))


def is_public(module_name: str, name: str) -> bool:
    """In `__all__`; in a module without one, defined there and not private."""
    module = import_module(module_name)
    if hasattr(module, "__all__"):
        return name in module.__all__
    home = getattr(getattr(module, name), "__module__", None)
    return not name.startswith("_") and home == module_name


@pytest.mark.parametrize(("module", "name"), shown_imports())
def test_what_the_pages_import_is_public_there(module, name):
    assert is_public(module, name), f"{name} is not in {module}.__all__"


def test_there_are_imports_to_look_at():
    assert ("unlearning", "UnlearningModule") in shown_imports()
    assert not is_public("unlearning.data.stream", "np")
    assert not is_public("unlearning.data", "import_module")


@pytest.mark.parametrize(
    "name",
    [
        "BatchValues", "EvaluationSettings", "ExampleDataModule", "StepCallback", "StepRule",
        "UnlearningModule", "WeightEdit", "build_reference", "compare", "merge_adapter", "needs",
        "separable_in", "token_quantity", "write_report",
    ],
)  # fmt: skip
def test_what_one_subclasses_or_calls_is_at_the_top(name):
    assert name in unlearning.__all__


@pytest.mark.parametrize("name", sorted(set(unlearning.__all__) - {"__version__", "PAPER_TERMS"}))
def test_every_public_name_is_there(name):
    assert getattr(unlearning, name).__name__ == name


def test_functions_stay_functions_beside_modules_of_their_names():
    code = """
import unlearning.generation.generate, unlearning.evaluation, unlearning.metrics.comparison
from unlearning import compare, evaluate, generate
import unlearning
assert generate is unlearning.generation.generate.generate
for function in (compare, evaluate, generate):
    assert type(function).__name__ == "function", function
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", ["unlearning", "unlearning.data"])
def test_no_public_name_is_a_modules(name):
    """An import of the module would put it in the name's place, whatever was there before."""
    package = import_module(name)
    modules = {module.name for module in pkgutil.iter_modules(package.__path__)}
    assert modules and not modules & set(package.__all__)
    assert not [n for n in package.__all__ if inspect.ismodule(getattr(package, n))]


@pytest.mark.parametrize("name", ["unlearning", "unlearning.data"])
def test_editors_and_type_checkers_see_the_same_names(name):
    """A stub stands beside the `__init__.py`, which imports its names when they are used."""
    stub_file = ROOT / name.replace(".", "/") / "__init__.pyi"
    nodes = ast.parse(stub_file.read_text(encoding="utf-8")).body[1:]  # after the docstring
    assert all(isinstance(node, ast.ImportFrom) for node in nodes)
    stub = {alias.asname: node.module for node in nodes for alias in node.names}
    assert sorted(stub) == sorted(import_module(name).__all__)
    for public, home in stub.items():
        assert getattr(import_module(home), public) is getattr(import_module(name), public)
