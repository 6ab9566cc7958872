"""Tokenizers of fewer tokens: the files of one, with every id rewritten."""

import copy
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from tasks.core.errors import UserError
from tasks.core.files import write_json
from tasks.prune.closure import merge_pair
from tasks.text.vocabulary import BESIDE, CONFIG, DOCUMENT


def load(directory: Path) -> PreTrainedTokenizerBase:
    """The tokenizer in `directory`, without padding and truncation; no code of it is run, no network asked.

    Raises:
        UserError: none that can be loaded, or one without a tokenizer.json form.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(directory, trust_remote_code=False, local_files_only=True)
    except Exception as error:  # the tokenizers library raises nothing narrower
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"{directory}: its tokenizer cannot be loaded ({reason}); fetch or save it again") from None
    if not tokenizer.is_fast:
        raise UserError(
            f"{directory}: {type(tokenizer).__name__} is not one of the tokenizers library; vocabulary can be pruned "
            f"of those that have a {DOCUMENT}: convert it, or leave the vocabulary out of what is pruned"
        )
    tokenizer.backend_tokenizer.no_padding()
    tokenizer.backend_tokenizer.no_truncation()
    return tokenizer


def document(directory: Path, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """The tokenizer.json in `directory` in its present form, or that of `tokenizer` where there is none."""
    file = directory / DOCUMENT
    backend = Tokenizer.from_file(str(file)) if file.is_file() else tokenizer.backend_tokenizer
    return dict(json.loads(backend.to_str()))


def rewrite(before: Mapping[str, Any], mapping: Mapping[int, int]) -> dict[str, Any]:
    """A tokenizer.json with the tokens of `mapping` (old id to new) alone.

    Normaliser, pre-tokenizer and decoder stay. A merge stays if both sides and what it makes do.
    """
    after = copy.deepcopy(dict(before))
    model = after["model"]
    if isinstance(model["vocab"], dict):
        kept = [(mapping[i], token) for token, i in model["vocab"].items() if i in mapping]
        model["vocab"] = {token: i for i, token in sorted(kept)}
    else:
        model["vocab"] = [entry for i, entry in enumerate(model["vocab"]) if i in mapping]
    if "merges" in model:
        pairs = [merge_pair(merge) for merge in model["merges"]]
        model["merges"] = [[a, b] for a, b in pairs if {a, b, a + b} <= model["vocab"].keys()]
    if model.get("unk_id") is not None:
        model["unk_id"] = mapping[model["unk_id"]]
    for token in after["added_tokens"]:
        token["id"] = mapping[token["id"]]
    if after.get("padding"):
        after["padding"]["pad_id"] = mapping[after["padding"]["pad_id"]]
    if after.get("post_processor"):
        _renumber(after["post_processor"], mapping)
    return after


def write(directory: Path, rewritten: Mapping[str, Any], mapping: Mapping[int, int], out: Path) -> None:
    """Writes `rewritten` to `out`, and what lies beside the tokenizer.json in `directory`, with the new ids.

    Files that hold the whole vocabulary once more (vocab.txt, merges.txt, spiece.model …) are left out.
    """
    (out / DOCUMENT).write_text(json.dumps(rewritten, ensure_ascii=False), encoding="utf-8")
    for name in BESIDE:
        if (directory / name).is_dir():
            shutil.copytree(directory / name, out / name, dirs_exist_ok=True)
        elif (directory / name).is_file():
            shutil.copyfile(directory / name, out / name)
    if (directory / CONFIG).is_file():
        config = json.loads((directory / CONFIG).read_text(encoding="utf-8"))
        for key, value in config.items():
            if isinstance(value, int) and (key == "unk_id" or key.endswith("_token_id")):
                config[key] = mapping.get(value, value)
        if "added_tokens_decoder" in config:
            added = config["added_tokens_decoder"].items()
            config["added_tokens_decoder"] = {str(mapping.get(int(i), int(i))): token for i, token in added}
        write_json(out / CONFIG, config)


def _renumber(processor: Any, mapping: Mapping[int, int]) -> None:
    """Sets the ids in a post-processor: `[token, id]` of BERT's and RoBERTa's, `ids` of a template."""
    for part in processor.get("processors", []):
        _renumber(part, mapping)
    for side in ("sep", "cls"):
        if side in processor:
            processor[side][1] = mapping[processor[side][1]]
    special = processor.get("special_tokens") or {}
    for token in special.values():
        token["ids"] = [mapping[i] for i in token["ids"]]
