"""Secateur against other tools: quality against measured latency, one table and one picture.

    make bench-env                                    # once: the contenders' own environment
    python tests/benchmarks/compare.py                # makes what is missing, times all, prints the table
    python tests/benchmarks/compare.py --seeds 0      # one seed alone
    python tests/benchmarks/compare.py --only secateur:student-3 --no-time
    python tests/benchmarks/compare.py --time         # only times what is there, on a machine with nothing else to do
    python tests/benchmarks/compare.py --table        # only the table and the picture of the raw figures

It goes on where it stopped. Raw figures: tests/benchmarks/results/contenders.jsonl and contenders-times.jsonl.
"""

import argparse

from contenders.report import report
from contenders.run import make_all
from contenders.settings import SEEDS, STEPS
from contenders.timing import time_all


def main() -> None:
    """The steps that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME[:POINT]", help="make only these")
    parser.add_argument("--steps", type=int, default=STEPS, help="another budget, kept apart: to try the benchmark out")
    parser.add_argument("--busy", action="store_true", help="time although the machine has something else to do")
    parser.add_argument("--no-time", action="store_true", help="only make artefacts and measure their quality")
    parser.add_argument("--time", action="store_true", help="only time what is there")
    parser.add_argument("--table", action="store_true", help="only print what is there")
    asked = parser.parse_args()
    if not (asked.table or asked.time):
        make_all(asked.seeds, asked.only, asked.steps)
    if not (asked.table or asked.no_time):
        time_all(asked.seeds, asked.steps, busy=asked.busy)
    print(report(asked.seeds, asked.steps))


if __name__ == "__main__":
    main()
