"""What fills a batch says nothing: a row's logits are those that it has alone."""

import json
from dataclasses import replace

import numpy as np
from tiny import rows

from tasks.modeling.inference import forward
from tasks.text.data import Split, pads_left


def test_a_row_alone_has_the_logits_that_it_has_in_a_batch(model):
    split = replace(rows(8), pad_left=pads_left(model.config.to_dict()))
    run, lengths = forward(model), split.lengths
    assert lengths.min() < lengths.max()
    alone = np.concatenate([run(split.batch([row])) for row in range(len(split))])
    np.testing.assert_allclose(run(split.batch(range(len(split)))), alone, atol=1e-5)


def test_rows_stand_at_the_end_of_a_batch_that_is_filled_before_them():
    split = replace(rows(3), pad_left=True).take([2, 0])
    batch = split.batch([0, 1])
    for ids, padded, mask in zip(split.input_ids, batch["input_ids"], batch["attention_mask"], strict=True):
        filled = len(padded) - len(ids)
        assert padded.tolist() == [split.pad] * filled + ids.tolist()
        assert mask.tolist() == [0] * filled + [1] * len(ids)


def test_long_batches_come_in_few_lengths_and_never_beyond_the_longest_row():
    def of(*lengths):
        ids = [np.arange(n) for n in lengths]
        return Split(ids, None, np.zeros(len(ids), np.int64), 1)

    split = of(27, 64, 65, 80, 93)
    assert [split.batch([row])["input_ids"].shape[1] for row in range(5)] == [27, 64, 72, 80, 93]
    assert split.batch([2])["attention_mask"].sum() == 65


def test_a_saved_config_says_it(model, tmp_path):
    model.config.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text())
    assert pads_left(saved) == (model.config.model_type == "xlnet")
