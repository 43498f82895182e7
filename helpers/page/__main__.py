"""Write the page: ``python -m helpers.page [OUT.html] [--weights FILE]``."""

import argparse
import sys
from pathlib import Path

from helpers.page import PAGE, WEIGHTS, write_page


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m helpers.page", description="Write the page to draw on.")
    parser.add_argument("out", nargs="?", type=Path, default=PAGE, help="results/page.html by default")
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="the committed ones of recipe best by default")
    options = parser.parse_args(arguments)
    try:
        write_page(options.out, options.weights)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"written to {options.out}: {options.out.stat().st_size / 1000:.0f} kB, to open in any browser")
    return 0


if __name__ == "__main__":
    sys.exit(main())
