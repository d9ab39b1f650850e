"""Loads models and tokenizers through transformers: every weight from the files, and classes that
transformers has.

By default transformers draws weights that the files lack at random, and only logs it; and it asks
whether to run the Python code that comes with a model. Here both are errors.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

from safetensors import SafetensorError

from unlearning.errors import ConfigError
from unlearning.weight_files import listed

log = logging.getLogger(__name__)

REACHABLE = "Give a hub id that this machine can reach, or a folder written by save_pretrained."
BUFFERS = ("inv_freq", "masked_bias", "position_ids")
"""Computed, not learned; older files hold them as weights."""
FULL = (errno.ENOSPC, errno.EDQUOT, errno.ENOMEM)


def load_pretrained(
    auto_class: str, name: str | Path, what: str = "model", new_head: bool = False,
    spare: Sequence[str] = (), **options: Any,
) -> Any:  # fmt: skip
    """Loads a model by name or folder; every weight comes from its files.

    Args:
        auto_class: of transformers, such as `AutoModelForCausalLM`.
        what: the model is called in errors.
        new_head: weights on top of the base model may be absent: they are about to be trained.
        spare: parts of the model that may be absent, since nothing is computed from them.
        options: of `from_pretrained`; `device_map="meta"` compares names and shapes alone.

    Raises:
        ConfigError: it cannot be had, would run code of its own, or its files lack weights of the
            model or hold other ones.
    """
    import transformers

    with native_only(name, what):
        model, info = getattr(transformers, auto_class).from_pretrained(
            name, trust_remote_code=False, output_loading_info=True, ignore_mismatched_sizes=True,
            **options,
        )  # fmt: skip
    lacking = [key for key in info["missing_keys"] if key.partition(".")[0] not in spare]
    _check_weights(model, {**info, "missing_keys": lacking}, f"{what} {name}", new_head)
    _drop_code(model.config, f"{what} {name}")
    return model


def load_tokenizer(name: str | Path, **options: Any) -> Any:
    """Loads a tokenizer by name or folder.

    Raises:
        ConfigError: it cannot be had, or would run code of its own.
    """
    from transformers import AutoTokenizer

    with native_only(name, "tokenizer"):
        return AutoTokenizer.from_pretrained(name, trust_remote_code=False, **options)


def load_config(name: str | Path, what: str = "model", **options: Any) -> Any:
    """Loads the configuration of a model by name or folder.

    Raises:
        ConfigError: it cannot be had, or would run code of its own.
    """
    from transformers import AutoConfig

    with native_only(name, what):
        found = AutoConfig.from_pretrained(name, trust_remote_code=False, **options)
    _drop_code(found, f"{what} {name}")
    return found


@contextmanager
def native_only(name: str | Path, what: str) -> Iterator[None]:
    """Turns the errors of loading into ConfigErrors; full memory and disks stay what they are."""
    try:
        yield
    except ConfigError:
        raise
    except (
        OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError, EOFError,
        UnpicklingError, SafetensorError,
    ) as error:  # fmt: skip
        if _is_full(error):
            raise
        if "trust_remote_code" in str(error):
            raise ConfigError(
                f"The {what} {name} comes with Python code of its own (auto_map in its config), "
                "which loading it would run. That is never done here: give one whose architecture "
                "transformers has."
            ) from error
        raise ConfigError(f"The {what} {name} cannot be loaded: {error}\n{REACHABLE}") from error


def _is_full(error: Exception) -> bool:
    if isinstance(error, OSError):
        return error.errno in FULL
    return isinstance(error, RuntimeError) and "memory" in str(error).lower()


def _drop_code(config: Any, what: str) -> None:
    """Drops the mention of code, so that a saved model does not name files it does not have."""
    if getattr(config, "auto_map", None):
        log.warning("The %s comes with code of its own; transformers' class is used.", what)
        del config.auto_map


def _check_weights(model: Any, info: dict[str, Any], what: str, new_head: bool) -> None:
    """Compares names and shapes in the files with the model's."""
    missing, head = sorted(info["missing_keys"]), f"{model.base_model_prefix}."
    on_top = not any(name.startswith(head) for name in missing)
    if new_head:  # a pooler below the head comes with it
        missing = [n for n in missing if n.startswith(head) and "pooler" not in n]
    if missing:
        remedy = (
            f"They are its head: it was saved without one. Give a whole {type(model).__name__}."
            if on_top
            else "The files are incomplete, or config.json is of another model. Save or download "
            "it again."
        )
        raise ConfigError(
            f"The files of the {what} lack {len(missing)} of its {len(model.state_dict())} weights "
            f"({listed(missing)}), which would be drawn at random. {remedy}"
        )
    if info["mismatched_keys"]:
        name, stored, wanted = sorted(info["mismatched_keys"], key=lambda found: found[0])[0]
        raise ConfigError(
            f"{len(info['mismatched_keys'])} weights of the {what} have another shape than its "
            f"configuration says: {name} is {list(stored)} in the files and should be "
            f"{list(wanted)}. Files and configuration are of different models (or labels); save or "
            "download it again."
        )
    others = sorted(info["unexpected_keys"])
    ours = [name for name in others if _belongs(model, name)]
    if ours:
        raise ConfigError(
            f"The files of the {what} hold {len(ours)} weights of parts that its config.json "
            f"leaves out ({listed(ours)}): without them it would be another model. Give the "
            "config.json that was saved with them."
        )
    if others:
        log.warning("The %s: %d weights are not used (%s).", what, len(others), listed(others))


def _belongs(model: Any, name: str) -> bool:
    """Whether an unexpected weight is of a layer that the model has, or of one more in a list."""
    if name.endswith(BUFFERS):
        return False
    modules = dict(model.named_modules())
    for path in (name, f"{model.base_model_prefix}.{name}"):
        parents = [modules.get(path[:place]) for place in range(len(path)) if path[place] == "."]
        if any(type(parent).__name__ == "ModuleList" for parent in parents):
            return True
        if parents and parents[-1] is not None and parents[-1]._parameters:
            return True
    return False
