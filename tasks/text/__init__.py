"""Task types: rows, batches, what a model answers, metrics. One file per type and one line in `registry.py`."""
