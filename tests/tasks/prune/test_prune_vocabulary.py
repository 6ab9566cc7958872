# ruff: noqa: S106
"""Tokenizers of fewer tokens, made of real English text: the data reads and decodes as before, any text still does."""

import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models
from transformers import AutoModel, AutoTokenizer, BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast
from vocabulary_examples import BUILD, LINES, SMALL, TEXTS

from tasks.core.errors import EnvironmentFault, UserError
from tasks.prune.closure import Pieces
from tasks.prune.proof import prove
from tasks.prune.tokenizer import document, load
from tasks.prune.vocabulary import choose, prune_vocabulary
from tasks.recipe.load import resolve
from tasks.sources import cache_dir, fetch
from tasks.text.vocabulary import read_vocabulary

BYTE_LEVEL = ["roberta", "gpt2", "qwen"]


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """Each kind of tokenizer with its model, whole and pruned to the same texts, made once."""
    cache = {}

    def get(name):
        if name not in cache:
            torch.manual_seed(0)
            root = tmp_path_factory.mktemp(name)
            (root / "whole").mkdir()
            (root / "pruned").mkdir()
            model = BUILD[name](root / "whole").eval()
            model.config.save_pretrained(root / "whole")
            done = prune_vocabulary(model, root / "whole", TEXTS, root / "pruned")
            tokenizers = [AutoTokenizer.from_pretrained(root / part) for part in ("whole", "pruned")]
            cache[name] = (model, done, *tokenizers, root)
        return cache[name]

    return get


@pytest.fixture(params=sorted(BUILD))
def case(request, made):
    return made(request.param)


def test_the_data_reads_as_before(case):
    _, done, before, after, _ = case
    assert len(done.vocabulary.kept) < 0.75 * done.vocabulary.before
    assert done.proof.exact == len(TEXTS)
    assert done.proof.changed == 0
    mapping = done.vocabulary.mapping
    for text in TEXTS:
        old, new = before(text)["input_ids"], after(text)["input_ids"]
        assert after.convert_ids_to_tokens(new) == before.convert_ids_to_tokens(old)
        assert new == [mapping[token] for token in old]
        assert after.decode(new) == before.decode(old)
        assert after.decode(new, skip_special_tokens=True) == before.decode(old, skip_special_tokens=True)
    old, new = (t(TEXTS[0], TEXTS[1]) for t in (before, after))
    assert new["input_ids"] == [mapping[token] for token in old["input_ids"]]
    assert new.get("token_type_ids") == old.get("token_type_ids")
    assert max(after.get_vocab().values()) == len(after.get_vocab()) - 1 <= done.vocabulary.before


def test_special_tokens_keep_their_names(case):
    model, done, before, after, _ = case
    assert type(after) is type(before)
    assert after.special_tokens_map == before.special_tokens_map
    for name, token in before.special_tokens_map.items():
        if isinstance(token, str):
            assert after.convert_tokens_to_ids(token) == done.vocabulary.mapping[before.convert_tokens_to_ids(token)], (
                name
            )
    assert {str(t) for t in before.added_tokens_decoder.values()} == {
        str(t) for t in after.added_tokens_decoder.values()
    }
    for name in ("pad_token_id", "bos_token_id", "eos_token_id"):
        old, new = getattr(model.config, name), getattr(done.model.config, name)
        assert new == done.vocabulary.mapping.get(old, old)


def test_the_model_says_the_same_of_the_data(case):
    model, done, before, after, _ = case
    for text in TEXTS[::25]:
        with torch.no_grad():
            whole = model(**before(text, return_tensors="pt")).logits
            less = done.model(**after(text, return_tensors="pt")).logits
        if whole.shape[-1] == model.config.vocab_size:
            torch.testing.assert_close(less, whole[..., done.vocabulary.kept], rtol=1e-5, atol=1e-6)
        else:
            assert torch.equal(less, whole)


def test_what_is_written_loads(case):
    _, done, _, _, root = case
    again = type(done.model).from_pretrained(root / "pruned")
    for name, tensor in again.state_dict().items():
        assert torch.equal(tensor, done.model.state_dict()[name])
    assert read_vocabulary(root / "pruned") == done.vocabulary
    assert not any((root / "pruned" / name).exists() for name in ("vocab.txt", "vocab.json", "merges.txt"))
    assert done.vocabulary.renumber([done.vocabulary.kept[:3]])[0].tolist() == [0, 1, 2]
    lost = min(set(range(done.vocabulary.before)) - set(done.vocabulary.kept))
    with pytest.raises(UserError, match=f"token {lost} is no longer"):
        done.vocabulary.renumber([[lost]])


@pytest.mark.parametrize("name", BYTE_LEVEL)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(text="naïve café 東京 🦜 \u200b\x00 ﷽ e\u0301")
@given(text=st.text())
def test_byte_level_writes_any_text(made, name, text):
    _, _, before, after, _ = made(name)
    ids = after(text)["input_ids"]
    arguments = {"skip_special_tokens": True, "clean_up_tokenization_spaces": False}
    assert after.decode(ids, **arguments) == before.decode(before(text)["input_ids"], **arguments)
    if name != "qwen":  # which normalises
        special = {str(token) for token in after.added_tokens_decoder.values()}
        if not any(token in text for token in special):
            assert after.decode(ids, **arguments) == text


