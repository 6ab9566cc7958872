"""The servers of this machine.

python -m infra up | down | status
"""

import argparse
import sys
from pathlib import Path

from infra.home import Home
from infra.stack import Stack
from tasks.core.errors import EnvironmentFault

STATE = Path(".secateur") / "services"


def main() -> int:
    """Does as told; exit status 1 if a server fails, or if one is not up when asked."""
    words = argparse.ArgumentParser(prog="python -m infra", description=__doc__.splitlines()[0])
    words.add_argument("what", choices=("up", "down", "status"))
    words.add_argument("--gpu", type=int, default=1, help="flow runs at once in the pool gpu (default: 1)")
    words.add_argument("--cpu", type=int, default=1, help="flow runs at once in the pool cpu (default: 1)")
    given = words.parse_args()
    root = Path.cwd()
    if not (root / "dvc.yaml").is_file():
        words.error(f"{root} is no workspace: it has no dvc.yaml; go to the directory that holds it")
    stack = Stack(Home(root / STATE), root, {"gpu": given.gpu, "cpu": given.cpu})
    try:
        if given.what == "up":
            stack.up()
            print(f"\nto use them in a shell:  . {stack.env_file.relative_to(root)}")
        elif given.what == "down":
            stack.down()
        else:
            return _status(stack)
    except EnvironmentFault as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _status(stack: Stack) -> int:
    up = {service: service.is_up() for service in stack.services}
    for service, answers in up.items():
        print(f"{service.name:<12} {'up' if answers else 'down'}")
    return 0 if all(up.values()) else 1


if __name__ == "__main__":
    raise SystemExit(main())
