"""A tokenizer trained on a text, for models that are trained from scratch."""

from collections.abc import Iterable
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from tasks.core.errors import UserError

EOS, PAD = "<|endoftext|>", "<|pad|>"
SMALLEST = 256 + len((EOS, PAD))


def train(texts: Iterable[str], size: int, out: Path) -> PreTrainedTokenizerFast:
    """Trains byte-pair merges over bytes (Sennrich et al., 2016; bytes as in GPT-2) and writes them to `out`.

    Any text can be encoded and comes back the same. The same texts and size give the same bytes.

    Args:
        texts: to learn merges from, in any pieces.
        size: most tokens; `SMALLEST` learns no merge: one token for each byte, which for ASCII is each character.
        out: directory; loads with `AutoTokenizer.from_pretrained`.

    Raises:
        UserError: `size` is below `SMALLEST`.
    """
    if size < SMALLEST:
        raise UserError(f"tokenizer size: {size}; at least {SMALLEST}: the 256 bytes, {EOS} and {PAD}")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=[EOS, PAD], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=EOS, bos_token=EOS, pad_token=PAD, clean_up_tokenization_spaces=False
    )
    fast.save_pretrained(out)
    return fast
