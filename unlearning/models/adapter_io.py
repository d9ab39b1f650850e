"""Saves adapters with the fingerprint of their base model, and loads them on that model only."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Mapping
from pathlib import Path

from peft import PeftModel, get_peft_model_state_dict
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import load_peft_weights
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from unlearning.errors import ConfigError
from unlearning.files.parsing import read_json
from unlearning.models.adapter import ADAPTERS
from unlearning.models.fingerprint import WRAPPED
from unlearning.models.load import BASE_FILE, describe_base, quiet_about_ranks, save_model
from unlearning.models.wrapping import unchanged_on_failure
from unlearning.weight_files import check_weight_files, listed

log = logging.getLogger(__name__)
CONFIG = "adapter_config.json"
WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
FACTOR = re.compile(r"base_model\.model\.(?P<path>.+)\.lora_(?P<side>[AB])(\.weight)?")
"""A stored weight: of which layer it is, and whether it reads (A) or writes (B)."""


def save_adapter(model: PeftModel, folder: str | Path) -> Path:
    """Saves the adapter alone, with the fingerprint of its base model.

    Raises:
        ConfigError: the model has no adapter, or the folder exists.
    """
    if not isinstance(model, PeftModel):
        raise ConfigError(
            f"This {type(model).__name__} has no adapter to save; save_model keeps it whole."
        )
    return save_model(model, None, folder)


def check_adapter_folder(folder: str | Path) -> Path:
    """Checks that a folder holds an adapter with a whole weight file, before anything is loaded.

    Raises:
        ConfigError: what is missing or damaged there, or of what other kind it is.
    """
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise ConfigError(f"No adapter at {folder}. Give the folder that an adapter was saved in.")
    if not (folder / CONFIG).is_file():
        raise ConfigError(
            f"{folder} has no {CONFIG}, so it is no adapter. A whole model is not loaded as an "
            "adapter: give it as the model (model.name_or_path)."
        )
    kind = _read(folder / CONFIG).get("peft_type")
    if str(kind).lower() not in ADAPTERS:
        raise ConfigError(
            f"{folder} holds an adapter of the kind {kind!r}; those that can be merged here are "
            f"{', '.join(name.upper() for name in ADAPTERS)}."
        )
    check_weight_files(folder, WEIGHTS)
    return folder


def is_adapter_folder(folder: str | Path) -> bool:
    """Whether a local folder holds an adapter and no whole model."""
    path = Path(folder).expanduser()
    return (path / CONFIG).is_file() and not (path / "config.json").is_file()


def named_base(folder: str | Path) -> str:
    """Returns name or folder of the base model that an adapter says it was trained on.

    Raises:
        ConfigError: it does not say.
    """
    name = _read(check_adapter_folder(folder) / CONFIG).get("base_model_name_or_path")
    if not (isinstance(name, str) and name):
        raise ConfigError(
            f"{folder} does not say which base model it was trained on. Name it: "
            "model.base=<hub id or folder>."
        )
    return name


def load_adapter(model: PreTrainedModel, folder: str | Path, trainable: bool = False) -> PeftModel:
    """Loads a saved adapter onto a model, which is changed in place.

    Args:
        model: the base model that the adapter was trained on.
        trainable: whether it shall be trained on; else the model is in eval mode.

    Raises:
        ConfigError: no adapter is there, weights of it are missing, or it was trained on another
            base model; the model is then as it was.
    """
    folder = check_adapter_folder(folder)
    if isinstance(model, PeftModel):
        raise ConfigError("The model has an adapter already; merge it with merge_adapter first.")
    _check_base(model, folder)
    weights = load_peft_weights(str(folder), device="cpu")
    paths = _check_shapes(model, weights, folder)
    with unchanged_on_failure(model):
        with quiet_about_ranks():
            warnings.filterwarnings("ignore", "Found missing adapter keys")  # told below
            loaded = PeftModel.from_pretrained(model, str(folder), is_trainable=trainable)
        layers = loaded.get_base_model().named_modules()
        bare = {path for path, m in layers if isinstance(m, BaseTunerLayer)} - paths
        if bare:
            raise ConfigError(
                f"{folder} was trained on another base model: it has nothing for {len(bare)} "
                f"layers of this {type(model).__name__} ({min(bare)}). {_remedy(folder)}"
            )
        _check_names(loaded, set(weights), folder)
    return loaded


def _check_names(loaded: PeftModel, stored: set[str], folder: Path) -> None:
    """Checks that every weight of the adapter was in its file, and the other way round."""
    with quiet_about_ranks():
        expected = set(get_peft_model_state_dict(loaded, save_embedding_layers=False))
    missing = sorted(expected - stored)
    if missing:
        raise ConfigError(
            f"{folder} lacks {len(missing)} of the adapter's {len(expected)} weights "
            f"({listed(missing)}), which would stay as they are drawn. Save the adapter there "
            "again."
        )
    others = sorted(stored - expected - {name for name, _ in loaded.named_parameters()})
    if others:
        raise ConfigError(
            f"{folder} holds {len(others)} weights that its {CONFIG} does not account for "
            f"({listed(others)}). Save the adapter there again."
        )


def _check_base(model: PreTrainedModel, folder: Path) -> None:
    """Compares the fingerprints of the base models; warns where only the name differs."""
    name = model.name_or_path
    if not (folder / BASE_FILE).is_file():
        theirs = _read(folder / CONFIG).get("base_model_name_or_path")
        if theirs != name:
            log.warning(
                "%s says it was trained on %r and this model is %r; nothing there tells whether "
                "their weights are the same.", folder, theirs, name,
            )  # fmt: skip
        return
    record, ours = _read(folder / BASE_FILE), describe_base(model)
    if record.get("fingerprint") != ours["fingerprint"]:
        raise ConfigError(
            f"{folder} was trained on another base model: on {record.get('name')!r} (weights "
            f"{str(record.get('fingerprint'))[:12]}), and this is {name!r} (weights "
            f"{ours['fingerprint'][:12]}). {_remedy(folder)}"
        )
    if record["name"] != name:
        log.warning(
            "%s was trained on %r and this model is %r; their weights are the same.",
            folder, record["name"], name,
        )  # fmt: skip


def _check_shapes(model: PreTrainedModel, weights: Mapping[str, Tensor], folder: Path) -> set[str]:
    """Checks that the layers of the adapter exist and have the right width."""
    modules, paths = dict(model.named_modules()), set()
    for name, weight in weights.items():
        match = FACTOR.fullmatch(name)
        if match is None:
            continue
        path, reads = match["path"], match["side"] == "A"
        paths.add(path)
        layer = modules.get(WRAPPED.sub(".", f"{path}.")[:-1])
        if layer is None:
            raise ConfigError(
                f"{folder} was trained on another base model: this {type(model).__name__} has no "
                f"layer {path}. {_remedy(folder)}"
            )
        found, expected = weight.shape[1 if reads else 0], _width(layer, reads)
        if expected not in (None, found):  # routed experts have no one width
            raise ConfigError(
                f"{folder} was trained on another base model: {path} has {expected} "
                f"{'inputs' if reads else 'outputs'} here and {found} in the adapter. "
                f"{_remedy(folder)}"
            )
    if not paths:
        raise ConfigError(f"{folder} holds no LoRA weights. Save the adapter there again.")
    return paths


def _width(layer: nn.Module, reads: bool) -> int | None:
    if isinstance(layer, nn.Linear):
        return layer.in_features if reads else layer.out_features
    return layer.weight.shape[0 if reads else 1] if isinstance(layer, Conv1D) else None


def _remedy(folder: Path) -> str:
    named = _read(folder / CONFIG).get("base_model_name_or_path")
    return f"Load the model that it belongs to ({named!r}), or train a new adapter."


def _read(path: Path) -> dict[str, object]:
    try:
        found = read_json(path)
    except ValueError as error:
        raise ConfigError(f"{path} is no JSON ({error}); save the adapter there again.") from error
    return found if isinstance(found, dict) else {}
