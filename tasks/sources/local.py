"""A path in the workspace, or an absolute one."""

import difflib
import os
from pathlib import Path

from tasks.core.errors import UserError
from tasks.sources.uri import Request


def fetch(request: Request) -> Path:
    """The path itself.

    Raises:
        UserError: nothing there, not readable, or a model that is not a directory.
    """
    if not request.uri.strip() or "\0" in request.uri:
        raise request.refuse("it is empty or holds a NUL character")
    path = request.root / request.uri
    try:
        if not path.exists():
            raise UserError(f"{request.name}: no such file or directory{_nearest(path)}; give {_wanted(request)}")
        if request.kind == "model" and not path.is_dir():
            raise UserError(f"{request.name}: is not a directory; give {_wanted(request)}")
        if not path.is_dir() and not path.is_file():
            raise UserError(f"{request.name}: is neither a file nor a directory; give {_wanted(request)}")
        readable = os.access(path, os.R_OK | os.X_OK if path.is_dir() else os.R_OK)
    except OSError as error:  # a name too long, a directory above that may not be entered
        raise UserError(f"{request.name}: {error.strerror}; give {_wanted(request)}") from None
    if not readable:
        raise UserError(f"{request.name}: permission denied; make it readable for the user who runs secateur")
    return path


def _wanted(request: Request) -> str:
    what = "a directory made by save_pretrained" if request.kind == "model" else "a file or directory with the data"
    return f"{what}, relative to the workspace or absolute"


def _nearest(path: Path) -> str:
    if not path.parent.is_dir() or not os.access(path.parent, os.R_OK):
        return ""
    near = difflib.get_close_matches(path.name, [p.name for p in path.parent.iterdir()], n=1)
    return f" (is it {near[0]}?)" if near else ""
