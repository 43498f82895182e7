"""Handing out: the notebook as students get it."""

import re
import warnings
from pathlib import Path

import nbformat
from nbconvert.preprocessors import ClearOutputPreprocessor
from nbformat import NotebookNode

from helpers import ROOT
from helpers.runtime.files import atomic_write

NOTEBOOK = ROOT / "ERAV4S5CNNwithBN.ipynb"
SOLUTION = re.compile(r"\s*<details>\s*<summary>Solution</summary>.*?</details>", re.DOTALL)


def hand_out(path: Path) -> None:
    """Write the student's edition of the notebook: without solutions and outputs.

    Raises ``OSError`` where there is a file already, as that may be the teacher's edition, or it cannot be written.
    """
    if path.exists():
        raise FileExistsError(f"{path} is there already: choose another name, or remove it")
    notebook, _ = ClearOutputPreprocessor().preprocess(read(NOTEBOOK), {})
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = SOLUTION.sub("", cell.source)
    atomic_write(path, nbformat.writes(notebook) + "\n")


def read(path: Path) -> NotebookNode:
    with warnings.catch_warnings(action="ignore"):  # of ids that are there twice, which do no harm
        return nbformat.reads(path.read_text(encoding="utf-8"), as_version=4)
