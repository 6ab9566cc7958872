"""Rows as the prepare stage cleans them."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "prepare"))

from prepare_examples import make_data

from tasks.prepare.rows import clean_many
from tasks.prepare.table import Table


def cleaned_many(values, **changes):
    columns = {"text": [f"text {i}" for i in range(len(values))], "label": values}
    return clean_many({"train": Table("data.csv", columns, "line", range(2, 2 + len(values)))}, make_data(**changes))
