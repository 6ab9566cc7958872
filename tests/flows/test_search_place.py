"""Who measures times is alone on the machine, and comes before those who want to begin."""

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from flows.search import place


class Other(threading.Thread):
    """Holds something from `inside` until `leave`."""

    def __init__(self, holding: Callable[[], AbstractContextManager[None]]) -> None:
        super().__init__(daemon=True)
        self.holding, self.inside, self.leave = holding, threading.Event(), threading.Event()
        self.start()

    def run(self) -> None:
        with self.holding():
            self.inside.set()
            self.leave.wait(60)

    def ends(self) -> None:
        self.leave.set()
        self.join(60)


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(place, "_temporary", lambda name: tmp_path / f"{name}.lock")


def test_whoever_measures_waits_for_those_at_work_and_those_who_come_wait_for_it(temporary: None) -> None:
    first, second = Other(place.working), Other(place.working)
    assert first.inside.wait(60)
    assert second.inside.wait(60)
    clock = Other(place.timing)
    assert not clock.inside.wait(0.3)
    late = Other(place.working)
    first.ends()
    assert not clock.inside.wait(0.3)
    assert not late.inside.wait(0.3)  # although only one is at work
    second.ends()
    assert clock.inside.wait(60)
    assert not late.inside.wait(0.3)
    clock.ends()
    assert late.inside.wait(60)
    late.ends()


def test_with_gpus_nobody_waits_for_those_at_work(temporary: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(place, "has_gpu", lambda: True)
    work = Other(place.working)
    assert work.inside.wait(60)
    clock = Other(place.timing)
    assert clock.inside.wait(60)
    work.ends()
    clock.ends()
