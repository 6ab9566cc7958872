"""What a student starts from."""

import copy
from collections.abc import Sequence
from pathlib import Path

from transformers import AutoTokenizer, PreTrainedModel

from tasks.core.errors import UserError
from tasks.core.files import read_json
from tasks.families import family_of
from tasks.families.anatomy import LAYER
from tasks.modeling.checkpoint import check, load, read_config
from tasks.modeling.shrink import shrink
from tasks.text.registry import read_task


def shallower(model: PreTrainedModel, layers: Sequence[int] | None) -> PreTrainedModel:
    """A model of the same architecture with the given layers only (None: every second one, from the first).

    Of an ordinary model it is an ordinary one, whose config lists no more layers than it has.

    Raises:
        UserError: a layer that the model does not have.
    """
    depth = int(getattr(model.config, family_of(model.config.model_type).depth))
    chosen = range(0, depth, 2) if layers is None else layers
    if any(layer >= depth for layer in chosen):
        raise UserError(f"distill.layers: {list(chosen)}; the model has layers 0 to {depth - 1}")
    smaller = shrink(model, {LAYER: [[0] if layer in chosen else [] for layer in range(depth)]})
    if getattr(model.config, "pruned", None):
        return smaller
    config = copy.deepcopy(smaller.config)
    del config.pruned
    student = type(model)(config)
    student.load_state_dict(smaller.state_dict(), strict=True)
    return student.eval()


def other(source: Path, prepared: Path) -> PreTrainedModel:
    """The model in `source` with a new head for the prepared data; its family may be another than the teacher's.

    Raises:
        UserError: an unknown architecture, another tokenizer than that of the data, or too few positions.
    """
    check(source)
    config = read_config(source)
    family_of(config.model_type)
    name = f"distill.source ({source.name})"
    ours, its = (_tokens(directory, name) for directory in (prepared / "tokenizer", source))
    if ours != its:
        differing = min((token for token, _ in ours.items() ^ its.items()), key=str)
        raise UserError(
            f"{name}: its tokenizer has {len(its)} tokens, that of the data {len(ours)}, and {differing!r} is not the "
            f"same in both; a student must share its teacher's tokenizer: take one that does, or distill.source=null"
        )
    highest = max(ours.values())
    if config.vocab_size <= highest:
        raise UserError(f"{name}: its tokenizer has id {highest}, its config vocab_size {config.vocab_size}")
    longest, wanted = getattr(config, "max_position_embeddings", None), read_json(prepared / "data.json")["task"]
    if longest is not None and wanted["max_length"] > longest:
        raise UserError(f"{name}: takes {longest} tokens; task.max_length is {wanted['max_length']}")
    task = read_task(prepared)
    model = load(source, head=task)
    task.check(model)
    return model


def _tokens(directory: Path, name: str) -> dict[str, int]:
    """Ids of all tokens; no code of the directory is run."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(directory, trust_remote_code=False, local_files_only=True)
    except Exception as error:  # the tokenizers library raises nothing narrower
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"{name}: its tokenizer cannot be loaded ({reason}); put the tokenizer's files there") from None
    return dict(tokenizer.get_vocab())
