"""Retraining by itself: new data, whether they are fit, the pipeline, the gate, and who is told."""
