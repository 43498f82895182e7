"""The kernel that runs a student's cells, and the checks of what they define."""

import ast
import logging
import secrets
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from nbformat import NotebookNode

from helpers import ROOT
from helpers.exercises.result import Result, not_yet

SET_UP_SECONDS = 300


class LostError(RuntimeError):
    """Running a cell has ended the kernel, or takes too long."""


class Kernel:
    """Runs cells one after the other, each within a time limit of ``seconds``, and the checks, kept apart from them.

    ``teachers`` and ``students`` are the import statements of the teacher's notebook and of the student's.
    """

    def __init__(self, client: NotebookClient, teachers: list[str], students: list[str], seconds: int) -> None:
        self.client, self.marker, data = client, f"_{secrets.token_hex(8)}", str(ROOT / "data")
        set_up = f"""
import os, sys, torch
torch.set_num_threads(1)  # networks this small gain nothing from more
sys.path.insert(0, {str(ROOT)!r})
from helpers.exercises.marking import Marker, names_of_the_lesson
{self.marker} = Marker({teachers!r}, {data!r})
globals().update(names_of_the_lesson({students!r}, {data!r}))
del Marker, names_of_the_lesson
sys.stdout = sys.stderr = open(os.devnull, "w", encoding="utf-8")  # what cells print is not looked at
"""
        if fault := self.run(set_up):
            raise RuntimeError(f"the checks cannot be run: {fault}")
        self.client.timeout = seconds

    def run(self, source: str) -> str:
        """Run a cell and return its error in one line, empty if there is none."""
        for output in self._outputs(source):
            if output.output_type == "error":
                return " ".join(f"{output.ename}: {output.evalue}".split())[:200]
        return ""

    def mark(self, call: str, answer: str, template: str) -> Result:
        """Return the result of the check ``call`` on what the cells so far have defined under the name ``answer``.

        ``template`` is the unsolved cell, which the check must not pass.
        """
        asked = f"{self.marker}.mark({call!r}, {answer!r}, {template!r}, globals())"
        for output in self._outputs(asked):
            if output.output_type == "execute_result":
                with suppress(Exception):  # a cell may have changed how results are shown
                    passed, sentence = ast.literal_eval(output.data["text/plain"])
                    return Result(passed, sentence)
        return not_yet("the check gives no answer in this notebook.")

    def _outputs(self, source: str) -> list[NotebookNode]:
        cell = nbformat.v4.new_code_cell(source)
        self.client.nb.cells.append(cell)
        try:
            self.client.execute_cell(cell, len(self.client.nb.cells) - 1)
        except CellTimeoutError as error:
            raise LostError(f"it takes longer than {self.client.timeout} seconds") from error
        except DeadKernelError as error:
            raise LostError("it ends the kernel") from error
        return cell.outputs


@contextmanager
def kernel(teachers: list[str], students: list[str], seconds: int) -> Iterator[Kernel]:
    """Start a kernel in an empty folder, and end it after the block."""
    quiet = logging.getLogger("grading")
    quiet.disabled = True
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        client = NotebookClient(
            nbformat.v4.new_notebook(),
            kernel_name="python3",
            timeout=SET_UP_SECONDS,
            allow_errors=True,
            shutdown_kernel="immediate",
            resources={"metadata": {"path": folder}},
            log=quiet,
        )
        with client.setup_kernel(stderr=subprocess.DEVNULL):
            yield Kernel(client, teachers, students, seconds)
