from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import save_file

from unlearning.errors import ConfigError
from unlearning.weight_files import check_weight_files, is_absent

INDEX = "model.safetensors.index.json"


@pytest.fixture
def shards(tmp_path):
    weights = {"one": "model-1.safetensors", "two": "model-2.safetensors"}
    for name, file in weights.items():
        save_file({name: torch.zeros(3)}, tmp_path / file)
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": weights}), encoding="utf-8")
    check_weight_files(tmp_path)
    return tmp_path


def refused(folder, message):
    with pytest.raises(ConfigError, match=message):
        check_weight_files(folder)


def test_a_shard_that_is_missing_or_cut_short(shards):
    second = shards / "model-2.safetensors"
    second.write_bytes(second.read_bytes()[:-1])
    refused(shards, r"model-2\.safetensors \(\d+ bytes\) is cut short or damaged")
    second.unlink()
    refused(shards, r"index\.json names model-2\.safetensors, which is missing")


def test_a_shard_without_a_weight_that_the_index_places_there(shards):
    save_file({"other": torch.zeros(3)}, shards / "model-2.safetensors")
    refused(shards, r"model-2\.safetensors lacks 1 weights .*index\.json places there \(two\)")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is no index of weights"),
        ("[]", "is no index of weights"),
        ('{"weight_map": {"one": "../elsewhere.safetensors"}}', "names files outside"),
    ],
)
def test_an_index_that_is_none(shards, content, message):
    (shards / INDEX).write_text(content, encoding="utf-8")
    refused(shards, message)


def test_a_pickled_file_that_is_cut_short(tmp_path):
    file = tmp_path / "pytorch_model.bin"
    torch.save({"one": torch.zeros(3)}, file)
    check_weight_files(tmp_path)
    file.write_bytes(file.read_bytes()[:-40])
    refused(tmp_path, "is cut short")
    file.write_bytes(b"")
    refused(tmp_path, "is cut short")


def test_the_pointer_of_a_large_file_is_called_that(tmp_path):
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
    (tmp_path / "model.safetensors").write_bytes(pointer)
    refused(tmp_path, "is a Git LFS pointer, not the weights")


def test_no_weights_at_all(tmp_path):
    refused(tmp_path, r"has no weights \(looked for model\.safetensors, .*pytorch_model\.bin")


def test_a_name_that_is_here_a_hub_id_or_a_path_to_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a" / "b").mkdir(parents=True)
    assert [is_absent(name) for name in ("a", "a/b", "./a", tmp_path)] == [False] * 4
    assert is_absent("owner/name") and is_absent("gpt2")
    for name in ("./b", "../b", "~/b", "a/c/b", "/nowhere/b", tmp_path / "b"):
        with pytest.raises(ConfigError, match=r"^No model at .*b\. Give a folder with a judge"):
            is_absent(name, "judge")
