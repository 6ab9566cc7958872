"""Movement equals a naive sum over the steps of a training."""

import numpy as np
import pytest
import torch
from course import KINDS, groups_of, kinds_of, run, sliced

from tasks.training.extra import Extra
from tasks.training.movement import Movement


class Record(Extra):
    """Keeps every step's weights and gradients."""

    name = "record"

    def attach(self, model, parameters, groups):
        self.parameters, self.steps = parameters, []
        return []

    def gradients(self, step, steps):
        self.steps.append(
            {n: (p.detach().clone(), p.grad.clone()) for n, p in self.parameters.items() if p.grad is not None}
        )


@pytest.mark.parametrize("family", ["bert", "xlnet", "gpt2", "llama"])
def test_equals_the_naive_sum(tmp_path, family):
    kinds = kinds_of(family)
    movement, record = Movement(kinds, weights=True), Record()
    model, history = run(tmp_path / "a", [movement, record], family)
    assert len(record.steps) == 12
    naive = {}
    for step in record.steps:
        for name, (weight, gradient) in step.items():
            naive[name] = naive.get(name, 0) - weight.double().numpy() * gradient.double().numpy()
    scores = movement.scores()
    for group in groups_of(model, kinds):
        expected = [
            sum(piece.sum() for c in group.cuts if c.tensor in naive for piece in sliced(naive[c.tensor], c, unit))
            for unit in range(group.count)
        ]
        found = scores[f"{group.kind}.{group.layer}"]
        assert found.dtype == torch.float32
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)
    assert len(movement.weight_scores()) > 0
    for name, found in movement.weight_scores().items():  # XLNet's segments have no gradient without segments
        np.testing.assert_allclose(found, naive.get(name, np.zeros(found.shape)), rtol=1e-3, atol=1e-6)
    away = np.concatenate([value.numpy() for value in scores.values()]) > 0
    assert 0 < history.extras["movement"][-1]["away"] == pytest.approx(away.mean())


def test_memory_is_a_number_per_unit(tmp_path):
    movement = Movement(KINDS)
    run(tmp_path / "a", [movement], epochs=1)
    assert sum(tensor.numel() for tensor in movement.state().values()) == 3 * (4 + 48)
    assert movement.weight_scores() == {}
