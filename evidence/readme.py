"""Write the generated parts of README.md and evidence/README.md, and set the repository's address in all files.

python -m evidence.readme                          # write the parts again
python -m evidence.readme --repository ADDRESS     # after forking: set the address, too
"""

import argparse
import ast
import json
import re
import statistics
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

from evidence.timings import races, speed
from helpers import ROOT
from helpers.model import Net
from helpers.receptive_field import layer_table, stages, to_markdown
from helpers.recipe import RECIPES
from helpers.results import findings, percent, rates_table, read_json, seeds_that_reach, study_of, study_table
from helpers.runtime.files import atomic_write
from helpers.runtime.markdown import markdown_table

NOTEBOOK = "ERAV4S5CNNwithBN.ipynb"
COURSE_GOAL = 0.994
HOSTS = "https://github.com/"  # the only host whose notebooks Colab opens by their address


def badge() -> str:
    """Return the Colab badge; the repository's address is set in pyproject.toml."""
    address = addresses(ROOT)["notebook"].replace(HOSTS, "https://colab.research.google.com/github/")
    return f"[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]({address})"


def recipes() -> str:
    """Return a table of what each recipe reaches, over its seeds."""
    rows = []
    for name, recipe in RECIPES.items():
        final = study_of(name)["summary"]["final"]
        reached = f"{seeds_that_reach(COURSE_GOAL, name)} of {final['n']}"
        rows.append([f"*{name}*", recipe.num_epochs, f"**{percent(final)}**", f"{final['sd'] * 100:.2f}", reached])
    head = ["recipe", "epochs", "test accuracy", "sd of seeds", f"seeds that reach {COURSE_GOAL:.1%}"]
    return markdown_table(head, rows)


def layers() -> str:
    """Return the layer table."""
    return to_markdown(stages(layer_table(Net()))).strip()


def sections() -> str:
    """Return a list of links to the notebook's sections."""
    cells = json.loads((ROOT / NOTEBOOK).read_text(encoding="utf-8"))["cells"]
    prose = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    headings = re.findall(r"^## (.*)", prose, flags=re.MULTILINE)
    return "\n".join(f"* [{heading}]({NOTEBOOK}#{heading.replace(' ', '-')})" for heading in headings)


def sensitivity() -> str:
    """Return the study of learning rates as a table."""
    return rates_table(read_json("study")["sensitivity"]["summary"])


def ablation() -> str:
    """Return the ablation's table, with a sentence on each variant."""
    summary = read_json("study")["ablation"]["summary"]
    return study_table(summary) + "\n\n" + "\n".join(f"* {finding}" for finding in findings(summary))


def distortions() -> str:
    """Return a table of the accuracies of all recipes on distorted test images."""
    summaries = {name: study_of(name)["summary"] for name in RECIPES}
    names = [f"{name} (n = {summary['final']['n']})" for name, summary in summaries.items()]
    changes = next(iter(summaries.values()))["distorted"]
    rows = [[change, *(percent(summary["distorted"][change]) for summary in summaries.values())] for change in changes]
    return markdown_table(["test images", *names], rows)


def searches() -> str:
    """Return the comparisons on held-out images from which the recipes were chosen, each as a folded table."""
    return "\n\n".join(_search(title, table) for title, table in read_json("search").items())


def _search(title: str, table: dict) -> str:
    rows = []
    for name, variant in table["variants"].items():
        accuracies = [run["accuracy"] * 100 for run in variant["runs"]]
        each = ", ".join(f"{accuracy:.2f}" for accuracy in accuracies)
        rows.append([name, len(accuracies), f"{statistics.fmean(accuracies):.2f}%", each])
    images = f"{table['held_out']:,} images held out, {table['trained_on']:,} to learn from"
    made = markdown_table(["variant", "n", "mean", "each seed"], rows)
    return f"<details><summary>{title}: {images}</summary>\n\n{made}\n\n</details>"


def made_on() -> str:
    """Return the device and the versions of each study, as its first run recorded them."""
    lines = []
    for title, study in read_json("study").items():
        run = study["runs"][0]
        versions = ", ".join(f"{package} {version}" for package, version in run["versions"].items())
        lines.append(f"* {title}: {run['device']}, {versions}")
    return "\n".join(lines)


