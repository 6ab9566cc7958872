"""Disk budget: what lineage needs stays in DVC's cache, the rest may go."""
