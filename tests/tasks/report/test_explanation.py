"""Why a run came out as it did: rank correlations, changed answers, shares of importance, and the page about them."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file, save_file
from scipy.stats import rankdata, spearmanr
from test_report import Balance, change, make

from tasks.core.files import read_json
from tasks.report.agreement import agreement, ranks, spearman
from tasks.report.changed import against, changed


@pytest.mark.parametrize("levels", [3, 40, 10**6])
def test_spearman_is_that_of_scipy(levels: int) -> None:
    """With many equal values, some, and none."""
    rng = np.random.default_rng(levels)
    for _ in range(20):
        one = rng.integers(0, levels, 50).astype(np.float64)
        other = one * rng.choice([-1, 0.5]) + rng.integers(0, levels, 50)
        np.testing.assert_array_equal(ranks(one), rankdata(one))
        assert spearman(one, other) == pytest.approx(spearmanr(one, other).statistic, abs=1e-12)


def test_spearman_of_equal_values_is_not_defined() -> None:
    assert spearman(np.ones(5), np.arange(5.0)) is None
    assert spearman(np.zeros(0), np.zeros(0)) is None
    assert spearman(np.arange(5.0), -(np.arange(5.0) ** 3)) == -1.0


def test_agreement_joins_layers_and_leaves_out_who_says_nothing(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    own = {f"{c}/head.{n}": rng.random(6).astype(np.float32) * (n + 1) for c in ("a", "b") for n in range(3)}
    width = {"a/width.0": rng.random(4).astype(np.float32)}
    save_file(own | width, tmp_path / "compare.safetensors")
    for normalized in (False, True):
        kinds = agreement(tmp_path / "compare.safetensors", normalized)["kinds"]  # type: ignore[index]

        def layer(criterion: str, n: int, scale: bool = normalized) -> Any:
            values = own[f"{criterion}/head.{n}"].astype(np.float64)
            return values / np.linalg.norm(values) if scale else values

        joined = [np.concatenate([layer(criterion, n) for n in range(3)]) for criterion in "ab"]
        assert kinds["head"]["spearman"][0][1] == pytest.approx(spearmanr(*joined).statistic)
        within = np.mean([spearmanr(layer("a", n), layer("b", n)).statistic for n in range(3)])
        assert kinds["head"]["within_layers"][1][0] == pytest.approx(within)
        assert kinds["head"]["units"] == 18
        assert kinds["width"]["criteria"] == ["a"]


def test_changed_classes_against_loops(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    true, dense, small = rng.integers(0, 3, (3, 300))
    pq.write_table(pa.table({"label": true, "dense": dense, "r1": small}), tmp_path / "p.parquet")
    found = changed("classification", ["a", "b", "c"], tmp_path / "p.parquet", "r1")
    assert found is not None
    rows = list(zip(true, dense, small, strict=True))
    assert [entry["index"] for entry in found["examples"]] == [i for i, (_, d, s) in enumerate(rows) if d != s]
    assert found["fixed"] == sum(d != t and s == t for t, d, s in rows)
    assert found["broken"] == sum(d == t and s != t for t, d, s in rows)
    assert found["fixed"] - found["broken"] == (small == true).sum() - (dense == true).sum()
    for number, entry in enumerate(found["classes"]):
        assert entry["rows"] == (true == number).sum()
        assert entry["broken"] == sum(t == number and d == t and s != t for t, d, s in rows)
    counts = [[sum(d == i and s == j and d != s for _, d, s in rows) for j in range(3)] for i in range(3)]
    assert found["confusion"]["counts"] == counts
    first = found["examples"][0]
    assert first["dense"] == "abc"[dense[first["index"]]]


def test_changed_labels_against_loops(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    true, dense, small = rng.random((3, 120, 3)) < 0.4
    columns = {"labels": true, "dense": dense, "r1": small}
    lists = {name: [np.flatnonzero(row).tolist() for row in rows] for name, rows in columns.items()}
    pq.write_table(pa.table(lists), tmp_path / "p.parquet")
    found = changed("multilabel", ["a", "b", "c"], tmp_path / "p.parquet", "r1")
    assert found is not None
    assert found["changed"] == (dense != small).any(1).sum()
    assert found["fixed"] == ((dense != true).any(1) & (small == true).all(1)).sum()
    for number, entry in enumerate(found["classes"]):
        t, d, s = (part[:, number] for part in (true, dense, small))
        assert (entry["rows"], entry["fixed"], entry["broken"]) == (
            t.sum(),
            ((d != t) & (s == t)).sum(),
            ((d == t) & (s != t)).sum(),
        )
    assert found["confusion"] is None


def test_changed_answers_are_told_apart_as_the_metric_does(tmp_path: Path) -> None:
    rows = [
        ("q0", ["Paris"], "Paris", "the paris."),  # the same in normal form
        ("q1", ["Paris", "the city"], "Rome", "city"),  # fixed
        ("q2", ["Paris"], "Paris", ""),  # broken
        ("q3", [], "Paris", ""),  # fixed: there is no answer
        ("q4", ["Paris"], "Rome", "Oslo"),  # wrong both times
        ("q5", ["Rome", "Paris"], "Rome", "Paris"),  # right both times
    ]
    names = ("id", "answers", "dense", "r1")
    types = (pa.string(), pa.list_(pa.string()), pa.string(), pa.string())
    columns = {n: pa.array(c, t) for n, c, t in zip(names, zip(*rows, strict=True), types, strict=True)}
    pq.write_table(pa.table(columns), tmp_path / "p.parquet")
    found = changed("qa", [], tmp_path / "p.parquet", "r1")
    assert found is not None
    assert [(entry["id"], entry["change"]) for entry in found["examples"]] == [
        ("q1", "fixed"),
        ("q2", "broken"),
        ("q3", "fixed"),
        ("q4", "other"),
        ("q5", "other"),
    ]
    assert found["confusion"] == {"classes": ["an answer", "no answer"], "counts": [[3, 2], [0, 0]]}
    assert [entry["rows"] for entry in found["classes"]] == [5, 1]
    assert changed("generation", [], tmp_path / "p.parquet", "r1") is None


def test_dense_is_compared_with_the_best_or_the_nearest() -> None:
    models = [{"name": "dense", "validation_drop": 0.0}] + [
        {"name": name, "validation_drop": drop} for name, drop in (("r1", 0.05), ("r2", 0.03))
    ]
    assert against(models, "r1") == "r1"
    assert against(models, "dense") == against(models, None) == "r2"
    assert against(models[:1], "dense") is None


def test_facts_of_a_run(finished_run: Path) -> None:
    out = make(finished_run, finished_run / "out")
    facts = read_json(out / "explanation.json")
    scores = load_file(finished_run / "data/scores/r2/scores.safetensors")
    sums = np.array([scores[f"head.{layer}"].sum(dtype=np.float64) for layer in range(6)])
    shares = [entry["share"] for entry in facts["importance"][1]["kinds"]["head"]]
    np.testing.assert_allclose(shares, sums / sums.sum())
    curve = facts["sensitivity"][0]["groups"][2]
    assert (curve["layer"], curve["kept"][:2], curve["share"][0]) == (2, [1, 3], pytest.approx(1 / 12))
    assert facts["sensitivity"][0]["limit"] == {"head": 0.18}
    assert facts["removed"][0]["scored"] == ["head", "neuron"]
    assert facts["removed"][1]["scored"] == []
    assert facts["removed"][0]["errors"][3] == {
        "layer": 3,
        "matrix": "bert.encoder.layer.3.output.dense.weight",
        "lost": 0.03,
    }
    kinds = facts["agreement"]["kinds"]
    assert kinds["head"]["criteria"] == ["fisher", "obs", "random"]
    assert kinds["head"]["spearman"][0][0] == 1.0
    assert abs(kinds["neuron"]["spearman"][0][2]) < 0.1
    assert facts["changed"]["model"] == "pruned-dynamic"
    table = pq.read_table(finished_run / "data/evaluate/test/predictions.parquet").to_pydict()
    assert facts["changed"]["changed"] == sum(
        one != other for one, other in zip(table["dense"], table["pruned-dynamic"], strict=True)
    )


def test_a_script_in_a_text_stays_text(finished_run: Path) -> None:
    path = finished_run / "data/prepared/test.parquet"
    count = len(pq.read_table(path))
    poison = [f"<script>alert({number})</script>" + "<b>long</b> " * 400 for number in range(count)]
    pq.write_table(pa.table({"text": poison, "text_pair": poison}), path)
    change(finished_run / "data/prepared/data.json", lambda value: value.update(labels=["<script>", "<i>"]))
    page = (make(finished_run, finished_run / "out") / "report.html").read_text(encoding="utf-8")
    assert page.count("&lt;script&gt;alert(") == 40
    assert not any(tag in page for tag in ("<script", "<b>long", "<i>"))
    parser = Balance()
    parser.feed(page)
    assert (parser.open, parser.wrong) == ([], [])
    assert "the arrow" not in page
    assert "explanation.json has all" in page