def files() -> str:
    """Return lists of the modules and packages in three folders, each with the first line of its docstring."""
    parts = []
    for folder in (ROOT / "helpers", ROOT / "helpers" / "runtime", ROOT / "evidence"):
        name = folder.relative_to(ROOT).as_posix()
        lines = [f"**`{name}/`**: {first_line(folder / '__init__.py')}", ""]
        modules = [*folder.glob("[a-z]*.py"), *(package.parent for package in folder.glob("*/__init__.py"))]
        for module in sorted(modules):
            docstring = first_line(module / "__init__.py" if module.is_dir() else module)
            lines.append(f"* [`{module.name}`](../{module.relative_to(ROOT).as_posix()}): {docstring}")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def first_line(module: Path) -> str:
    """Return the first line of a module's docstring."""
    return (ast.get_docstring(ast.parse(module.read_text(encoding="utf-8"))) or "").splitlines()[0]


PAGES: dict[str, tuple[Callable[[], str], ...]] = {
    "README.md": (badge, recipes, races, layers, sections),
    "evidence/README.md": (sensitivity, ablation, distortions, searches, made_on, speed, files),
}


def render(page: str, text: str) -> str:
    """Return the ``text`` of a page with every generated part, between its two comments, written again.

    Raises ``ValueError`` where a comment is missing.
    """
    for part in PAGES[page]:
        begin, end = f"<!-- begin: {part.__name__} -->", f"<!-- end: {part.__name__} -->"
        before, found, rest = text.partition(begin)
        _, found_end, after = rest.partition(end)
        if not found or not found_end:
            raise ValueError(f"{page} has no part {part.__name__!r}: give it one, between {begin} and {end}")
        text = f"{before}{begin}\n\n{part()}\n\n{end}{after}"
    return text


def addresses(root: Path) -> dict[str, str]:
    """Return the addresses in pyproject.toml: of the repository, and of the notebook in it."""
    return tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]


def set_repository(root: Path, repository: str, branch: str = "main") -> list[str]:
    """Set the repository's address in the files below ``root`` that have it; return a line for each changed file.

    If ``root`` is a subfolder of its git repository, it becomes a part of the notebook's address. Raises ``ValueError``
    for anything but an address on GitHub.
    """
    repository = repository.removesuffix("/").removesuffix(".git")
    if not re.fullmatch(re.escape(HOSTS) + r"[\w.-]+/[\w.-]+", repository):
        raise ValueError(f"the repository is {repository!r}: give its address, as {HOSTS}OWNER/NAME")
    git = ["git", "rev-parse", "--show-prefix"]
    prefix = subprocess.run(git, cwd=root, capture_output=True, text=True).stdout.strip()
    now = {"notebook": f"{repository}/blob/{branch}/{prefix}{NOTEBOOK}", "repository": repository}
    was, changed = addresses(root), []
    for name in ("pyproject.toml", "README.md", NOTEBOOK):
        path = root / name
        text = new = path.read_text(encoding="utf-8")
        for address in ("notebook", "repository"):  # the longer one first: it begins with the other
            for host in (HOSTS, "https://colab.research.google.com/github/"):
                new = new.replace(was[address].replace(HOSTS, host), now[address].replace(HOSTS, host))
        if new != text:
            atomic_write(path, new)
            changed.append(f"{name}: {was['repository']} is {repository} now")
    return changed


def main(arguments: list[str] | None = None) -> int:
    """Set the address where one is given, write the pages again; return 0, or 2 after one line about an error."""
    parser = argparse.ArgumentParser(prog="python -m evidence.readme", description="Write the generated parts again.")
    parser.add_argument("--repository", metavar="ADDRESS", help="have all files name this repository on GitHub")
    parser.add_argument("--branch", default="main", help="in which Colab finds the notebook (main)")
    options = parser.parse_args(arguments)
    try:
        if options.repository:
            changed = set_repository(ROOT, options.repository, options.branch)
            print("\n".join(changed or ["nothing to change"]))
        for page in PAGES:
            path = ROOT / page
            atomic_write(path, render(page, path.read_text(encoding="utf-8")))
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
