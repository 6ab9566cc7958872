"""Secateur against what a user would pick instead: one dense model, the same rows, the same number of training steps.

A contender is one file with a `CONTENDER`, one line in registry.py, and its packages in requirements.txt. Tools are
imported only where they run, in `.venv-bench`; the product never sees them.
"""
