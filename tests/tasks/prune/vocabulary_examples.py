# ruff: noqa: S106
"""Small tokenizers of every kind, trained on the English text of the standard library, each with a random model."""

import json
from pydoc_data.topics import topics

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertTokenizer,
    GPT2Config,
    GPT2LMHeadModel,
    GPT2Tokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForSequenceClassification,
    RobertaTokenizer,
    XLNetConfig,
    XLNetForSequenceClassification,
    XLNetTokenizer,
)

from tasks.prune.closure import BYTES

LINES = [line.strip() for topic in sorted(topics) for line in topics[topic].splitlines() if len(line.strip()) > 20]
TEXTS = LINES[::40]
SIZE = 3000
ARGUMENTS = {"vocab_size": SIZE, "show_progress": False}
SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}


def wordpiece(directory):
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer.train_from_iterator(LINES, trainers.WordPieceTrainer(special_tokens=special, **ARGUMENTS))
    BertTokenizer(vocab=tokenizer.get_vocab()).save_pretrained(directory)
    return BertForSequenceClassification(BertConfig(vocab_size=SIZE, **SMALL))


def byte_level(special, size=SIZE):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        special_tokens=special, initial_alphabet=alphabet, vocab_size=size, show_progress=False
    )
    tokenizer.train_from_iterator(LINES, trainer)
    return tokenizer


def parts(tokenizer):
    model = json.loads(tokenizer.to_str())["model"]
    return {"vocab": model["vocab"], "merges": [tuple(merge) for merge in model["merges"]]}


def roberta(directory):
    RobertaTokenizer(**parts(byte_level(["<s>", "<pad>", "</s>", "<unk>", "<mask>"]))).save_pretrained(directory)
    return RobertaForSequenceClassification(RobertaConfig(vocab_size=SIZE, max_position_embeddings=600, **SMALL))


def gpt2(directory):
    """Its one special token is the last of the vocabulary; the embedding is padded to a multiple of 64."""
    plain = byte_level([])
    tokenizer = GPT2Tokenizer(**parts(plain))
    end = tokenizer.convert_tokens_to_ids("<|endoftext|>")
    assert end == SIZE
    tokenizer.save_pretrained(directory)
    return GPT2LMHeadModel(
        GPT2Config(vocab_size=3008, n_embd=16, n_layer=1, n_head=2, bos_token_id=end, eos_token_id=end)
    )


def qwen(directory):
    """Normalised, split by a pattern, with special and plain added tokens behind the vocabulary and a template."""
    tokenizer = byte_level([])
    split = pre_tokenizers.Split(Regex(r"\s?\w+|\s+|[^\s\w]+"), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(False, use_regex=False)])
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.add_special_tokens(["<|end|>", "<|start|>"])
    tokenizer.add_tokens([AddedToken("<think>", normalized=False)])
    tokenizer.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(
                single="<|start|> $A",
                pair="<|start|> $A <|end|> $B",
                special_tokens=[("<|end|>", SIZE), ("<|start|>", SIZE + 1)],
            ),
        ]
    )
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>", pad_token="<|end|>")
    fast.chat_template = "{% for m in messages %}<|start|>{{ m['content'] }}<|end|>{% endfor %}"
    fast.save_pretrained(directory)
    config = LlamaConfig(vocab_size=SIZE + 3, eos_token_id=SIZE, bos_token_id=SIZE + 1, pad_token_id=SIZE, **SMALL)
    return LlamaForCausalLM(config)


def unigram(texts, special):
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(special_tokens=special, unk_token="<unk>", **ARGUMENTS)
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def xlnet(directory):
    special = ["<unk>", "<s>", "</s>", "<cls>", "<sep>", "<pad>", "<mask>", "<eod>", "<eop>"]
    model = json.loads(unigram(LINES, special).to_str())["model"]
    tokenizer = XLNetTokenizer(vocab=[tuple(entry) for entry in model["vocab"]])
    tokenizer.save_pretrained(directory)
    size = len(model["vocab"])
    return XLNetForSequenceClassification(XLNetConfig(vocab_size=size, d_model=16, n_layer=1, n_head=2, d_inner=16))


def sentencepiece_bytes(directory):
    """Unigram that falls back to bytes, as those of SentencePiece for language models."""
    tokenizer = unigram(LINES, ["<pad>", "</s>", "<unk>", *BYTES])
    tokenizer.normalizer = None
    whole = json.loads(tokenizer.to_str())
    whole["model"]["byte_fallback"] = True
    tokenizer = Tokenizer.from_str(json.dumps(whole))
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace()])
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="</s>", pad_token="<pad>", unk_token="<unk>"
    ).save_pretrained(directory)
    config = LlamaConfig(vocab_size=len(whole["model"]["vocab"]), eos_token_id=1, bos_token_id=None, pad_token_id=0)
    config.update(SMALL)
    return LlamaForCausalLM(LlamaConfig(**config.to_dict() | {"num_key_value_heads": 2, "head_dim": 8}))


def llama_bytes(directory):
    """BPE over characters with bytes to fall back on, as Llama 2 and Gemma have."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.BpeTrainer(special_tokens=["<unk>", "<s>", "</s>", *BYTES], **ARGUMENTS)
    tokenizer.train_from_iterator(LINES, trainer)
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace()])
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(directory)
    return LlamaForCausalLM(LlamaConfig(vocab_size=SIZE, tie_word_embeddings=True, **SMALL))


BUILD = {f.__name__: f for f in (wordpiece, roberta, gpt2, qwen, xlnet, sentencepiece_bytes, llama_bytes)}
