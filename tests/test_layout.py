"""The evidence, the lesson, its parts and the runtime stay apart."""

import ast
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import ROOT

MODULES = sorted(path for part in ("helpers", "evidence") for path in (ROOT / part).rglob("*.py"))
MODULES.append(ROOT / "ERAV4S5CNNwithBN.py")
APART = ("helpers/receptive_field", "helpers/photographs", "helpers/runtime")  # each could be lifted out


def imports_of(source: str) -> Iterator[tuple[int, str]]:
    """Yield line and name of every module that ``source`` imports, wherever in it."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: import by the full name"
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def may_import(part: str, imported: str) -> bool:
    """Tell whether the arrows allow that a module of ``part`` imports ``imported``."""
    first, second, *_ = (*imported.split("."), "")
    if first not in ("helpers", "evidence", "tests", "conftest", "ERAV4S5CNNwithBN"):
        return True  # a library
    if part in APART:
        return f"{first}/{second}" in (part, "helpers/runtime")
    return first == "helpers" or part == first == "evidence"


def wrong_imports(path: Path) -> list[str]:
    name = path.relative_to(ROOT).as_posix()
    part = next((part for part in (*APART, "helpers", "evidence") if name.startswith(f"{part}/")), "script")
    imported = imports_of(path.read_text(encoding="utf-8"))
    return [f"{name}:{line} imports {module}" for line, module in imported if not may_import(part, module)]


def test_arrows_run_from_the_evidence_to_the_lesson_to_its_parts_to_the_runtime() -> None:
    assert [line for path in MODULES for line in wrong_imports(path)] == []


def test_the_notebook_imports_nothing_of_the_evidence() -> None:
    cells = json.loads((ROOT / "ERAV4S5CNNwithBN.ipynb").read_text(encoding="utf-8"))["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    imported = [name for source in code for _, name in imports_of(source)]
    assert "helpers.model.Net" in imported
    assert [name for name in imported if not may_import("script", name)] == []


def test_a_wrong_arrow_is_named_with_its_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("test_layout.ROOT", tmp_path)
    module = tmp_path / "helpers" / "photographs" / "ink.py"
    module.parent.mkdir(parents=True)
    lines = ["torch", "helpers.photographs.marks", "helpers.runtime.files", "helpers.recipe", "evidence.study"]
    module.write_text("".join(f"import {line}\n" for line in lines), encoding="utf-8")
    name = "helpers/photographs/ink.py"
    assert wrong_imports(module) == [f"{name}:4 imports helpers.recipe", f"{name}:5 imports evidence.study"]


def test_a_module_says_what_it_is_for() -> None:
    for path in MODULES:
        docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        assert docstring.split("\n")[0].endswith((".", ":", "]", "...")), f"{path} has no first line"
