"""Grading: the student's cells are run, and the teacher's checks judge what they define."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from helpers.exercises.answers import Cell, Exercise, exercises_of, imports_in, written_in
from helpers.exercises.handout import NOTEBOOK, read
from helpers.exercises.kernel import Kernel, LostError, kernel
from helpers.exercises.result import Result, not_yet


def grade(path: Path, seconds: int) -> list[Result]:
    """Return the result of each exercise in a student's notebook; a cell may run for at most ``seconds``.

    The teacher's check judges the last definition of an answer. A cell that raises, hangs or ends the kernel gets no
    point. The student's code runs in the same kernel as the checks, so someone who sets out to deceive them can.
    """
    handed_out = read(NOTEBOOK)
    exercises, lesson = exercises_of(handed_out), imports_in(handed_out)
    try:
        notebook = read(path)
        cells, imports = written_in(notebook, handed_out, exercises), imports_in(notebook)
    except Exception as error:  # the file may hold anything
        return [not_yet(f"the file cannot be read as a notebook ({type(error).__name__}).")] * len(exercises)
    if not cells:
        return [not_yet("it was not answered.")] * len(exercises)
    marks: dict[int, Result] = {}
    while len(marks) < len(exercises):
        with kernel(lesson, imports, seconds) as running, suppress(LostError):  # then start anew without that cell
            run_cells(running, cells)
            mark_exercises(running, cells, exercises, marks)
    return [marks[number] for number in range(len(exercises))]


def run_cells(running: Kernel, cells: list[Cell]) -> None:
    for cell in cells:
        if not cell.is_lost:
            try:
                cell.fault = running.run(cell.source)
            except LostError as lost:
                cell.fault, cell.is_lost = str(lost), True
                raise


def mark_exercises(running: Kernel, cells: list[Cell], exercises: Sequence[Exercise], marks: dict[int, Result]) -> None:
    """Add to ``marks`` the results of the exercises that have none yet."""
    answers = [exercise.answer for exercise in exercises]
    faults = [cell.fault for cell in cells if cell.fault and not any(map(cell.may_define, answers))]
    stray = f" (and a cell cannot be run: {faults[0]})" if faults else ""
    for number, exercise in enumerate(exercises):
        if number in marks:
            continue
        defining = [cell for cell in cells if cell.may_define(exercise.answer)]
        if not defining:
            marks[number] = not_yet(f"it was not answered: no cell defines {exercise.answer} anew{stray}.")
        elif defining[-1].fault:
            marks[number] = not_yet(f"its cell cannot be run: {defining[-1].fault}.")
        else:
            try:
                marks[number] = running.mark(exercise.call, exercise.answer, exercise.template)
            except LostError as lost:
                marks[number] = not_yet(f"checking it fails: {lost}.")
                raise
