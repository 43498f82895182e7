"""What is committed in results/: read by name, and what it says about a run of one's own."""

import json
from pathlib import Path
from typing import Any

from evidence.intervals import one_seed

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "results"


def read_json(name: str) -> dict[str, Any]:
    """Return ``results/NAME.json``."""
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def study_of(recipe: str) -> dict[str, Any]:
    """Return the summary and the runs of the seeds that the recipe of this name was trained from, ``study.json``'s.

    Raises ``KeyError`` where there is none.
    """
    study = read_json("study")["ablation" if recipe == "assignment" else "recipes"]
    runs = [run for run in study["runs"] if run["variant"] == recipe]
    return {"summary": study["summary"][recipe], "runs": runs}


def sturdiness_of(recipe: str) -> dict[str, Any]:
    """Return the summary of the seeds of this recipe that were tested on distorted images, too."""
    return read_json("study")["assignment" if recipe == "assignment" else "recipes"]["summary"][recipe]


def what_it_means(accuracy: float, recipe: str, settings: dict[str, Any]) -> str:
    """Return a sentence on a test accuracy (fraction) that a run with these ``settings`` of ``recipe`` ended with.

    It says where 95% of single seeds fall, from the study's, and whether this one does; where the settings are not
    the study's, which ones.
    """
    try:
        study = study_of(recipe)
    except KeyError:
        return f"{accuracy:.2%}; other seeds of this recipe were not studied"
    final = study["summary"]["final"]
    low, high = one_seed(final)
    fall = (
        f"95% of seeds of this recipe fall between {low:.2%} and {high:.2%} (mean of {final['n']}: {final['mean']:.2%})"
    )
    studied = study["runs"][0]["recipe"]
    changed = [f"{name} {value}" for name, value in settings.items() if name != "seed" and value != studied[name]]
    if changed:
        return f"{accuracy:.2%} with {', '.join(changed)}; as it stands, {fall}"
    where = "as yours does" if low <= accuracy <= high else "yours does not: one in twenty does not either"
    return f"{accuracy:.2%}: {fall}; {where}"
