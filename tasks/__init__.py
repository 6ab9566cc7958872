"""The work: plain functions from paths and frozen params to files."""
