"""The lesson, the engine and the evidence stay apart, and each part short enough to read."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import ROOT

MODULES = sorted(path for part in ("helpers", "evidence") for path in (ROOT / part).rglob("*.py"))
NOT_TO_IMPORT = {
    "helpers/engine": ("evidence", "helpers"),  # but for the engine itself
    "helpers": ("evidence",),
    "evidence": ("tests", "conftest", "ERAV4S5CNNwithBN"),
}


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Yield line and name of every module that ``path`` imports, wherever in the file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: import by the full name"
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def wrong_imports(path: Path) -> list[str]:
    name = path.relative_to(ROOT).as_posix()
    part = next(part for part in NOT_TO_IMPORT if name.startswith(f"{part}/"))
    return [
        f"{name}:{line} imports {imported}"
        for line, imported in imports(path)
        if imported.split(".")[0] in NOT_TO_IMPORT[part]
        and not (part == "helpers/engine" and imported.startswith("helpers.engine"))
    ]


def test_arrows_run_from_the_evidence_to_the_lesson_to_the_engine() -> None:
    assert [line for path in MODULES for line in wrong_imports(path)] == []


def test_a_wrong_arrow_is_named_with_its_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("test_layout.ROOT", tmp_path)
    engine = tmp_path / "helpers" / "engine" / "files.py"
    engine.parent.mkdir(parents=True)
    engine.write_text("import torch\nfrom helpers.engine import meter\nfrom helpers import recipe\n", encoding="utf-8")
    assert wrong_imports(engine) == ["helpers/engine/files.py:3 imports helpers.recipe"]


def test_the_lesson_has_at_most_eleven_modules() -> None:
    assert len([path for path in (ROOT / "helpers").glob("*.py") if path.name != "__init__.py"]) <= 11


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_module_says_what_it_is_for_and_is_short(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    tree = ast.parse(source)
    assert (ast.get_docstring(tree) or "").split("\n")[0].endswith((".", ":", "]", "...")), "no first line"
    assert len(source.splitlines()) <= 200
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    assert [f.name for f in functions if f.end_lineno - f.lineno + 1 > 40] == []
