"""Checks that the weight files of a model or adapter are whole, without reading a weight.

A download or a copy that was cut short leaves a file with its right name. A safetensors file says
in its header how long it is, a `.bin` file (a zip archive) ends with its directory, and an index
names the shards with the weights in each.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from pathlib import Path

from safetensors import SafetensorError, safe_open

from unlearning.errors import ConfigError

INDEX = ".index.json"
MODEL_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
"""In the order in which transformers looks for them."""
LFS_POINTER = b"version https://git-lfs"
AGAIN = "Copy or download it again."


def check_weight_files(folder: str | Path, names: Sequence[str] = MODEL_FILES) -> None:
    """Checks the weight files that would be loaded from a folder: the first of `names` there, and
    what an index names.

    Raises:
        ConfigError: a file is cut short, damaged or missing, or there is none.
    """
    folder = Path(folder).expanduser()
    first = next((folder / name for name in names if (folder / name).is_file()), None)
    if first is None:
        raise ConfigError(
            f"{folder} has no weights (looked for {', '.join(names)}). Save them there again, or "
            "give another folder or a hub id."
        )
    if not first.name.endswith(INDEX):
        stored_names(first)
        return
    weight_map = _read_index(first)
    for shard in sorted(set(weight_map.values())):
        if not (folder / shard).is_file():
            raise ConfigError(f"{first} names {shard}, which is missing in {folder}. {AGAIN}")
        found = stored_names(folder / shard)
        lacking = sorted(n for n, file in weight_map.items() if file == shard and n not in found)
        if found and lacking:
            raise ConfigError(
                f"{folder / shard} lacks {len(lacking)} weights that {first.name} places there "
                f"({listed(lacking)}). {AGAIN}"
            )


def is_absent(name_or_path: str | Path, what: str = "model") -> bool:
    """Whether there is no such file or folder here, so that the name can only be a hub id.

    Raises:
        ConfigError: it is absent and has the form of a path.
    """
    name, path = str(name_or_path), Path(name_or_path)
    if path.exists():
        return False
    if path.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1:
        raise ConfigError(f"No model at {path}. Give a folder with a {what}, or a hub id.")
    return True


def stored_names(file: Path) -> set[str]:
    """Returns the names of the weights in a safetensors file; of another file, none.

    Raises:
        ConfigError: the file is no whole file of its kind.
    """
    with open(file, "rb") as opened:
        start = opened.read(len(LFS_POINTER))
    if start == LFS_POINTER:
        raise ConfigError(
            f"{file} is a Git LFS pointer, not the weights. Run `git lfs pull` in its repository, "
            "or download the file."
        )
    if file.suffix == ".safetensors":
        try:
            with safe_open(file, framework="numpy") as weights:
                return set(weights.keys())
        except SafetensorError as error:
            raise ConfigError(
                f"{file} ({file.stat().st_size} bytes) is cut short or damaged: {error}. {AGAIN}"
            ) from error
    # Before torch 1.6 a .bin file was a bare pickle, whose end cannot be checked.
    if not start or (start.startswith(b"PK") and not zipfile.is_zipfile(file)):
        raise ConfigError(f"{file} ({file.stat().st_size} bytes) is cut short. {AGAIN}")
    return set()


def listed(names: Sequence[str], most: int = 3) -> str:
    """Joins a few names, with an ellipsis where there are more.

    Examples:
        >>> listed(["a", "b"]), listed(["a", "b", "c", "d"])
        ('a, b', 'a, b, c, ...')
    """
    return ", ".join([*names[:most], *["..."] * (len(names) > most)])


def _read_index(file: Path) -> dict[str, str]:
    try:
        weight_map = json.loads(file.read_text(encoding="utf-8"))["weight_map"]
        found = {str(name): str(shard) for name, shard in weight_map.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ConfigError(f"{file} is no index of weights ({error!r}). {AGAIN}") from error
    if any(Path(shard).name != shard for shard in found.values()):
        raise ConfigError(f"{file} names files outside of its folder. {AGAIN}")
    return found
