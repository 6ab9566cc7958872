"""Unevenly pruned Transformers models: each layer gets the size its config states.

A copy of this file lies beside the weights of every pruned checkpoint, so that
`AutoModelFor….from_pretrained(directory, trust_remote_code=True)` works without Secateur.
It needs only torch and transformers. `config.pruned` holds
    shapes      {parameter: true shape}, for every parameter that is narrower than the architecture's
    attributes  {module: {attribute: value}}, the plain numbers that follow from them
"""

import torch


def narrow(model: torch.nn.Module, pruned: dict) -> None:
    """Replaces the listed parameters of a freshly built `model` by uninitialised ones of their true shape."""
    for name, shape in pruned["shapes"].items():
        path, _, attribute = name.rpartition(".")
        module = model.get_submodule(path)
        old = getattr(module, attribute)
        setattr(module, attribute, torch.nn.Parameter(old.new_empty(shape), requires_grad=old.requires_grad))
        if attribute == "weight" and isinstance(module, torch.nn.Linear):
            module.out_features, module.in_features = shape
    for path, attributes in pruned["attributes"].items():
        for attribute, value in attributes.items():
            setattr(model.get_submodule(path), attribute, value)


class Pruned:
    """Mixed into a Transformers model class: builds the architecture, then narrows it to `config.pruned`."""

    def __init__(self, config, *args, **kwargs):
        super().__init__(config, *args, **kwargs)
        narrow(self, config.pruned)
