"""What a stage may take, and when it is run again."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.core.errors import EnvironmentFault, PassingFault
from tasks.recipe.load import dump, resolve
from tests.flows.conftest import calls, hashes, pipeline
from tests.flows.test_failures import run_alone

Order = Callable[[Path, str, str], None]
AT_ONCE = "limits.wait=0"


@pytest.mark.parametrize(
    ("word", "setting", "says"),
    [
        ("hang", "limits.stages={report: {minutes: 0.05}}", r"took longer than 0\.05 minutes, which limits\.minutes"),
        ("eat", "limits.memory_gb=0.4", r"used 0\.\d+ GB of memory, limits\.memory_gb allows 0\.4; "),
    ],
)
def test_a_stage_that_takes_too_much_is_ended(
    workspace: Path, order: Order, word: str, setting: str, says: str
) -> None:
    order(workspace, "report", word)
    (workspace / "params/pipeline.yaml").write_text(dump(resolve(None, [setting])))
    with pytest.raises(EnvironmentFault) as caught:
        run_alone(workspace, "report")
    assert re.match(rf"report {says}.*limits\.stages\.report\..*; resume with: secateur run", str(caught.value))
    assert not isinstance(caught.value, PassingFault)
    assert not Path("/proc", (workspace / "orders/hanging").read_text()).exists()


def test_a_stage_that_was_killed_is_run_again(workspace: Path, order: Order) -> None:
    order(workspace, "distill", "killed once")
    before = hashes(workspace)
    assert pipeline(workspace, AT_ONCE, force=("distill",))
    assert calls(workspace) == ["distill"]
    assert hashes(workspace) == before


@pytest.mark.parametrize(("word", "tries"), [("full", 2), ("bug", 1)])
def test_only_a_fault_of_the_machine_is_tried_again(
    workspace: Path, order: Order, word: str, tries: int, capfd: pytest.CaptureFixture[str]
) -> None:
    order(workspace, "report", word)
    with pytest.raises(EnvironmentFault):
        pipeline(workspace, AT_ONCE, force=("report",))
    assert capfd.readouterr().out.count("once more in 0 s") == tries - 1


def test_a_stages_own_limits_come_first() -> None:
    limits = resolve(None, ["limits.minutes=60", "limits.stages={train: {minutes: 240, retries: 0}}"]).limits
    assert (limits.of("train").minutes, limits.of("train").retries) == (240, 0)
    assert (limits.of("prune@r1").minutes, limits.of("prune@r1").retries) == (60, 1)
