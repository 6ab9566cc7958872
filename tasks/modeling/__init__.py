"""Models: loading, saving, shrinking, running, counting."""
