"""A trial cuts what the best of its drafts cuts."""

import json
from pathlib import Path

import numpy as np
import pytest
from optuna._hypervolume import compute_hypervolume

from flows.search.run import begun
from flows.search.space import cheap
from tests.flows.searching import SETTINGS, done, empty, go


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return empty(tmp_path, monkeypatch)


def test_the_best_draft_is_taken_and_the_others_go(root: Path) -> None:
    """Some drafts are too dear, some lose too much; of those that do neither one that no other beats is taken."""
    go(root, 8, "search.candidates=5")
    chose = [trial for trial in done(root) if "drafts" in trial.user_attrs]
    assert [trial.number for trial in chose] == list(range(1, 8))
    for trial in chose:
        drafts = trial.user_attrs["drafts"]
        assert len(drafts) == 5
        assert len({json.dumps(draft["params"]) for draft in drafts}) == 5
        own = trial.user_attrs["level0"]
        (taken,) = [draft for draft in drafts if draft["params"].items() <= trial.params.items()]
        assert {name: own[name] for name in taken["figures"]} == taken["figures"]
        affordable = [draft["figures"] for draft in drafts if draft["figures"]["flops_share"] <= 0.8]
        assert own["flops_share"] <= 0.8 or not affordable
        for one in affordable:
            assert not (one["quality"] > own["quality"] and one["flops_share"] < own["flops_share"])
        home = root / f".secateur/search/quickstart/trials/{trial.number:04d}"
        assert not list(home.glob("draft*"))
        verdict = json.loads((home / "level0/data/judge/models-cut-r1/verdict.json").read_text())
        assert verdict["quality"] == own["quality"]
    report = json.loads((root / ".secateur/search/quickstart/report/report.json").read_text())
    assert [len(trial["drafts"]) for trial in report["trials"]] == [1, *[5] * 7]


def test_it_is_the_one_that_adds_most_to_the_front(root: Path) -> None:
    go(root, 8, "search.candidates=4")
    allowed = 0.1
    seen: list[tuple[float, float]] = []  # what drafts lost, and what was lost in the end
    front: list[tuple[float, float]] = []  # what was lost in the end, and what it costs
    costs: list[float] = []
    cut: set[str] = set()
    for trial in done(root):
        own = trial.user_attrs["level0"]
        drafts = [draft["figures"] for draft in trial.user_attrs.get("drafts", [])] or [own]
        costs += [one["flops_share"] for one in drafts]
        corner = (allowed, max(costs))
        line = np.polyfit(*np.array([(0, 0), (2 * allowed, allowed), *seen]).T, 1)
        ahead = {one["sha256"]: (float(np.polyval(line, one["drop"])), one["flops_share"]) for one in drafts}
        added = {
            which: volume([*front, one], corner) for which, one in ahead.items() if one[1] <= 0.8 and which not in cut
        }
        if added and max(added.values()) > volume(front, corner):
            assert added[own["sha256"]] == pytest.approx(max(added.values()))
        cut.add(own["sha256"])
        if end := trial.user_attrs.get("level1"):
            seen.append((own["drop"], end["drop"]))
            front.append((end["drop"], own["flops_share"]))
    assert len(front) > 3


def test_what_was_cut_before_is_not_cut_again(root: Path) -> None:
    go(root, 8, "search.candidates=2", "search.space={prune.rounds.0.neuron: {choices: [0.3, 0.4, 0.5, 0.6]}}")
    before: set[str] = set()
    for trial in done(root):
        drafts = {draft["figures"]["sha256"] for draft in trial.user_attrs.get("drafts", [])}
        own = trial.user_attrs["level0"]["sha256"]
        assert own not in before or drafts <= before
        before.add(own)
    assert len(before) > 2


def volume(losses: list[tuple[float, float]], corner: tuple[float, float]) -> float:
    inside = [one for one in losses if one[0] < corner[0] and one[1] < corner[1]]
    return float(compute_hypervolume(np.array(inside), np.array(corner))) if inside else 0.0


def test_what_a_killed_worker_left_is_no_hindrance(root: Path) -> None:
    left = root / ".secateur/search/quickstart/trials/0001"
    for name in ("level0/models", "draft0", "draft9/params"):
        (left / name).mkdir(parents=True)
    (left / "level0/models/part").touch()
    go(root, 2)
    assert len(done(root)) == 2
    assert not list(left.glob("draft*"))
    assert not (left / "level0/models/part").exists()


@pytest.mark.parametrize("settings", [["search.levels=[0]"], ["search.sampler=random"], ["search.levels=[0.25, 1]"]])
def test_elsewhere_a_trial_is_its_only_draft(root: Path, settings: list[str]) -> None:
    go(root, 3, *settings)
    assert not any("drafts" in trial.user_attrs for trial in done(root))


@pytest.mark.parametrize(
    ("space", "expected"),
    [
        ("{prune.rounds.0.neuron: {low: 0.1, high: 0.9}}", True),
        ("{score.criterion: {choices: [taylor, random]}, finetune.alpha: {low: 0, high: 1}}", True),
        ("{finetune.alpha: {low: 0, high: 1}}", False),  # all drafts would be one
        ("{score.penalty: {low: 1, high: 10}}", False),  # each would have a training of its own before it
    ],
)
def test_drafts_are_drawn_where_each_takes_seconds(root: Path, space: str, expected: bool) -> None:
    recipe = begun(root, None, [*SETTINGS, f"search.space={space}"], None)[0]
    assert cheap(recipe) is expected
