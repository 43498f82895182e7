"""Change one random place of the code at a time, run the tests that concern it, and print what they did not notice.

python tests/mutate.py --mutants 300 --seed 1 --log mutants.jsonl helpers/training.py ...   # or all modules

The checkout is left alone: a copy is changed. Every run of tests is a child of this process, which has imported
torch and pytest but nothing of the project. A run that takes too long counts as noticed. The log has a line of
JSON for each mutant: a run that was stopped goes on where it was, and ``--again`` asks the survivors once more.
"""

import argparse
import ast
import contextlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["PYTHONDONTWRITEBYTECODE"] = "1"

import hypothesis  # noqa: F401
import matplotlib.figure  # noqa: F401
import nbval.plugin  # noqa: F401
import pytest
import torch.distributed.run  # noqa: F401
import torchvision.datasets  # noqa: F401

ROOT = Path(__file__).parent.parent
CONCERN = {  # by module or folder, the files whose tests are run, the likeliest to notice first; else test_MODULE.py
    "helpers/augmentation.py": "augmentation data script",
    "helpers/data.py": "data data_faults script",
    "helpers/model.py": "model script",
    "helpers/exercises": "exercises grading",
    "helpers/plots": "plots exercises study",
    "helpers/page": "page",
    "helpers/photographs": "photographs script",
    "helpers/recipe.py": "training script survival study",
    "helpers/summary.py": "summary script",
    "helpers/training.py": "training survival script inspection threads",
    "helpers/runtime/checkpoint.py": "survival script",
    "helpers/runtime/console.py": "everywhere script",
    "helpers/runtime/cpu_layers.py": "cpu_layers training",
    "helpers/runtime/cuda_graph.py": "training cuda",
    "helpers/runtime/device.py": "training cpu_layers script",
    "helpers/runtime/files.py": "survival script data_faults",
    "helpers/runtime/history.py": "survival training script",
    "helpers/runtime/looking.py": "inspection training",
    "helpers/runtime/meter.py": "training",
    "helpers/runtime/progress.py": "plots training survival everywhere threads",
    "helpers/runtime/archive.py": "data_faults",
    "helpers/runtime/epochs.py": "training survival",
    "helpers/runtime/markdown.py": "plots receptive_field study",
    "helpers/runtime/settings.py": "script augmentation training",
    "helpers/receptive_field": "receptive_field layer_operations common_networks",
    "evidence/benchmark": "benchmarks",
    "evidence/page_picture.py": "page",
    "evidence/timings.py": "readme benchmarks",
    "helpers/results.py": "study script readme",
    "ERAV4S5CNNwithBN.py": "script survival",
}


def all_modules() -> list[str]:
    """Return the path of every module whose code can be changed, from the root on."""
    paths = [path for part in ("helpers", "evidence") for path in sorted((ROOT / part).rglob("[a-z]*.py"))]
    return [path.relative_to(ROOT).as_posix() for path in paths] + ["ERAV4S5CNNwithBN.py"]


def concern(module: str) -> list[str]:
    """Return the files whose tests concern ``module``."""
    by_default = CONCERN.get(Path(module).parent.as_posix(), Path(module).stem)
    return [f"tests/test_{name}.py" for name in CONCERN.get(module, by_default).split()]


FLIPPED = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In, ast.And: ast.Or, ast.Or: ast.And,
}  # fmt: skip
DROPPED = (ast.Expr, ast.Assign, ast.AugAssign, ast.Return, ast.Raise)
Change = tuple[ast.AST, str]  # what is replaced, and by what