@pytest.mark.parametrize("name", ["sentencepiece_bytes", "llama_bytes"])
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(text="naïve café 東京 🦜")
@given(text=st.text(st.characters(exclude_categories=["Cs", "Z", "C"]), min_size=1))
def test_bytes_to_fall_back_on_write_any_text(made, name, text):
    _, _, before, after, _ = made(name)
    old, new = before(text)["input_ids"], after(text)["input_ids"]
    assert after.decode(new) == before.decode(old)
    assert after.unk_token_id not in new


@pytest.mark.parametrize("name", sorted(BUILD))
def test_other_text_is_not_unknown(made, name):
    """Every line of the corpus, of which the tokenizer was pruned to a fortieth."""
    _, _, before, after, _ = made(name)
    changed = 0
    for line in LINES[::3]:
        old, new = before(line)["input_ids"], after(line)["input_ids"]
        assert after.decode(new) == before.decode(old)
        if before.unk_token_id is not None:
            assert new.count(after.unk_token_id) <= old.count(before.unk_token_id)
        changed += before.convert_ids_to_tokens(old) != after.convert_ids_to_tokens(new)
    assert changed > 100  # else this shows nothing


def test_wordpiece_words_of_known_letters_are_known(made):
    _, _, before, after, _ = made("wordpiece")
    vocabulary = after.get_vocab()
    singles = {t for t in before.get_vocab() if len(t) == 1 or (len(t) == 3 and t.startswith("##"))}
    assert singles <= vocabulary.keys()
    words = ["zyxwvutsrq", "qqqq", "pseudonymously", "x_y", "kjhgfd"]
    for word in words:
        assert after.unk_token not in after.tokenize(word)


def test_closure_is_what_merging_passes_through():
    """`abc` is made by ab + c; `bc` is never passed, though it is a token."""
    vocabulary = {token: i for i, token in enumerate(["a", "b", "c", "ab", "bc", "abc", "z", "abcz", "lone!"])}
    merges = [["a", "b"], ["b", "c"], ["ab", "c"], ["a", "bc"]]
    pieces = Pieces({"model": {"type": "BPE", "vocab": vocabulary, "merges": merges}})
    assert pieces.needs(vocabulary["abc"]) == {vocabulary[t] for t in ("a", "b", "c", "ab", "abc")}
    assert pieces.needs(vocabulary["abcz"]) == {vocabulary["abcz"]}


def test_the_proof_names_what_must_come_back(made):
    _, done, before, after, _ = made("wordpiece")
    mapping = done.vocabulary.mapping
    text = next(line for line in LINES if not set(before(line)["input_ids"]) <= mapping.keys())
    row = before(text)["input_ids"]
    missing = set(row) - mapping.keys()
    proof = prove(before, after, mapping, [TEXTS[0], text], [row], set())
    assert (proof.exact, proof.changed, proof.lost) == (1, 0, missing)
    proof = prove(before, after, mapping, [TEXTS[0], text], [row], missing)
    assert (proof.exact, proof.changed, proof.lost) == (1, 2, set())


def test_the_proof_fails_of_another_reading(made):
    _, done, before, after, root = made("wordpiece")
    other = AutoTokenizer.from_pretrained(root / "pruned")
    other.backend_tokenizer.normalizer = None  # upper case is then unknown
    with pytest.raises(UserError, match="differently though it has all tokens"):
        prove(before, other, done.vocabulary.mapping, TEXTS, [], set())
    swapped = dict(zip(done.vocabulary.kept, reversed(range(len(done.vocabulary.kept))), strict=True))
    with pytest.raises(UserError, match="the rebuilt tokenizer has"):
        prove(before, after, swapped, TEXTS, [], set())


@pytest.mark.parametrize("name", ["roberta", "qwen", "llama_bytes"])
def test_closure_is_necessary(made, name):
    """The tokens alone, without what they are merged from, do not read the data as before."""
    _, done, before, _, root = made(name)
    pieces = Pieces(document(root / "whole", before))
    counts = Counter(token for text in TEXTS for token in before(text)["input_ids"])
    bare = set(counts) | pieces.base()
    assert bare < pieces.closure(bare) <= set(done.vocabulary.kept)


def test_a_minimum_count_lets_rare_tokens_become_smaller(made, tmp_path):
    """Texts with a token that went read as other tokens, and decode to the same text."""
    model, done, before, _, root = made("roberta")
    fewer = prune_vocabulary(model, root / "whole", TEXTS, tmp_path, min_count=4)
    assert len(fewer.vocabulary.kept) < len(done.vocabulary.kept)
    assert fewer.proof.changed > 0
    assert fewer.proof.changed + fewer.proof.exact == len(TEXTS)
    after = AutoTokenizer.from_pretrained(tmp_path)
    exact = 0
    for text in TEXTS:
        old, new = before(text)["input_ids"], after(text)["input_ids"]
        assert after.decode(new) == before.decode(old)
        exact += after.convert_ids_to_tokens(new) == before.convert_ids_to_tokens(old)
    assert exact == fewer.proof.exact
    record = json.loads((tmp_path / "vocabulary.json").read_text())
    assert record["removed_though_used"]


