"""Progress of a stage as log records, for whoever shows it."""

import logging

LOGGER = logging.getLogger("secateur.progress")


def progress(what: str, done: int, total: int) -> None:
    """Says that `done` of `total` parts of `what` are done."""
    LOGGER.info("%s %d/%d", what, done, total, extra={"what": what, "done": done, "total": total})
