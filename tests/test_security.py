"""What no part of Secateur does: run code that came with a model, read pickles, write a secret into a file."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.core.errors import UserError

REPOSITORY = Path(__file__).parents[1]
SOURCES = [file for name in ("flows", "infra", "tasks") for file in sorted((REPOSITORY / name).rglob("*.py"))]


def nodes(kind: type[ast.AST]) -> Iterator[tuple[Path, ast.AST]]:
    for file in SOURCES:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, kind):
                yield file, node


def test_code_of_a_model_is_never_trusted() -> None:
    found = [(file, node) for file, node in nodes(ast.keyword) if getattr(node, "arg", "") == "trust_remote_code"]
    assert found
    assert not [
        file for file, node in found if not (isinstance(node.value, ast.Constant) and node.value.value is False)
    ]


def test_no_pickle_is_read_or_written() -> None:
    imported = {alias.name for _, node in nodes(ast.Import) for alias in node.names}
    imported |= {str(node.module) for _, node in nodes(ast.ImportFrom)}
    assert not {
        name for name in imported if name.partition(".")[0] in {"pickle", "cloudpickle", "dill", "joblib", "shelve"}
    }
    called = [
        (file, node.func.attr)
        for file, node in nodes(ast.Call)
        if isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "torch"
    ]
    assert not [one for one in called if one[1] in {"load", "save"}]


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "weights.pkl"])
def test_a_pickled_checkpoint_is_refused_in_words(tmp_path: Path, name: str) -> None:
    from tasks.modeling.checkpoint import check

    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    (tmp_path / name).write_bytes(b"\x80\x04.")
    with pytest.raises(UserError, match=f"{name}, which can run code when loaded"):
        check(tmp_path)
