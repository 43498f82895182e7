"""The notebook's exercises, for the tests: their questions, their cells, and the solutions below the questions."""

import re

import nbformat

from conftest import ROOT

NOTEBOOK = nbformat.read(ROOT / "ERAV4S5CNNwithBN.ipynb", as_version=4)
QUESTIONS = [cell.source for cell in NOTEBOOK.cells if cell.source.startswith("### Exercise")]
CELLS = [cell for cell in NOTEBOOK.cells if "exercise" in cell.metadata.get("tags", [])]
CODE = re.compile(r"<summary>Solution</summary>.*?```python\n(.*?)```", re.DOTALL)
SOLUTIONS = [CODE.search(question)[1] for question in QUESTIONS]
