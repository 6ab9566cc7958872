"""`hf://NAME@REVISION`: a model or a data set of the Hugging Face Hub, without pickle and without scripts."""

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tasks.core.errors import EnvironmentFault, UserError
from tasks.sources import store
from tasks.sources.uri import HUB, Request

NAME = re.compile(r"(?P<name>[\w-][\w.-]*(/[\w-][\w.-]*)?)@(?P<revision>[\w-][\w./-]*)", re.ASCII)
MODEL_FILES = ("*.safetensors", "*.json", "*.txt", "*.model", "*.tiktoken", "*.jinja")
SPLITS = ("train", "validation", "test")


def fetch(request: Request) -> Path:
    """A model's directory, or a data set as `train.parquet`, `validation.parquet`, `test.parquet`.

    A revision is a commit, a tag or a branch; of a branch, the newest commit that can be reached. With `split=` the
    data are one file, `data.parquet`.

    Raises:
        UserError: not of this form; no such repository, revision, configuration or split; access not granted.
        EnvironmentFault: the hub cannot be reached and the cache does not hold it; disk.
    """
    match = NAME.fullmatch(request.rest)
    if not match:
        raise request.refuse(f"is not of the form {HUB}; the revision is a commit, a tag or a branch such as main")
    parameters = request.parameters(*(("config", "split") if request.kind == "data" else ()))
    with store.disk(request.cache):
        request.cache.mkdir(parents=True, exist_ok=True)
        if request.kind == "model":
            return _snapshot(request, match["name"], match["revision"], "model", MODEL_FILES)
        # The card alone is enough to learn which commit the revision is now, or was when the hub last answered.
        commit = _snapshot(request, match["name"], match["revision"], "dataset", ("README.md",)).name
        return _data(request, match["name"], commit, parameters.get("config"), parameters.get("split"))


def _snapshot(request: Request, name: str, revision: str, repo_type: str, files: tuple[str, ...]) -> Path:
    """The directory of a commit, with those of `files` that lie at the top of the repository."""
    from huggingface_hub import snapshot_download

    with _plainly(request):
        path = snapshot_download(
            name,
            repo_type=repo_type,
            revision=revision,
            cache_dir=request.cache / "hub",
            allow_patterns=list(files),
            ignore_patterns=["*/*"],
        )
    return Path(path)


def _data(request: Request, name: str, commit: str, config: str | None, split: str | None) -> Path:
    def fill(out: Path) -> None:
        from datasets import Dataset, load_dataset

        with _plainly(request):
            found = load_dataset(name, config, revision=commit, split=split, cache_dir=str(request.cache / "datasets"))
            if isinstance(found, Dataset):
                found.to_parquet(str(out / "data.parquet"))
                return
            if "train" not in found:
                raise UserError(f"{request.name}: has no split train, only {', '.join(found)}; choose one by ?split=")
            for part in SPLITS:
                if part in found:
                    found[part].to_parquet(str(out / f"{part}.parquet"))

    key = hashlib.sha256(f"{name}\n{commit}\n{config}\n{split}".encode()).hexdigest()[:16]
    files = store.keep(request.cache / "data" / f"{name.replace('/', '--')}-{key}", fill)
    return files / "data.parquet" if split else files


@contextmanager
def _plainly(request: Request) -> Iterator[None]:
    """Turns what the hub's libraries raise into one sentence."""
    from datasets.exceptions import DatasetNotFoundError
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    try:
        yield
    except GatedRepoError:
        raise UserError(f"{request.name}: access is not granted; ask for it on the hub, and set HF_TOKEN") from None
    except RevisionNotFoundError:
        raise UserError(f"{request.name}: no such revision; give a commit, a tag or a branch of it") from None
    except (RepositoryNotFoundError, DatasetNotFoundError):
        raise UserError(
            f"{request.name}: no such {request.kind} on the hub, or a private one and no HF_TOKEN"
        ) from None
    except (ValueError, RuntimeError) as error:  # no such configuration or split (those there are follow), a script
        raise UserError(f"{request.name}: {_first_line(error)}") from None
    except OSError as error:
        if error.errno in store.FULL:
            raise
        raise _unreachable(request, error) from None
    except UserError:
        raise
    except Exception as error:  # of the network and of parsers: the libraries' own types change
        raise _unreachable(request, error) from None


def _unreachable(request: Request, error: Exception) -> EnvironmentFault:
    return EnvironmentFault(
        f"{request.name}: cannot be had from the Hugging Face Hub ({type(error).__name__}: {_first_line(error)}); "
        "check the network and HF_HUB_OFFLINE, or give a local path"
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or ["no reason given"])[0][:200]
