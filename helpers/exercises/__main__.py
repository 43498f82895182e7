"""Hand out and grade: ``python -m helpers.exercises handout FILE`` and ``... grade NOTEBOOK...``."""

import argparse
import csv
import sys
from collections.abc import Iterable
from pathlib import Path

from helpers.exercises.grading import grade
from helpers.exercises.handout import hand_out
from helpers.exercises.result import Result
from helpers.runtime.console import suit_any_console
from helpers.runtime.markdown import markdown_table

SECONDS = 120


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m helpers.exercises", description="Hand out the notebook, grade it.")
    commands = parser.add_subparsers(dest="command", required=True)
    handing_out = commands.add_parser("handout", help="write the notebook without solutions and outputs")
    handing_out.add_argument("file", type=Path)
    grading = commands.add_parser("grade", help="print the points of students' notebooks; runs their code")
    grading.add_argument("notebooks", type=Path, nargs="+", metavar="NOTEBOOK")
    grading.add_argument("--csv", action="store_true", help="for a spreadsheet, instead of a table")
    grading.add_argument("--seconds", type=int, default=SECONDS, help=f"that a cell may take ({SECONDS})")
    options = parser.parse_args(arguments)
    if options.command == "grade" and options.seconds < 1:
        parser.error(f"--seconds is {options.seconds}: give at least 1")
    suit_any_console()
    try:
        if options.command == "handout":
            hand_out(options.file)
            print(f"written to {options.file}")
            return 0
        results = {}
        for path in options.notebooks:
            marks = grade(path, options.seconds)
            results[path] = marks
            print(f"{path}: {total(marks)}", file=sys.stderr)
    except (OSError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    numbers = range(1, 1 + len(marks))
    if options.csv:
        print_csv(results, numbers)
    else:
        print_table(results, numbers)
    return 0


def points(marks: list[Result]) -> list[int]:
    return [int(mark.passed) for mark in marks]


def total(marks: list[Result]) -> str:
    return f"{sum(points(marks))} of {len(marks)}"


def print_table(results: dict[Path, list[Result]], numbers: Iterable[int]) -> None:
    """Print a table with a row for each notebook, and below it the exercises that are not passed, and why."""
    rows = [[path, *points(marks), total(marks)] for path, marks in results.items()]
    print(markdown_table(["notebook", *numbers, "points"], rows), end="\n\n")
    for path, marks in results.items():
        missing: dict[str, list[str]] = {}
        for number, mark in zip(numbers, marks, strict=True):
            if not mark.passed:
                missing.setdefault(mark.sentence, []).append(str(number))
        for sentence, exercises in missing.items():
            print(f"* {path}, {', '.join(exercises)}: {sentence}")


def print_csv(results: dict[Path, list[Result]], numbers: Iterable[int]) -> None:
    """Print a row for each notebook: its points, and why an exercise is not passed."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    titles = [f"exercise {number}" for number in numbers]
    writer.writerow(["notebook", *titles, "points", *(f"{title}, remark" for title in titles)])
    for path, marks in results.items():
        remarks = ["" if mark.passed else mark.sentence for mark in marks]
        writer.writerow([path, *points(marks), sum(points(marks)), *remarks])


if __name__ == "__main__":
    sys.exit(main())