def changes(node: ast.AST) -> Iterator[Change]:
    """Yield every single change to ``node`` itself."""
    match node:
        case ast.Expr(value=ast.Constant()):
            pass  # a docstring
        case ast.Compare(left, [first, *others], comparators):
            yield node, ast.unparse(ast.Compare(left, [FLIPPED[type(first)](), *others], comparators))
        case ast.BoolOp(operator, values):
            yield node, f"({ast.unparse(ast.BoolOp(FLIPPED[type(operator)](), values))})"
        case ast.Constant(value=bool(value)):
            yield node, repr(not value)
        case ast.Constant(value=int(value) | float(value)):
            yield node, repr(value + 1)
        case ast.Call(function, positional, keywords):
            for keyword in keywords:
                others = [other for other in keywords if other is not keyword]
                yield node, ast.unparse(ast.Call(function, positional, others))
        case ast.ExceptHandler(type=ast.Tuple(elts=kinds)):
            for kind in kinds:
                yield node.type, f"({', '.join(ast.unparse(other) for other in kinds if other is not kind)},)"
        case ast.If(test=test) | ast.IfExp(test=test):
            yield from ((test, truth) for truth in ("True", "False"))
        case ast.arguments(defaults=defaults, kw_defaults=keyword_defaults):
            for default in defaults + keyword_defaults:
                if isinstance(default, ast.Constant) and isinstance(default.value, str):
                    yield default, repr(default.value + "x")
    if isinstance(node, DROPPED) and not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):
        yield node, "pass"


def walk(node: ast.AST) -> Iterator[ast.AST]:
    """Yield ``node`` and all below it but type hints and the inside of formatted strings, in the source's order."""
    yield node
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns") or isinstance(node, ast.JoinedStr):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from walk(child)


def replaced(source: str, node: ast.AST, text: str) -> str:
    """Return ``source`` with ``text`` in the place of ``node``; the columns of ``ast`` are those of UTF-8."""
    lines = source.encode().splitlines(keepends=True)
    begin = sum(map(len, lines[: node.lineno - 1])) + node.col_offset
    end = sum(map(len, lines[: node.end_lineno - 1])) + node.end_col_offset
    return (source.encode()[:begin] + text.encode() + source.encode()[end:]).decode()


def mutants(name: str) -> Iterator[dict[str, str]]:
    """Yield every mutant of the module: its place, what stood there, what stands there now, and the whole source.

    Its ``key`` stays when lines above it come or go.
    """
    source = (ROOT / name).read_text(encoding="utf-8")
    seen: Counter[str] = Counter()
    for node in walk(ast.parse(source)):
        for changed, text in changes(node):
            before = ast.get_source_segment(source, changed) or ""
            key = f"{name}: {source.splitlines()[changed.lineno - 1].strip()}: {before} -> {text}"
            seen[key] += 1
            yield {
                "key": f"{key} ({seen[key]})",
                "place": f"{name}:{changed.lineno}",
                "before": before,
                "after": text,
                "module": name,
                "source": replaced(source, changed, text),
            }


class Failures:
    """A plugin of pytest that adds the name of every test that fails to ``file``, a line each."""

    def __init__(self, file: Path) -> None:
        self.file = file
        file.write_text("", encoding="utf-8")

    def pytest_collectreport(self, report: pytest.CollectReport | pytest.TestReport) -> None:
        if report.failed:
            with open(self.file, "a", encoding="utf-8") as file:
                file.write(report.nodeid + "\n")

    pytest_runtest_logreport = pytest_collectreport


def run_tests(copy: Path, files: list[str], limit: float, *more: str) -> list[str]:
    """Run the tests in ``files`` in a child; return which ones failed, or why there is no such list."""
    failures = Failures(copy / "failures.txt")
    if not (child := os.fork()):
        try:
            os.setsid()
            os.chdir(copy)
            sys.path[:0] = [str(copy), str(copy / "tests")]
            nowhere = os.open(os.devnull, os.O_RDWR)
            for stream in range(3):
                os.dup2(nowhere, stream)
            options = ["-q", "-p", "no:cacheprovider", f"--basetemp={copy / 'temporary'}", *more]
            os._exit(int(pytest.main([*options, *files], plugins=[failures])))
        finally:
            os._exit(99)
    deadline = time.monotonic() + limit
    while not (done := os.waitpid(child, os.WNOHANG))[0] and time.monotonic() < deadline:
        time.sleep(0.02)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    if not done[0]:
        os.waitpid(child, 0)
        return [f"more than {limit:.0f} s"]
    if done[1] in (0, 5 << 8):  # passed, or no test has the marker
        return []
    return failures.file.read_text(encoding="utf-8").splitlines() or [f"status {done[1]}"]


