"""What TPE learns from: what all drafts were worth, then what training recovered."""

from pathlib import Path

import numpy as np
import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState, create_trial

from flows.search.figures import REACHED, Figures
from flows.search.run import begun
from flows.search.sampler import cuts, most_recovered, recoveries, sampler
from tasks.recipe.schema import Recipe
from tests.flows.searching import SETTINGS, empty

RATIO = FloatDistribution(0.1, 0.9)
RATE = "finetune.learning_rate"


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recipe:
    settings = [*SETTINGS, "search.space={prune.rounds.0.neuron: {low: 0.1, high: 0.9}}", "search.levels=[0, 1]"]
    return begun(empty(tmp_path, monkeypatch), None, settings, None)[0]


def figures(drop: float, flops: float) -> Figures:
    return {"quality": 0.9 - drop, "drop": drop, "flops_share": flops, "parameters_share": flops}


def study_of(*trials: tuple[TrialState, list[Figures]]) -> optuna.Study:
    study = optuna.create_study(directions=["maximize", "minimize"])
    for number, (state, levels) in enumerate(trials):
        attributes = {f"level{at}": one for at, one in enumerate(levels)} | {REACHED: len(levels) - 1}
        values = [levels[-1]["quality"], levels[-1]["flops_share"]] if state == TrialState.COMPLETE else None
        study.add_trial(
            create_trial(
                state=state,
                params={"ratio": 0.2 + number / 10, RATE: 0.2 + number / 10},
                distributions={"ratio": RATIO, RATE: RATIO},
                values=values,  # type: ignore[arg-type]
                user_attrs=attributes,
            )
        )
    return study


def test_all_are_held_against_one_another_by_what_they_lose_in_the_end(recipe: Recipe) -> None:
    trained = [figures(0.2, 0.5), figures(0.05, 0.5)]
    study = study_of(
        (TrialState.COMPLETE, trained),
        (TrialState.COMPLETE, [figures(0.2, 0.4)]),
        (TrialState.RUNNING, [figures(0.6, 0.9)]),
        (TrialState.RUNNING, []),
        (TrialState.PRUNED, []),
    )
    known = cuts(study.get_trials(), recipe, study.directions).get_trials()
    assert [trial.params["ratio"] for trial in known] == pytest.approx([0.2, 0.3, 0.4, 0.6])
    assert [trial.values for trial in known[:3]] == [
        pytest.approx(one) for one in ([-0.05, 0.5], [-0.075, 0.4], [-0.225, 0.9])
    ]
    assert [trial.state for trial in known[2:]] == [TrialState.COMPLETE, TrialState.PRUNED]
    # 0.375 of what a draft loses is lost in the end: 0.05 of 0.2 was, and 0.1 of 0.2 is supposed; 0.1 may be lost.
    assert known[1].constraints == {"max_drop": pytest.approx(0.075 - 0.1), "max_flops": pytest.approx(0.4 - 0.8)}
    assert known[2].constraints == {"max_drop": pytest.approx(0.225 - 0.1), "max_flops": pytest.approx(0.9 - 0.8)}


def test_each_draft_of_a_trial_is_held_against_the_others(recipe: Recipe) -> None:
    study = study_of((TrialState.COMPLETE, [figures(0.2, 0.5)]))
    drafts = [{"params": {"ratio": ratio}, "figures": figures(ratio, 1 - ratio)} for ratio in (0.2, 0.3)]
    study.get_trials(deepcopy=False)[0].user_attrs["drafts"] = drafts
    known = cuts(study.get_trials(deepcopy=False), recipe, study.directions).get_trials()
    assert [trial.params["ratio"] for trial in known] == [0.2, 0.3]
    assert [trial.values for trial in known] == [pytest.approx(one) for one in ([-0.1, 0.8], [-0.15, 0.7])]


def test_training_is_held_against_what_was_foreseen_whatever_was_cut(recipe: Recipe) -> None:
    study = study_of(
        (TrialState.COMPLETE, [figures(0.2, 0.5), figures(0.1, 0.5)]),
        (TrialState.COMPLETE, [figures(0.08, 0.9), figures(0.06, 0.9)]),
        (TrialState.COMPLETE, [figures(0.4, 0.2), figures(0.15, 0.2)]),
        (TrialState.COMPLETE, [figures(0.1, 0.7)]),
    )
    known = recoveries(study.get_trials(), recipe).get_trials()
    assert [trial.params for trial in known] == [{RATE: pytest.approx(rate)} for rate in (0.2, 0.3, 0.4)]
    line = np.polyfit([0, 0.2, 0.2, 0.08, 0.4], [0, 0.1, 0.1, 0.06, 0.15], 1)
    assert [trial.value for trial in known] == pytest.approx([0.1, 0.06, 0.15] - np.polyval(line, [0.2, 0.08, 0.4]))


def test_tpe_looks_where_drafts_are_good_and_not_where_some_were_trained(recipe: Recipe) -> None:
    """Half of all drafts, with the smaller ratios, are better in all; one of the others was trained."""
    ways = [(TrialState.COMPLETE, [figures(0.08 + 0.01 * at, 0.4 + 0.02 * at)]) for at in range(7)]
    ways[6] = (TrialState.COMPLETE, [*ways[6][1], figures(0.07, 0.3)])
    study = study_of(*ways)
    tpe, drawn = sampler(recipe), []
    for number in range(7, 107):
        trial = create_trial(state=TrialState.WAITING, user_attrs={"ticket": True}, params={}, distributions={})
        trial.number = number
        tpe.before_trial(study, trial)
        assert tpe.infer_relative_search_space(study, trial) == {}
        drawn.append(tpe.sample_independent(study, trial, "ratio", RATIO))
    near = [min(range(7), key=lambda at: abs(one - 0.2 - at / 10)) for one in drawn]
    assert near.count(0) > 3 * near.count(6)


def test_all_but_every_third_trial_train_by_what_recovered_most(recipe: Recipe) -> None:
    ways = [(TrialState.COMPLETE, [figures(0.2, 0.5), figures(lost, 0.5)]) for lost in (0.1, 0.03, 0.15, 0.2)]
    for count in range(5):
        study, tpe = study_of(*ways[:count]), sampler(recipe)
        attributes = {"ticket": True, REACHED: 0}
        trial = create_trial(state=TrialState.WAITING, user_attrs=attributes, params={}, distributions={})
        trial.number = count
        tpe.before_trial(study, trial)
        best = {1: 0.2 + 0 / 10, 2: 0.2 + 1 / 10, 4: 0.2 + 1 / 10}.get(count)
        assert (tpe.sample_independent(study, trial, RATE, RATIO) == best) == (best is not None)


def test_settings_that_were_good_twice_are_trusted_more_than_the_lucky() -> None:
    rates = [(0.2, -0.02), (0.2, -0.02), (0.3, -0.025), (0.4, 0.065)]  # with 0 in the middle: -0.0133, -0.0125
    known = [create_trial(params={RATE: rate}, distributions={RATE: RATIO}, value=value) for rate, value in rates]
    assert most_recovered(known) == {RATE: 0.2}
    assert most_recovered([*known[1:3]]) == {RATE: 0.3}
