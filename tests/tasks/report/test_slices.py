"""The slices of a search: what is drawn of it, and against what."""

from pathlib import Path
from typing import Any

import pytest

from tasks.report.slices import numeric, slices

SHARES = {"quality": "quality", "size": "parameters_share"}


def facts(settings: list[dict[str, Any]]) -> dict[str, Any]:
    """A search whose trials had these settings."""
    figures = [{"quality": 0.8 - 0.1 * n, "parameters_share": 0.9 - 0.2 * n} for n in range(len(settings))]
    trials = [
        {"number": n, "settings": one, "level": 1.0, "figures": figures[n]} for n, one in enumerate(reversed(settings))
    ]
    space = sorted({key for one in settings for key in one})
    return {"objectives": list(SHARES), "levels": [0.0, 1.0], "space": space, "log": [], "front": [0], "trials": trials}


def test_settings_that_are_numbers_and_differ_are_drawn() -> None:
    found = facts([{"a": 1, "b": "x", "c": 0.5, "d": True}, {"a": 2, "b": "y", "c": 0.5, "d": False, "e": 3}])
    assert numeric(found) == ["a"]


def test_a_trial_whose_setting_is_null_is_left_out(tmp_path: Path) -> None:
    found = facts([{"a": 1}, {"a": None}, {"a": 2}])
    assert numeric(found) == ["a"]
    slices(found, SHARES, {"quality": "accuracy", "size": "share"}, tmp_path)
    assert (tmp_path / "slices.png").is_file()


@pytest.mark.parametrize("second", [{}, {"b": 7}])
def test_one_setting_alone_is_a_curve(second: dict[str, Any], tmp_path: Path) -> None:
    found = facts([{"score.penalty": value, **second} for value in (0.1, 0.3, 1.0)])
    svg = slices(found | {"log": ["score.penalty"]}, SHARES, {"quality": "accuracy", "size": "share"}, tmp_path)
    assert (tmp_path / "slices.png").read_bytes().startswith(b"\x89PNG")
    assert {"score.penalty", "accuracy", "share"} <= {word.strip() for word in svg.replace("<", ">").split(">")}
    lines = [line for line in svg.splitlines() if "stroke-linecap" in line and "--pruned" in line]
    assert len(lines) == (0 if second else len(SHARES))