class Tests:
    """The tests, in a ``copy`` of the checkout. Those that fail before anything is changed are left out."""

    def __init__(self, copy: Path, processes: bool = False) -> None:
        self.copy, self.seconds, self.broken = copy, {}, []
        self.markers = ["not processes", *["processes"] * processes]
        sys.dont_write_bytecode = True  # else a file changed twice within a second is not compiled again
        ignored = shutil.ignore_patterns(".git", "runs", "*-ubyte", "__pycache__", ".*_cache", ".venv", "venv")
        shutil.copytree(ROOT, copy, ignore=ignored)

    def try_out(self, file: str, marker: str) -> None:
        """Run the tests in ``file`` on the code as it is: what fails already, and how long it takes."""
        start = time.monotonic()
        for name in run_tests(self.copy, [file], 1800, "-m", marker):
            print(f"left out, because it fails already: {name}", file=sys.stderr)
            self.broken.append(f"--deselect={name}")
        self.seconds[file, marker] = time.monotonic() - start

    def notice(self, mutant: dict[str, str]) -> str:
        """Return which test notices ``mutant``, or "" where none does."""
        module = mutant["module"]
        path = self.copy / module
        files = concern(module)
        for marker in self.markers:
            for file in files:
                if (file, marker) not in self.seconds:
                    self.try_out(file, marker)
            limit = 30 + 4 * sum(self.seconds[file, marker] for file in files)
            original = path.read_bytes()
            path.write_text(mutant["source"], encoding="utf-8")
            failures = run_tests(self.copy, files, limit, "-x", "-m", marker, *self.broken)
            path.write_bytes(original)
            if failures:
                return failures[0]
        return ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("modules", nargs="*", help="whose code is changed; default: all")
    parser.add_argument("--mutants", type=int, default=300, help="how many are drawn")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--log", type=Path, default=Path("mutants.jsonl"))
    parser.add_argument("--again", action="store_true", help="run the tests on the log's survivors once more")
    parser.add_argument(
        "--processes", action="store_true", help="run the tests that start processes, too: minutes each"
    )
    options = parser.parse_args()
    modules = options.modules or all_modules()
    for module in modules:
        for file in concern(module):
            if not (ROOT / file).exists():
                parser.error(f"{file} would concern {module} and does not exist: name its tests in CONCERN")
    everything = [mutant for name in modules for mutant in mutants(name)]
    everything.sort(key=lambda mutant: random.Random(f"{options.seed} {mutant['key']}").random())
    drawn = everything[: options.mutants]  # of changed code, too, most are those that were drawn before
    lines = options.log.read_text(encoding="utf-8").splitlines() if options.log.exists() else []
    known = {entry["key"]: entry for entry in map(json.loads, lines)}
    with tempfile.TemporaryDirectory() as temporary:
        tests = Tests(Path(temporary, "copy"), options.processes)
        for mutant in drawn:
            entry = known.get(mutant["key"])
            if entry and (entry["noticed"] or not options.again):
                continue
            entry = {name: mutant[name] for name in ("key", "place", "before", "after")}
            known[mutant["key"]] = entry | {"noticed": tests.notice(mutant)}
            with open(options.log, "a", encoding="utf-8") as log:
                log.write(json.dumps(known[mutant["key"]]) + "\n")
    survivors = [mutant for mutant in drawn if not known[mutant["key"]]["noticed"]]
    for mutant in survivors:
        print(f"{mutant['place']}: {mutant['before']}  ->  {mutant['after']}")
    print(f"{len(drawn)} mutants of {len(everything)} drawn, {len(survivors)} not noticed")


if __name__ == "__main__":
    main()
