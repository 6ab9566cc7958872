"""Text classification: rows, batches, metrics."""
