"""Figures as text, and the verdict."""

from typing import Any

import pytest

from tasks.recipe.budget import best, judge
from tasks.recipe.schema import Budget
from tasks.report.words import milliseconds, number, scaled, signed, verdict

LIMITS = {"max_drop": 0.02, "speedup_b1": None, "speedup_b32": None, "max_parameters": None, "max_flops": None}


def budget(**changes: float | None) -> Budget:
    return Budget(**{**LIMITS, **changes})


def model(**changes: Any) -> dict[str, Any]:
    facts = {
        "name": "r2",
        "drop": 0.01,
        "drop_low": 0.0,
        "drop_high": 0.018,
        "validation_drop": 0.01,
        "parameters_share": 0.6,
        "flops_share": 0.4,
    }
    return {**facts, "speedup_b1": 3.0, "speedup_b32": 2.0, **changes}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (number(None), "–"),
        (number(-0.0001), "0.000"),
        (number(-0.5, 1), "\u22120.5"),
        (signed(0.012), "+0.012"),
        (signed(0.0), "0.000"),
        (number(12345, 0), "12\u202f345"),
        (scaled(22_713_216), "22.7\u00a0M"),
        (scaled(999_999, "B"), "1.00\u00a0MB"),
        (scaled(12), "12.0"),
        (scaled(0, "B"), "0.00\u00a0B"),
        (milliseconds(1.234), "1.23"),
        (milliseconds(123.4), "123"),
    ],
)
def test_figures(text: str, expected: str) -> None:
    assert text == expected


def test_floating_point_does_not_break_a_limit() -> None:
    assert judge(budget(), model(drop=0.85 - 0.83))[0].met


def test_every_limit_is_judged_in_order() -> None:
    checks = judge(budget(speedup_b1=3, speedup_b32=2.5, max_parameters=0.6, max_flops=0.3), model())
    assert [(check.name, check.met) for check in checks] == [
        ("max_drop", True),
        ("speedup_b1", True),
        ("speedup_b32", False),
        ("max_parameters", True),
        ("max_flops", False),
    ]


def test_what_was_not_measured_is_not_met() -> None:
    assert not judge(budget(speedup_b1=1), model(speedup_b1=None))[1].met


def test_the_best_meets_everything_before_it_is_fast() -> None:
    limits = budget(speedup_b1=3, speedup_b32=1)
    models = {"balanced": model(speedup_b1=2.9, speedup_b32=2.9), "met": model(speedup_b1=3, speedup_b32=1.5)}
    assert best({name: judge(limits, facts) for name, facts in models.items()}, models) == "met"


def test_verdicts() -> None:
    limits = budget(speedup_b1=2)
    assert verdict(limits, "accuracy", model(), judge(limits, model())) == (
        "r2 is 3.0 times (batch 1) and 2.0 times (batch 32) as fast as dense, with 0.010 less accuracy "
        "(95 % interval 0.000 to 0.018). The budget is met."
    )
    doubtful = model(drop_high=0.03)
    assert verdict(limits, "accuracy", doubtful, judge(limits, doubtful)).endswith(
        "The budget is met, though a loss beyond 0.020 is not excluded."
    )
    slow = model(speedup_b1=1.5, drop=-0.01, drop_low=-0.02, drop_high=0.001)
    assert verdict(limits, "macro_f1", slow, judge(limits, slow)).endswith(
        "with 0.010 more macro f1 (95 % interval \u22120.001 to 0.020). "
        "The budget is missed: speed at batch 1 is 1.50 × (asked: at least 2.00 ×)."
    )
    assert "no model" in verdict(limits, "accuracy", None, [])
