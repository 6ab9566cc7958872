"""A short training of a small model with extras, and an XLNet, whose attention is raw parameters."""

import torch
from tiny import CONFIGS, VOCABULARY, build, rows
from transformers import XLNetConfig

from tasks.families import family_of
from tasks.families.anatomy import Attention, Family, Kind, neurons
from tasks.recipe.load import resolve
from tasks.text.metrics import METRICS
from tasks.training.loop import fit
from tasks.training.loss import supervised

KINDS = ("head", "neuron")
SETTINGS = resolve(None, []).train.model_copy(
    update={"epochs": 2, "batch_size": 8, "learning_rate": 1e-3, "precision": "fp32", "checkpoint_steps": 3}
)
RAW = [(f"rel_attn.{name}", 1) for name in ("q", "k", "v", "r", "seg_embed")]
XLNET = Family(
    model_type="xlnet",
    layers="transformer.layer",
    depth="n_layer",
    attention=Attention("rel_attn", "rel_attn.q", "rel_attn.k", "rel_attn.v"),
    kinds=(
        Kind(
            "head",
            (*RAW, *((f"rel_attn.{name}", 0) for name in ("r_w_bias", "r_r_bias", "r_s_bias")), ("rel_attn.o", 1)),
            block=lambda _: 1,
            counts=(("rel_attn", "n_head"),),
        ),
        neurons("ff.layer_1", "ff.layer_2"),
    ),
)
XLNET_CONFIG = XLNetConfig(
    vocab_size=VOCABULARY, d_model=32, n_layer=2, n_head=4, d_inner=48, dropout=0.0, summary_last_dropout=0.0,
    num_labels=3,
)  # fmt: skip


def know_xlnet(monkeypatch):
    monkeypatch.setitem(CONFIGS, "xlnet", XLNET_CONFIG)
    monkeypatch.setitem(family_of.__globals__["FAMILIES"], "xlnet", XLNET)


def run(scratch, extras=(), family="bert", model=None, **changes):
    model = model or build(family)
    settings = SETTINGS.model_copy(update=changes)
    scratch.mkdir(exist_ok=True)
    history = fit(model, rows(44), rows(20, seed=1), settings, supervised, METRICS["accuracy"], 0, scratch, extras)
    return model, history


def groups_of(model):
    return family_of(model.config.model_type).groups(model)


def weights(model):
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def prune_randomly(model, share, kinds=KINDS, seed=0):
    """Sets exactly `share` of each matrix of the units to zero; returns {tensor: mask of what lives}."""
    parameters = dict(model.named_parameters())
    generator = torch.Generator().manual_seed(seed)
    masks = {}
    for group in groups_of(model):
        for cut in group.cuts:
            weight = parameters[cut.tensor]
            if group.kind in kinds and weight.ndim > 1 and cut.tensor not in masks:
                order = torch.randperm(weight.numel(), generator=generator)
                mask = torch.ones(weight.numel(), dtype=torch.bool)
                mask[order[: round(share * weight.numel())]] = False
                masks[cut.tensor] = mask.view_as(weight)
                weight.data.mul_(masks[cut.tensor])
    return masks
