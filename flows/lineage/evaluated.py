"""A model predicts the test rows anew: whether it says what the final evaluation noted."""

import os
from collections.abc import Iterator

from flows.lineage.chain import TEST
from flows.lineage.find import Found
from tasks.core.files import read_json
from tasks.recipe.schema import Evaluate

TOLERANCE = 1e-6
"""Of a quality, and of predictions that are no labels."""


def evaluated(it: Found) -> Iterator[tuple[str, str, str]]:
    """What differs between the noted predictions and quality, and those of now."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    from tasks.gate import predicted
    from tasks.text.data import read_split

    out, prepared = it.state.root / "data" / "evaluate" / "test", it.state.root / "data" / "prepared"
    entry = it.state.entries.get(TEST)
    noted = read_json(out / "quality.json") if entry and (out / "quality.json").is_file() else {"models": {}}
    name = next((name for name, facts in noted["models"].items() if facts["path"] == it.path), None)
    if entry is None or name is None:
        yield it.path, "evaluation", "the model was not evaluated on test; give one of the final evaluation's"
        return
    settings = Evaluate.model_validate(entry.params["evaluate"])
    threads = entry.params["threads"] or len(os.sched_getaffinity(0))
    split = read_split(prepared, "test", it.directory)
    now = predicted(it.directory, split, prepared, noted["metric"], settings, threads)
    facts = noted["models"][name]
    if abs(now.quality - facts["quality"]) > TOLERANCE:
        yield TEST, "evaluation", f"{noted['metric']} of {name} is {now.quality}, noted was {facts['quality']}"
    before, here = pq.read_table(out / "predictions.parquet")[name].to_pylist(), pa.array(now.predictions).to_pylist()
    if here and isinstance(here[0], float):
        same = np.isclose(before, here, rtol=TOLERANCE).tolist()
    else:
        same = [one == other for one, other in zip(before, here, strict=True)]
    if not all(same):
        yield TEST, "evaluation", f"{len(same) - sum(same)} of {len(same)} predictions of {name} are not those noted"