def test_a_size_is_kept_to(made, tmp_path):
    model, done, _, _, root = made("wordpiece")
    size = len(done.vocabulary.kept) - 200
    fewer = prune_vocabulary(model, root / "whole", TEXTS, tmp_path, size=size)
    assert len(fewer.vocabulary.kept) <= size
    assert fewer.model.config.vocab_size == len(AutoTokenizer.from_pretrained(tmp_path)) <= size
    with pytest.raises(UserError, match=r"vocabulary size 20: .* alone are \d+"):
        prune_vocabulary(model, root / "whole", TEXTS, tmp_path, size=20)


def test_token_rows_count_too(made, tmp_path):
    model, done, before, _, root = made("xlnet")
    rows = [np.array(before(text)["input_ids"]) for text in LINES[5::200]]
    more = prune_vocabulary(model, root / "whole", TEXTS, tmp_path, token_rows=rows)
    assert set(done.vocabulary.kept) < set(more.vocabulary.kept)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    renumbered = [row.tolist() for row in more.vocabulary.renumber(rows)]
    assert [tokenizer(text)["input_ids"] for text in LINES[5::200]] == renumbered


@settings(max_examples=60, deadline=None)
@given(
    counts=st.dictionaries(st.integers(0, 30), st.integers(1, 5)),
    always=st.sets(st.integers(0, 30), max_size=5),
    least=st.integers(1, 4),
    size=st.integers(5, 20),
)
def test_choice(counts, always, least, size):
    kept = choose(Counter(counts), always, lambda token: {token}, least, size)
    assert always <= kept
    assert len(kept) <= size
    wanted = {token for token, count in counts.items() if count >= least} | always
    assert kept <= wanted
    assert kept == wanted or len(kept) == size
    left = [counts[token] for token in wanted - kept]
    assert all(counts[token] >= max(left, default=0) for token in kept - always)


def test_refusals(made, tmp_path):
    model, _, _, _, root = made("wordpiece")
    with pytest.raises(UserError, match="no texts"):
        prune_vocabulary(model, root / "whole", [], tmp_path / "out")
    with pytest.raises(UserError, match="minimum count 0"):
        prune_vocabulary(model, root / "whole", TEXTS, tmp_path / "out", min_count=0)
    small = BertForSequenceClassification(BertConfig(vocab_size=50, **SMALL))
    with pytest.raises(UserError, match="the model has 50 tokens"):
        prune_vocabulary(small, root / "whole", TEXTS, tmp_path / "out")
    (tmp_path / "words").mkdir()
    words = Tokenizer(models.WordLevel({"<unk>": 0, "a": 1}, unk_token="<unk>"))
    PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>").save_pretrained(tmp_path / "words")
    with pytest.raises(UserError, match="WordLevel; vocabulary can be pruned of WordPiece, BPE, Unigram"):
        prune_vocabulary(model, tmp_path / "words", TEXTS, tmp_path / "out")
    with pytest.raises(UserError, match="cannot be loaded"):
        load(tmp_path)
    assert not (tmp_path / "out").exists()


def test_a_tokenizer_without_its_json_is_read_too(made, tmp_path):
    model, done, before, after, root = made("wordpiece")
    home = tmp_path / "home"
    shutil.copytree(root / "whole", home)
    (home / "tokenizer.json").unlink()
    tokens = sorted(before.get_vocab(), key=before.get_vocab().get)
    (home / "vocab.txt").write_text("\n".join(tokens) + "\n", encoding="utf-8")
    again = prune_vocabulary(model, home, TEXTS, tmp_path / "out")
    assert again.vocabulary == done.vocabulary
    assert AutoTokenizer.from_pretrained(tmp_path / "out")(TEXTS)["input_ids"] == after(TEXTS)["input_ids"]


@pytest.mark.long
def test_the_real_model(tmp_path):
    """MiniLM, its own tokenizer of 30 522 tokens."""
    try:
        home = fetch(resolve(None, []).model.source, cache_dir(), Path(), "model")
    except EnvironmentFault as fault:
        pytest.skip(f"MiniLM is not to be had here: {fault}")
    model = AutoModel.from_pretrained(home).eval()
    done = prune_vocabulary(model, home, TEXTS, tmp_path)
    assert done.proof.exact == len(TEXTS)
    before, after = AutoTokenizer.from_pretrained(home), AutoTokenizer.from_pretrained(tmp_path)
    for text in LINES[::7]:
        old, new = before(text)["input_ids"], after(text)["input_ids"]
        assert new.count(after.unk_token_id) <= old.count(before.unk_token_id)
    for text in TEXTS[::40]:
        with torch.no_grad():
            whole = model(**before(text, return_tensors="pt")).last_hidden_state
            less = done.model(**after(text, return_tensors="pt")).last_hidden_state
        assert torch.equal(whole, less)
    assert len(done.vocabulary.kept) < 8000
