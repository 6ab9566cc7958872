"""`secateur predict`: what goes in comes out answered, in order, window by window."""

import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from flows.predict import predict, stream
from tasks.core.errors import UserError
from tasks.recipe.load import resolve
from tasks.report.card import loading
from tasks.text.tokenizers_from_text import train
from tests.flows.conftest import REPOSITORY
from tests.flows.tiny import BAD, GOOD, PLAIN, make_model
from tests.tasks.report.card_code import run

LINES = 10_000
AHEAD = 64
CAUSAL = [
    "task={type: generation, metric: log_likelihood, doc_stride: 16}",
    "data.labels=null",
    "quantize.models=[]",
    "evaluate={prompts: 0, new_tokens: 5}",
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("predict") / "model"
    make_model(directory)
    return directory


def texts(count: int) -> list[str]:
    choose = random.Random(0)  # noqa: S311
    words = [*GOOD, *BAD, *PLAIN]
    return [" ".join(choose.choices(words, k=choose.randint(1, 20))) + f" {i}" for i in range(count)]


def test_ten_thousand_lines_through_a_pipe(model: Path) -> None:
    """The first answers are there before the last lines are given; all are as when asked one by one."""
    given = texts(LINES)
    command = [
        sys.executable,
        "-c",
        "from flows.cli import main; main()",
        "predict",
        str(model),
        "--window",
        str(AHEAD),
    ]
    process = subprocess.Popen(
        command, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdin
    assert process.stdout
    process.stdin.write("".join(f"{line}\n\n" for line in given[:AHEAD]))
    process.stdin.flush()
    found = [process.stdout.readline() for _ in range(AHEAD)]
    rest, errors = process.communicate("\n".join(given[AHEAD:]))
    assert process.returncode == 0, errors
    rows = [line.split("\t") for line in [*(line.rstrip("\n") for line in found), *rest.splitlines()]]
    assert [row[2] for row in rows] == given
    tokenizer = AutoTokenizer.from_pretrained(model)
    alone = AutoModelForSequenceClassification.from_pretrained(model).eval()
    for number in range(0, LINES, 50):
        with torch.inference_mode():
            shares = alone(**tokenizer(given[number], truncation=True, max_length=32, return_tensors="pt")).logits[0]
        label, share = rows[number][:2]
        assert label == f"LABEL_{int(shares.argmax())}"
        assert float(share) == pytest.approx(float(shares.softmax(-1).max()), abs=1e-4)


def test_no_more_than_a_window_is_read_ahead() -> None:
    read: list[int] = []

    def endless() -> Any:
        while True:
            read.append(len(read) + 1)
            yield str(len(read))

    found = stream(endless(), lambda lines, first: [(line, str(first)) for line in lines], 7)
    for window in range(5):
        lines = next(found)
        assert lines == [(str(7 * window + i), str(7 * window + 1)) for i in range(1, 8)]
        assert len(read) == 7 * (window + 1)


def test_batches_hold_texts_of_like_length(
    model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a window no batch is padded by more than if its texts had been sorted."""
    import tasks.modeling.inference as inference

    shapes = []

    def forward(opened: Any) -> Any:
        def run(batch: Any) -> Any:
            shapes.append(batch["attention_mask"].sum(1))
            return np.zeros((len(batch["input_ids"]), 2), np.float32)

        return run

    monkeypatch.setattr(inference, "forward", forward)
    predict(str(model), texts(50), batch_size=8)
    lengths = np.sort(np.concatenate(shapes))
    assert [len(shape) for shape in shapes] == [8] * 6 + [2]
    assert np.concatenate(shapes).tolist() == lengths.tolist()
    assert len(capsys.readouterr().out.splitlines()) == 50


def test_nothing_to_answer(model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n  \n")
    with (tmp_path / "empty").open() as empty:
        monkeypatch.setattr("sys.stdin", empty)
        with pytest.raises(UserError, match="no text"):
            predict(str(model), [])
    with pytest.raises(UserError, match=r"no config\.json"):
        predict(str(tmp_path), ["a film"])


def test_a_reader_that_has_enough() -> None:
    """`predict … | head -1` ends without a word."""
    code = "from flows.cli import ends\nwith ends():\n    for line in range(99999): print(line)"
    command = f"set -o pipefail; {sys.executable} -c '{code}' | head -1"
    done = subprocess.run(["bash", "-c", command], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr, done.returncode) == ("0\n", "", 141)


def test_causal_models_go_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Against transformers' own greedy search, one prompt at a time; a long text counts by its end."""
    from transformers import GPT2Config, GPT2LMHeadModel

    tokenizer = train(["one two three four\nfive six seven\t eight nine ten"] * 3, 300, tmp_path)
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(tokenizer), n_positions=24, n_embd=32, n_layer=2, n_head=4,
        bos_token_id=tokenizer.eos_token_id, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    made = GPT2LMHeadModel(config)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    made.save_pretrained(tmp_path)
    asked = ["one two", "five six seven eight nine ten one two three four five six seven", "ten"]
    predict(str(tmp_path), asked, new_tokens=5)
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [line[1] for line in lines] == asked
    official = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    for (said, _), text in zip(lines, asked, strict=True):
        ids = tokenizer(text, add_special_tokens=False)["input_ids"][-18:]
        prompt = torch.tensor([[tokenizer.eos_token_id, *ids]])
        with torch.inference_mode():
            tokens = official.generate(
                prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=5, do_sample=False,
                pad_token_id=tokenizer.eos_token_id,
            )  # fmt: skip
        expected = tokenizer.decode(tokens[0, prompt.shape[1] :], skip_special_tokens=True)
        assert said == expected.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")
    (printed,) = run(loading(resolve(None, CAUSAL), graph=False), tmp_path, **{"A first text": asked[0]})
    assert "\\n".join(printed) == lines[0][0]
