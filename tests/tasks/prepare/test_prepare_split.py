from collections import Counter
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prepare_examples import make_data

from tasks.prepare.rows import Row, Splits, normal
from tasks.prepare.split import NAMES, arrange, overlap, position

WORDS = st.text("aAbB \t", min_size=1, max_size=4).filter(str.strip)
ROWS = st.lists(st.tuples(WORDS, st.integers(0, 1), st.sampled_from(["g", "h", "i", None])), max_size=30)


def rows(drawn: list[tuple[str, int, str | None]]) -> list[Row]:
    return [Row(text, None, label, normal(text), group or normal(text)) for text, label, group in drawn]


@settings(max_examples=200, deadline=None)
@given(
    train=ROWS,
    validation=st.none() | ROWS,
    test=st.none() | ROWS,
    deduplicate=st.booleans(),
    limit=st.none() | st.integers(1, 5),
)
def test_no_text_in_two_splits_and_every_row_is_accounted_for(
    train: list[tuple[str, int, str | None]],
    validation: list[tuple[str, int, str | None]] | None,
    test: list[tuple[str, int, str | None]] | None,
    deduplicate: bool,
    limit: int | None,
) -> None:
    source: Splits = {"train": rows(train)}
    source |= {"validation": rows(validation)} if validation is not None else {}
    source |= {"test": rows(test)} if test is not None else {}
    before = sum(map(len, source.values()))
    dropped: Counter[str] = Counter()
    splits = arrange(source, make_data(deduplicate=deduplicate, limit=limit), 0, dropped)
    assert tuple(splits) == NAMES
    keys = {name: [row.key for row in part] for name, part in splits.items()}
    for one, other in combinations(NAMES, 2):
        assert not set(keys[one]) & set(keys[other])
    if deduplicate:
        assert all(len(part) == len(set(part)) for part in keys.values())
    if limit:
        assert all(len(part) <= limit for part in keys.values())
    assert sum(map(len, splits.values())) + sum(dropped.values()) == before
    assert not any(n for pair, n in overlap(splits).items() if pair != "groups")


@settings(max_examples=100, deadline=None)
@given(drawn=ROWS)
def test_a_group_lies_in_one_split(drawn: list[tuple[str, int, str | None]]) -> None:
    assert overlap(arrange({"train": rows(drawn)}, make_data(), 0, Counter()))["groups"] == 0


def test_normal_form_knows_case_and_white_space() -> None:
    assert normal(" Die  STRASSE\n") == normal("die straße")


def test_the_shares_are_kept() -> None:
    source = [Row(f"text {i}", None, 0, f"text {i}", f"text {i}") for i in range(5000)]
    splits = arrange({"train": source}, make_data(validation=0.1, test=0.3), 0, Counter())
    assert [len(splits[name]) / 5000 for name in NAMES] == pytest.approx([0.6, 0.1, 0.3], abs=0.02)


def test_a_row_keeps_its_split_when_others_come() -> None:
    source = [Row(f"text {i}", None, 0, f"text {i}", f"text {i}") for i in range(200)]
    few = arrange({"train": source[:100]}, make_data(), 0, Counter())
    many = arrange({"train": source}, make_data(), 0, Counter())
    assert all(set(few[name]) <= set(many[name]) for name in NAMES)


def test_positions_are_the_same_everywhere() -> None:
    assert position("split", "text") == 0.1616032091836055
