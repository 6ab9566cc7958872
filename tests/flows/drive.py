"""The command line with the stages of `tests.flows.fake`: run, retrain, stage, search, and their options."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from flows.cli import ends

STAGES = "tests.flows.fake"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("command", choices=("run", "stage", "search", "retrain"))
    parser.add_argument("name", nargs="?")
    parser.add_argument("--set", action="append", default=[], dest="settings")
    parser.add_argument("--force", action="append", default=[])
    parser.add_argument("--trials", type=int)
    parser.add_argument("--workers", type=int)
    given = parser.parse_args()
    with ends():
        if given.command == "stage":
            from flows.stage import stage

            stage(Path.cwd(), given.name, STAGES)
        elif given.command == "search":
            from flows.progress import Progress
            from flows.search.run import search

            stages = "tests.flows.search_stages"
            search(Path.cwd(), None, given.settings, None, given.trials, given.workers, None, Progress(), stages)
        elif given.command == "retrain":
            from flows.progress import Progress
            from flows.request import Request
            from flows.retraining.command import retrain

            sys.exit(retrain(Request(Path.cwd(), Path(given.name), given.settings, (), STAGES), Progress()))
        else:
            from flows.progress import Progress
            from flows.request import Request
            from flows.run import run

            recipe = Path(given.name) if given.name else None
            ran = run(Request(Path.cwd(), recipe, given.settings, given.force, STAGES), Progress())
            print("ran" if ran else "nothing to run")


if __name__ == "__main__":
    main()
