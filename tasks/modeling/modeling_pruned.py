"""Unevenly pruned Transformers models: each layer gets the size its config states.

A copy of this file lies beside the weights of every pruned checkpoint, so that
`AutoModelFor….from_pretrained(directory, trust_remote_code=True)` works without Secateur.
It needs only torch and transformers. `config.pruned` holds
    shapes      {parameter: true shape}, for every parameter that is narrower than the architecture's
    attributes  {module: {attribute: value}}, the plain numbers that follow from them
    absent      {module: null, or the layer of an attention}, the modules that were left out
"""

import torch


class Absent(torch.nn.Module):
    """Adds nothing to the residual, in the place of an FFN or an attention that was left out.

    An attention returns a pair, and keeps its layer's place in the key-value cache, which counts positions by it.
    """

    def __init__(self, layer_idx):
        super().__init__()
        self.layer_idx = layer_idx

    def forward(self, hidden_states, *_, past_key_values=None, **__):
        """Zeros of the same shape."""
        nothing = torch.zeros_like(hidden_states)
        if self.layer_idx is None:
            return nothing
        if past_key_values is not None:
            place = nothing[:, None, :, :1]
            past_key_values.update(place, place, self.layer_idx)
        return nothing, None


def narrow(model: torch.nn.Module, pruned: dict) -> None:
    """Replaces the listed parameters of a freshly built `model` by uninitialised ones of their true shape."""
    for name, layer_idx in pruned.get("absent", {}).items():
        path, _, attribute = name.rpartition(".")
        setattr(model.get_submodule(path), attribute, Absent(layer_idx))
    for name, shape in pruned["shapes"].items():
        path, _, attribute = name.rpartition(".")
        module = model.get_submodule(path)
        old = getattr(module, attribute)
        setattr(module, attribute, torch.nn.Parameter(old.new_empty(shape), requires_grad=old.requires_grad))
        if attribute == "weight":
            if isinstance(module, torch.nn.Linear):
                module.out_features, module.in_features = shape
            elif isinstance(module, torch.nn.Embedding):
                module.num_embeddings, module.embedding_dim = shape
            elif isinstance(module, torch.nn.LayerNorm):
                module.normalized_shape = tuple(shape)
            elif hasattr(module, "nf"):  # Conv1D
                module.nx, module.nf = shape
    for path, attributes in pruned["attributes"].items():
        for attribute, value in attributes.items():
            setattr(model.get_submodule(path), attribute, value)


class Pruned:
    """Mixed into a Transformers model class: builds the architecture, then narrows it to `config.pruned`."""

    def __init__(self, config, *args, **kwargs):
        super().__init__(config, *args, **kwargs)
        narrow(self, config.pruned)
        self.tie_weights()
