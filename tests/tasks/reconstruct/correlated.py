"""Random layers whose inputs are correlated, as those of a trained model are."""

import numpy as np
import torch

from tasks.reconstruct.gram import Gram


def layer(seed, out=5, features=12, tokens=200, decay=2.0):
    """A weight matrix (out, features) and correlated inputs (tokens, features) with a mean, float64."""
    random = np.random.default_rng(seed)
    mixing = random.normal(size=(features, features)) * np.exp(-decay * np.arange(features) / features)[:, None]
    inputs = random.normal(size=(tokens, features)) @ mixing + random.normal(size=features)
    return torch.from_numpy(random.normal(size=(out, features))), torch.from_numpy(inputs)


def gram_of(inputs, wanted=None):
    """The sums over `inputs`, as float64, beside those over the outputs `wanted` where given."""
    gram = Gram.empty(inputs.shape[1], None if wanted is None else wanted.shape[1])
    gram.add(inputs, wanted)
    return gram


def lstsq(features, targets):
    """numpy's least-squares solution (in, out)."""
    return np.linalg.lstsq(np.asarray(features), np.asarray(targets), rcond=None)[0]
