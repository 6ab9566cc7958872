"""Checkpoints: ordinary Hugging Face directories, pruned or not, loaded strictly and never by pickle."""

import json
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError, safe_open
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel

from tasks.core.errors import UserError
from tasks.modeling import modeling_pruned
from tasks.text.registry import HEADS
from tasks.text.task import Head, TaskType

MODELING = Path(modeling_pruned.__file__)
WEIGHTS = "model.safetensors"


def load(directory: Path, *, head: TaskType | None = None) -> PreTrainedModel:
    """The model in `directory`, in float32 and eval mode; no code of the directory is run.

    Args:
        directory: a checkpoint of Secateur, or of `save_pretrained` with safetensors.
        head: the task to put a new head on for; the only weights then allowed to be missing are those of the head.
            Without it the model is the one that its config names, and nothing may be missing, left over or of
            another shape.

    Raises:
        UserError: no safetensors in it, a damaged file, an architecture without such a head, or weights that do not
            fit the config.
    """
    check(directory)
    config = read_config(directory, **(head.config() if head else {}))
    base = _headed(config, head.head.auto, directory) if head else _named(config, directory)
    model_class = pruned_class(base) if getattr(config, "pruned", None) else base
    try:
        model, info = model_class.from_pretrained(
            directory, config=config, dtype=torch.float32, output_loading_info=True
        )
    except RuntimeError:  # its report of every tensor is in the log
        raise UserError(f"{directory}: weights are not of the sizes that config.json states") from None
    missing = set(info["missing_keys"])
    if head:
        prefix = model.base_model_prefix + "."
        missing = {name for name in missing if name.startswith(prefix) and "pooler" not in name}
        info["unexpected_keys"] = []
    wrong = missing | set(info["unexpected_keys"]) | {name for name, *_ in info["mismatched_keys"]}
    if wrong:
        raise UserError(f"{directory}: weights do not fit the config: {', '.join(sorted(wrong)[:5])}")
    return model.eval()


def read_config(directory: Path, **changes: Any) -> PreTrainedConfig:
    """The config of the checkpoint in `directory`, with changes.

    Raises:
        UserError: an architecture that transformers does not know.
    """
    try:
        config = AutoConfig.from_pretrained(directory, trust_remote_code=False, **changes)
    except ValueError as error:
        raise UserError(f"{directory}/config.json: {str(error).strip().splitlines()[0]}") from None
    config.update({name: value for name, value in changes.items() if not hasattr(config, name)})
    return config


def head_of(base: type[PreTrainedModel]) -> Head:
    """The head of a model class of transformers, or of one made from it.

    Raises:
        UserError: it has none that is known.
    """
    for auto, head in HEADS.items():
        if _class(auto, base.config_class) in base.__mro__:
            return head
    raise UserError(f"{base.__name__}: a model without a head of a known task; there are {', '.join(HEADS)}")


def _named(config: PreTrainedConfig, directory: Path) -> type[PreTrainedModel]:
    name = (getattr(config, "architectures", None) or [""])[0]
    for auto in HEADS:
        base = _class(auto, type(config))
        if base is not None and base.__name__ == name:
            return base
    raise UserError(
        f"{directory}/config.json: architectures names {name or 'nothing'}; "
        f"it must be what one of {', '.join(HEADS)} builds for {config.model_type}"
    )


def _headed(config: PreTrainedConfig, auto: str, directory: Path) -> type[PreTrainedModel]:
    base = _class(auto, type(config))
    if base is None:
        raise UserError(f"{directory}: transformers has no {auto} for {config.model_type}; choose another model")
    return base


def _class(auto: str, config: type[PreTrainedConfig]) -> type[PreTrainedModel] | None:
    """What an Auto class makes of such a config; asking for all that it knows would import every model there is."""
    found: type[PreTrainedModel] | None = getattr(transformers, auto)._model_mapping.get(config, None)
    return found


def pruned_class(base: type[PreTrainedModel]) -> type[PreTrainedModel]:
    """`base` with layers of the sizes that its config states."""
    return type(f"Pruned{base.__name__}", (modeling_pruned.Pruned, base), {})


def check(directory: Path) -> None:
    """Refuses what is not a whole checkpoint in safetensors."""
    if not (directory / "config.json").is_file():
        raise UserError(f"{directory}: no config.json; a model is a directory made by save_pretrained")
    files = sorted(directory.glob("*.safetensors"))
    if not files:
        pickled = sorted(p.name for p in directory.iterdir() if p.suffix in {".bin", ".pt", ".pth", ".ckpt", ".pkl"})
        found = f"only {', '.join(pickled)}, which can run code when loaded" if pickled else "no weights"
        raise UserError(f"{directory}: {found}; convert it with save_pretrained(safe_serialization=True)")
    for file in files:
        try:
            with safe_open(file, framework="pt"):
                pass
        except (SafetensorError, OSError) as error:
            raise UserError(f"{file}: damaged safetensors file ({error}); fetch or copy it again") from None


def save(model: PreTrainedModel, directory: Path) -> None:
    """Writes `model` to `directory`; a pruned one with its modelling file and `auto_map`.

    `model.config.pruned`, if set, must hold the shapes of every narrowed parameter (see `tasks/modeling/shrink.py`).
    """
    model.save_pretrained(directory)
    base = next(c for c in type(model).__mro__ if c.__module__.startswith("transformers.models."))
    path = directory / "config.json"
    config = json.loads(path.read_text())
    config["architectures"] = [base.__name__]
    config.pop("auto_map", None)
    if getattr(model.config, "pruned", None):
        name = f"Pruned{base.__name__}"
        config["auto_map"] = {head_of(base).auto: f"{MODELING.stem}.{name}"}
        source = MODELING.read_text().replace(
            "import torch\n", f"import torch\nfrom transformers import {base.__name__}\n", 1
        )
        (directory / MODELING.name).write_text(f"{source}\n\nclass {name}(Pruned, {base.__name__}):\n    pass\n")
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
