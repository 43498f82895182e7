"""What is graded: the notebook's exercises, and the cells that a student wrote."""

import ast
import re
import symtable
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import dropwhile

from IPython.core.inputtransformer2 import TransformerManager
from nbformat import NotebookNode

EXERCISES_BEGIN = re.compile(r"^#+ (\d+\. )?Exercises?\b|exercises\.check_", re.MULTILINE)  # a heading or a check
CHECK = re.compile(r"^print\((exercises\.check_\w+\((\w+).*\))\)$")  # the last line of an exercise's cell


@dataclass(frozen=True)
class Exercise:
    """An exercise's cell as handed out: its unsolved code, the call of its check, and the name of the answer."""

    template: str
    call: str
    answer: str


@dataclass
class Cell:
    """A cell that a student wrote, and what went wrong when it was run."""

    source: str
    fault: str = ""
    is_lost: bool = False  # running it ends the kernel, or takes too long

    def may_define(self, name: str) -> bool:
        """Tell whether the cell defines, assigns or imports ``name``, other than within its functions and classes."""
        try:
            symbols = symtable.symtable(without_magics(self.source), "cell", "exec").get_symbols()
        except SyntaxError:
            return name in self.source
        return any(symbol.get_name() == name and symbol.is_local() for symbol in symbols)


def without_magics(source: str) -> str:
    """Return a cell as plain Python, with calls where it has magics."""
    return TransformerManager().transform_cell(source)


def exercises_of(notebook: NotebookNode) -> list[Exercise]:
    """Return the exercises of the teacher's notebook: its cells with the tag ``exercise``."""
    exercises = []
    for cell in notebook.cells:
        if "exercise" in cell.metadata.get("tags", []):
            template, _, last_line = cell.source.strip().rpartition("\n")
            call, answer = CHECK.match(last_line).groups()
            exercises.append(Exercise(template, call, answer))
    return exercises


def written_in(notebook: NotebookNode, handed_out: NotebookNode, exercises: Sequence[Exercise]) -> list[Cell]:
    """Return the code cells, from the first exercise on, that differ from those handed out, without calls of checks.

    So an answer may be in the exercise's own cell, in a copy of it or in another cell, and tags and ids do not matter.
    The lesson above the exercises is not run again.
    """
    known = {cell.source.strip() for cell in handed_out.cells if cell.cell_type == "code"}
    calls = {f"print({exercise.call})" for exercise in exercises}
    cells = []
    for cell in dropwhile(lambda cell: not EXERCISES_BEGIN.search(cell.source), notebook.cells):
        if cell.cell_type == "code" and cell.source.strip() not in known:
            kept = [line for line in cell.source.splitlines() if line.strip() not in calls]
            cells.append(Cell("\n".join(kept)))
    return cells


def imports_in(notebook: NotebookNode) -> list[str]:
    """Return the import statements of all code cells, each in one line."""
    statements = []
    for cell in notebook.cells:
        if cell.cell_type == "code":
            with suppress(SyntaxError):  # a student's cell may be anything
                nodes = ast.parse(without_magics(cell.source)).body
                statements += [ast.unparse(node) for node in nodes if isinstance(node, ast.Import | ast.ImportFrom)]
    return statements
