"""Measure the stock pipeline and this project's side by side: python -m evidence.benchmark [--quick]"""

import argparse
import sys
from pathlib import Path

from evidence.benchmark import stock
from evidence.benchmark.figures import can_be_drawn, draw
from evidence.benchmark.measure import Report, describe_machine
from evidence.benchmark.suite import DATA, PARTS, Benchmark
from helpers.runtime.console import suit_any_console
from helpers.runtime.device import choose_device


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark; return 0, 2 after one line about an error, or 130 where it was stopped."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument(
        "--quick", action="store_true", help="a few minutes: fewer images, growth measured once, no training to 99.0%%"
    )
    parser.add_argument("--rounds", type=int, default=3, help="alternating repetitions of each measurement")
    parser.add_argument("--only", choices=PARTS, help="measure this part only, and keep it apart from whole runs")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="what trains")
    parser.add_argument("--results", type=Path, default=Path("results"), help="folder for benchmark.json and figure")
    options = parser.parse_args(arguments)
    suit_any_console()
    try:
        if options.rounds < 1:
            raise ValueError(f"rounds is {options.rounds}: give at least 1")
        device = choose_device(options.device)
        kind = device.type
        if options.quick:
            kind += " quick"
        if options.only:
            kind += f" {options.only}"
        report = Report(options.results / "benchmark.json", kind, describe_machine(device), {"rounds": options.rounds})
        with stock.linked(DATA) as folder:
            Benchmark(report, folder, device, options.rounds, options.quick).run(options.only)
        print(f"written: {report.path}")
        if can_be_drawn(report.part):
            print(f"written: {draw(options.results, kind)}")
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"stopped; what is measured so far is in {options.results}", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
