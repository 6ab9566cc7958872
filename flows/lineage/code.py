"""Whether git has the code that a stage ran: in the commit that its record names, or in the present one."""

import tempfile
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

from flows import git
from flows.lineage.state import State
from tasks.core.files import tree_hash


def elsewhere(state: State, noted: Mapping[str, str], commit: str | None) -> Iterator[str]:
    """What is wrong.

    Args:
        state: The state the stage is of.
        noted: sha256 of its code in provenance, by path.
        commit: The commit that MLflow noted when the stage was recorded.
    """
    if commit and not git.has(state.home, commit):
        yield f"the commit {commit} that MLflow names is not in this repository"
        return
    present = git.head(state.home)
    if not present:
        yield "there is no commit, so nothing holds the code that ran; commit the workspace"
        return
    known = [one for one in (commit, state.commit, present) if one]
    for path, sha256 in noted.items():
        if not any(_sha256(state.home, one, path) == sha256 for one in known):
            yield f"{path} as it ran (sha256 {sha256}) is in none of the commits {', '.join(_short(known))}"


def holding(state: State, noted: Mapping[str, str], commits: list[str]) -> str | None:
    """The first of `commits` that holds all that code."""
    for one in commits:
        if git.has(state.home, one) and all(_sha256(state.home, one, path) == noted[path] for path in noted):
            return one
    return None


@cache
def _sha256(root: Path, commit: str, path: str) -> str | None:
    with tempfile.TemporaryDirectory() as directory:
        git.export(root, commit, [path], Path(directory))
        there = Path(directory) / path
        return tree_hash(there) if there.exists() else None


def _short(commits: list[str]) -> list[str]:
    return [commit[:12] for commit in dict.fromkeys(commits)]
