"""The report stage: one self-contained page about a run, its pictures, and the same facts for machines."""

from tasks.report.page import report

__all__ = ["report"]
