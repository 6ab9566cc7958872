"""What causal models write: the same prompts for each, and figures of the text they add."""

import random
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import AutoTokenizer, PreTrainedModel

from tasks.recipe.schema import Evaluate
from tasks.text.blocks import encode
from tasks.text.generate import Sampling, continuations
from tasks.text.generated import WORD, bleu, distinct, repetition, rouge
from tasks.text.vocabulary import read_vocabulary


def samples(
    models: Mapping[str, PreTrainedModel], directories: Mapping[str, Path], texts: list[str], tokenizer: Path,
    settings: Evaluate, seed: int,
) -> Any:  # fmt: skip
    """Greedy and sampled continuations by every model of the first tokens of some texts, and their quality.

    A prompt begins as the model's windows do, with the end-of-text token. Figures: BLEU and ROUGE against the text's
    own continuation of at most as many tokens, distinct-1 and -2 and the repetition of 4-grams, of words.

    Args:
        models: by name.
        directories: where they are; one whose vocabulary was pruned reads and writes with the tokenizer there.
        texts: of which those that are long enough for a prompt and its reference are drawn from.
        tokenizer: directory of that of the data.
        settings: how many prompts, their lengths, how tokens are drawn.
        seed: of the choice of texts and of the draws.

    Returns:
        `prompts` (number of the text, prompt, reference) and `models`: by name and way (`greedy`, `sampled`) the
        figures and the `texts`, one per prompt. No prompts where no text is long enough.
    """
    reader = _reader(tokenizer)
    start, new = settings.prompt_tokens, settings.new_tokens
    ids = encode(reader, texts, "prompts")
    long = [i for i, document in enumerate(ids) if len(document) >= start + new]
    chosen = sorted(random.Random(seed).sample(long, min(settings.prompts, len(long))))  # noqa: S311
    prompts: list[NDArray[np.int64]] = [np.concatenate([[reader.eos_token_id], ids[i][:start]]) for i in chosen]
    references = [reader.decode(ids[i][start : start + new]) for i in chosen]
    found: dict[str, Any] = {
        "prompts": [
            {"text": i, "prompt": reader.decode(ids[i][:start]), "reference": reference}
            for i, reference in zip(chosen, references, strict=True)
        ],
        "models": {},
    }
    ways = {"greedy": Sampling(new), "sampled": Sampling(new, settings.temperature, settings.top_p, seed)}
    for name, model in models.items() if chosen else ():
        vocabulary = read_vocabulary(directories[name])
        own = _reader(directories[name]) if vocabulary else reader
        given = vocabulary.renumber(prompts) if vocabulary else prompts
        special = {"pad": own.pad_token_id, "eos": own.eos_token_id}
        made = {way: continuations(model, given, sampling, **special) for way, sampling in ways.items()}
        found["models"][name] = {way: _figures([own.decode(t) for t in of], references) for way, of in made.items()}
    return found


def _reader(directory: Path) -> Any:
    return AutoTokenizer.from_pretrained(directory, trust_remote_code=False, local_files_only=True)


def _figures(texts: list[str], references: list[str]) -> dict[str, Any]:
    words = [WORD.findall(text.lower()) for text in texts]
    own = [[reference] for reference in references]
    score, signature = bleu(texts, own)
    return {
        "bleu": score,
        "bleu_signature": signature,
        **asdict(rouge(texts, own)),
        "distinct_1": distinct(words, 1),
        "distinct_2": distinct(words, 2),
        "repetition_4": repetition(words, 4),
        "texts": texts,
    }
