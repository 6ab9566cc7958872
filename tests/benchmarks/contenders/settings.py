"""What is the same for every contender."""

from pathlib import Path

SEEDS = (0, 1, 2)
BATCH = 32
STEPS = 626
"""Optimiser steps after compression began: two epochs of the 9,997 training rows in batches of 32."""
DENSE_EPOCHS = (2, 3)
"""Of the dense model, with the quickstart's other settings; the better one on validation is taken."""
RATE = 1.0e-4
"""Learning rate of every recovery whose tool says nothing else; it is that of the dense model."""
THREADS = 2
RESULTS = Path(__file__).parents[1] / "results"
RECIPES = Path(__file__).parent / "recipes"


def home(steps: int) -> Path:
    """Where models of a budget of so many steps are kept."""
    return Path(".secateur/benchmarks") / ("contenders" if steps == STEPS else f"contenders-{steps}")


def prepared(steps: int) -> Path:
    """The prepared rows: all of them for the real budget."""
    return home(steps) / "prepared"


def results(steps: int) -> Path:
    """Where raw figures go: beside the code for the real budget, beside the models for any other."""
    return RESULTS if steps == STEPS else home(steps)
