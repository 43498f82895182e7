"""Write the page: ``python -m helpers.page [OUT.html] [--weights FILE]``."""

import argparse
import sys
from pathlib import Path

from helpers import ROOT
from helpers.data import load_mnist
from helpers.model import Net
from helpers.page import write_page
from helpers.results import RESULTS
from helpers.runtime.files import load_weights


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m helpers.page", description="Write the page to draw on.")
    parser.add_argument("out", nargs="?", type=Path, default=RESULTS / "page.html", help="default: results/page.html")
    weights = RESULTS / "robust" / "model.pt"
    parser.add_argument("--weights", type=Path, default=weights, help="weights of Net; default: recipe robust's")
    options = parser.parse_args(arguments)
    try:
        model = Net()
        load_weights(model, options.weights)
        _, test = load_mnist(ROOT / "data")
        write_page(options.out, model, test)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{options.out} is written ({options.out.stat().st_size / 1000:.0f} kB): open it in any browser")
    return 0


if __name__ == "__main__":
    sys.exit(main())
