"""A model in one GGUF file, as llama.cpp keeps it, to an ordinary checkpoint: weights in float32, config, tokenizer.

Quantized weights are expanded; what the quantization lost stays lost. Nothing in the file is run.
Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import copy
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.core.errors import UserError
from tasks.core.files import file_hash
from tasks.sources import store
from tasks.sources.uri import Request

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

SUFFIX = ".gguf"
MAGIC = b"GGUF"


def convert(request: Request, path: Path) -> Path:
    """The directory that `path` is converted to, kept in the cache under the sha256 of the file.

    Args:
        request: what was asked for; names it in messages and says where the cache is.
        path: a GGUF file.

    Raises:
        UserError: not a GGUF file, a damaged one, or an architecture that transformers cannot read from GGUF.
        EnvironmentFault: the cache cannot be written.
    """
    with path.open("rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            raise UserError(f"{request.name}: {path.name} is not a GGUF file (it does not begin with GGUF)")

    def fill(out: Path) -> None:
        try:
            model, tokenizer = _read(path)
        except OSError as error:
            if error.errno in store.FULL:
                raise
            raise _unreadable(request, path, error) from None
        except Exception as error:  # of three libraries' parsers, none of which promises a class
            raise _unreadable(request, path, error) from None
        model.save_pretrained(out)
        tokenizer.save_pretrained(out)

    return store.keep(request.cache / "gguf" / f"{path.stem}-{file_hash(path)[:16]}", fill)


def _read(path: Path) -> "tuple[PreTrainedModel, PreTrainedTokenizerFast]":
    import torch
    from gguf import GGUFReader
    from transformers import AutoModelForCausalLM, AutoTokenizer

    pre = GGUFReader(path).get_field("tokenizer.ggml.pre")
    tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    read = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
    # What was read refuses to be saved: it is marked as quantized, though its weights are expanded.
    config = copy.deepcopy(read.config)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    config.dtype = torch.float32
    model = type(read)(config)
    model.load_state_dict(read.state_dict())
    _complete(tokenizer, model, str(pre.contents()) if pre else "")
    return model, tokenizer


def _complete(tokenizer: "PreTrainedTokenizerFast", model: "PreTrainedModel", pre: str) -> None:
    """What transformers leaves out of the file's tokenizer: the special tokens, and how `smollm` splits digits."""
    from tokenizers import pre_tokenizers

    for name in ("bos", "eos", "unk", "pad"):
        number = getattr(model.config, f"{name}_token_id", None)
        if isinstance(number, int):
            setattr(tokenizer, f"{name}_token", tokenizer.convert_ids_to_tokens(number))
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.clean_up_tokenization_spaces = False  # it would take spaces out of what the model wrote
    if pre == "smollm":
        splits = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(splits)


def _unreadable(request: Request, path: Path, error: Exception) -> UserError:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
    return UserError(
        f"{request.name}: {path.name} cannot be converted ({reason}); give a whole GGUF file of an architecture that "
        "transformers reads from GGUF, or the model's safetensors"
    )
