"""The page shows how far graphs are from their checkpoints."""

from pathlib import Path

from test_report import Balance, make

from tasks.core.files import read_json, write_json


def test_verified_graphs_are_shown(finished_run: Path) -> None:
    worst = [{"index": 5, "error": 0.75, "source": 0, "quantized": 1}]
    facts = {"examples": 150, "agreement": 0.98, "max_error": 0.75, "mean_error": 0.0625, "scale": 2.0, "worst": worst}
    operators = [
        {"operator": "classifier", "harm": 0.5, "int8": False},
        {"operator": "pooler", "harm": 0, "int8": True},
    ]
    directory = finished_run / "models/quantized/pruned/static"
    directory.mkdir()
    write_json(directory / "verified.json", facts)
    mixed = {"kept": 1, "limit": 0.001, "divergence": 0.0005, "rows": 64, "operators": operators}
    write_json(directory / "mixed.json", mixed)
    test = finished_run / "data/prepared/test.parquet"
    (finished_run / "data/prepared/validation.parquet").write_bytes(test.read_bytes())
    out = make(finished_run, finished_run / "out")
    (found,) = read_json(out / "explanation.json")["verified"]
    named = [{**worst[0], "source": "rotten", "quantized": "fresh"}]
    assert found == {**facts, "model": "pruned-static", "worst": named, "mixed": mixed}
    page = (out / "report.html").read_text(encoding="utf-8")
    parser = Balance()
    parser.feed(page)
    assert (parser.open, parser.wrong) == ([], [])
    assert "98.00 %" in page
    assert "a film, the 5th of all" in page
    assert "1 of 2 operators stayed in float32" in page
    card = (out / "cards/pruned-static/README.md").read_text(encoding="utf-8")
    assert "Against `r2`, of which the graph was made, on 150 validation examples: 98.00 %" in card
