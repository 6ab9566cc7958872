"""Removal of vocabulary rows: embedding, output layer and every token id that the config names."""

import copy
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from tasks.core.errors import UserError
from tasks.modeling.checkpoint import pruned_class
from tasks.text.vocabulary import read_vocabulary

ENDINGS = ("_token_id", "_token_ids", "_token_index")
LISTS = ("suppress_tokens", "begin_suppress_tokens", "bad_words_ids", "force_words_ids")


def rows(model: PreTrainedModel) -> int:
    """Rows of the input embedding.

    Raises:
        UserError: there is no single one whose size is `config.vocab_size`.
    """
    embedding = model.get_input_embeddings()
    size = getattr(model.config, "vocab_size", None)
    if not isinstance(embedding, torch.nn.Embedding) or embedding.weight.shape[0] != size:
        raise UserError(
            f"{type(model).__name__}: its input embedding is not one table of config.vocab_size ({size}) rows; "
            "vocabulary can be pruned of models with such a table: leave the vocabulary out of what is pruned"
        )
    return int(size)


def named_tokens(model: PreTrainedModel) -> set[int]:
    """Ids that have to stay whatever the data is: those in config and generation_config.

    Where another embedding than that of the tokens is padded (positions in RoBERTa count from the id of the padding
    up), that id must not move, so every id below it stays too.

    Raises:
        UserError: generation_config holds a `sequence_bias`, which names tokens by sequences.
    """
    generation = getattr(model, "generation_config", None)
    if getattr(generation, "sequence_bias", None):
        raise UserError(
            "generation_config.sequence_bias: cannot follow a smaller vocabulary; remove it and set it anew"
        )
    size = rows(model)
    named = {token for config in (model.config, generation) for _, value in _entries(config) for token in _flat(value)}
    words = model.get_input_embeddings()
    for module in model.modules():
        if isinstance(module, torch.nn.Embedding) and module is not words and module.padding_idx is not None:
            named |= set(range(module.padding_idx + 1))
    return {token for token in named if 0 <= token < size}


def select_tokens(model: PreTrainedModel, kept: Sequence[int]) -> PreTrainedModel:
    """A new model whose token i is token `kept[i]` of `model`; `model` is left as it is.

    Whatever changes its shape with `config.vocab_size` (input and output embedding, tied or not, biases of the output)
    loses the same rows; nothing else changes. So hidden states, and the logits of what is kept, are those of before.

    Args:
        model: any Transformers model with one table of token embeddings, pruned or not.
        kept: ids, ascending; `named_tokens(model)` among them.

    Raises:
        ValueError: `kept` is not ascending, not within the vocabulary or lacks a named token.
        UserError: a parameter does not follow `config.vocab_size`.
    """
    size = rows(model)
    if list(kept) != sorted(set(kept)) or not kept or kept[0] < 0 or kept[-1] >= size:
        raise ValueError(f"kept ids must be ascending and from 0 to {size - 1}")
    if lost := named_tokens(model) - set(kept):
        raise ValueError(f"config or generation_config names the removed tokens {sorted(lost)[:5]}")
    mapping = {old: new for new, old in enumerate(kept)}
    config = copy.deepcopy(model.config)
    config.vocab_size = len(kept)
    _renumber(config, mapping)
    if getattr(config, "pruned", None):
        _follow(model, config.pruned, size, len(kept))
    base = next(c for c in type(model).__mro__ if c.__module__.startswith("transformers.models."))
    smaller = (pruned_class(base) if getattr(config, "pruned", None) else base)(config)
    smaller.tie_weights()
    smaller.to(model.device)
    index = torch.tensor(kept, device=model.device)
    wanted = smaller.state_dict()
    state = {
        name: _select(name, tensor, wanted[name].shape, index, size) for name, tensor in model.state_dict().items()
    }
    for name, parameter in smaller.named_parameters():  # buffers such as rotary frequencies keep their own precision
        parameter.data = parameter.data.to(state[name].dtype)
    smaller.load_state_dict(state, strict=True)
    if (generation := getattr(model, "generation_config", None)) is not None:
        smaller.generation_config = copy.deepcopy(generation)
        _renumber(smaller.generation_config, mapping)
    return smaller.train(model.training)


def as_read_by(model: PreTrainedModel, directory: Path) -> PreTrainedModel:
    """The dense model, or an early state of it, as a reader of the rows of the checkpoint in `directory`.

    If that one's vocabulary was pruned, the model loses the same tokens: its layers give what they gave, and its
    distribution over the next token is its own, renormalised over the tokens that stay.
    """
    vocabulary = read_vocabulary(directory)
    return model if vocabulary is None else select_tokens(model, vocabulary.kept)


def _select(name: str, tensor: torch.Tensor, wanted: torch.Size, index: torch.Tensor, size: int) -> torch.Tensor:
    for axis, (before, after) in enumerate(zip(tensor.shape, wanted, strict=True)):
        if before != after:
            if (before, after) != (size, len(index)):
                raise UserError(
                    f"{name}: has {before} rows where the vocabulary has {size}; cannot prune its vocabulary"
                )
            tensor = tensor.index_select(axis, index)
    return tensor


def _follow(model: PreTrainedModel, pruned: dict[str, Any], before: int, after: int) -> None:
    """Sets the sizes of the vocabulary in the true shapes that `pruned` states, in place."""
    layers = [layer for layer in (model.get_input_embeddings(), model.get_output_embeddings()) if layer is not None]
    tables = [parameter for layer in layers for parameter in layer.parameters()]
    for name, parameter in model.named_parameters(remove_duplicate=False):
        shape = pruned["shapes"].get(name)
        if shape and shape[0] == before and any(parameter is table for table in tables):
            pruned["shapes"][name] = [after, *shape[1:]]
    for name, module in model.named_modules():
        attributes = pruned["attributes"].get(name, {})
        for attribute in ("num_embeddings", "out_features"):
            if attributes.get(attribute) == before and any(module is layer for layer in layers):
                attributes[attribute] = after


def _entries(config: Any) -> Iterator[tuple[str, Any]]:
    for name, value in (config.to_dict() if config is not None else {}).items():
        if (name.endswith(ENDINGS) or name in LISTS) and value is not None:
            yield name, value


def _flat(value: Any) -> Iterator[int]:
    if isinstance(value, int):
        yield value
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _flat(part)


def _renumber(config: Any, mapping: dict[int, int]) -> None:
    def new(value: Any) -> Any:
        if isinstance(value, list | tuple):
            return [new(part) for part in value]
        return mapping.get(value, value)

    for name, value in _entries(config):
        setattr(config, name, new(value))
