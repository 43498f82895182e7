"""The teacher's part of the kernel that runs a student's cells: checks with a copy of ``helpers`` of their own."""

import contextlib
import sys
from typing import Any

from helpers.exercises.result import Result, not_yet


class Marker:
    """Runs the checks with its own copy of ``helpers``: when a student's cell imports ``helpers``, it gets a new one.

    ``imports`` are the notebook's import statements; ``data`` is the folder that holds MNIST.
    """

    def __init__(self, imports: list[str], data: str) -> None:
        self.names = names_of_the_lesson(imports, data)
        for name in list(sys.modules):
            if name.split(".")[0] == "helpers":
                del sys.modules[name]

    def mark(self, call: str, answer: str, template: str, student: dict[str, Any]) -> tuple[bool, str]:
        """Return whether the check ``call`` on ``answer``, a name among the student's, is passed, and its sentence.

        If the check also passes what the unsolved cell, ``template``, defines, it no longer checks anything, and there
        is no point.
        """
        result = self._result(call, answer, student)
        if result.passed:
            unsolved = dict(self.names)
            exec(template, unsolved)
            if self._result(call, answer, unsolved).passed:
                result = not_yet("here the check passes the unsolved cell, too: what does this notebook change?")
        return result.passed, result.sentence

    def _result(self, call: str, answer: str, names: dict[str, Any]) -> Result:
        if answer not in names:
            return not_yet(f"{answer} is not there; the cell may define it under another name.")
        try:
            return eval(call, {**self.names, answer: names[answer]})
        except BaseException as error:  # SystemExit, too, ends this check alone
            return not_yet(f"it raises {type(error).__name__}.")


def names_of_the_lesson(imports: list[str], data: str) -> dict[str, Any]:
    """Return what an exercise's cell may use: what the notebook imports, and ``train`` and ``test``."""
    names: dict[str, Any] = {}
    for statement in imports:
        with contextlib.suppress(Exception):  # a missing package that no exercise needs
            exec(statement, names)
    exec(f"from helpers.data import load_mnist\ntrain, test = load_mnist({data!r})", names)
    return names
