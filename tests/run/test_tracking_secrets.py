"""Keys are refused wherever they are put, and never repeated."""

from __future__ import annotations

import pytest
from omegaconf import OmegaConf

from unlearning.errors import ConfigError
from unlearning.run.config.overrides import config_folder
from unlearning.run.tracking.secrets import VARIABLES, check_secrets

KEY = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch, tmp_path):
    """Only what a test puts there."""
    import os

    for name in [name for name in os.environ if VARIABLES.search(name)]:
        monkeypatch.delenv(name)
    for name in ("NETRC", "HF_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))


def refused(arguments=(), config=None):
    with pytest.raises(ConfigError) as caught:
        check_secrets(arguments, None if config is None else OmegaConf.create(config))
    assert KEY not in str(caught.value) and "environment" in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "name",
    ["logger.wandb.api_key", "+logger.wandb.api_key", "++a.WANDB_API_KEY", "token", "+x.hf_token",
     "x.password", "x.access_key", "my_secret", "model.auth_token"],
)  # fmt: skip
def test_a_setting_called_like_a_secret(name):
    assert refused([f"{name}={KEY}"]).startswith(name.lstrip("+"))
    bare = name.lstrip("+")
    assert bare in refused(config=OmegaConf.from_dotlist([f"{bare}={KEY}"]))


def test_what_a_variable_holds_is_found_anywhere(monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    assert refused([f"description=mine is {KEY}"]).startswith("description")
    assert refused([f"+{KEY}=1"]).startswith("an argument")
    assert refused([f"--config-dir={KEY}"])
    assert refused([KEY])
    assert "notes[1]" in refused(config={"notes": ["a", f"b {KEY}"]})
    assert "deep" in refused(config={"deep": {KEY: 1}})
    assert refused(config={KEY: 1})


@pytest.mark.parametrize("variable", ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "OTHER_API_KEY"])
def test_an_interpolation_does_not_bring_it_in(variable, monkeypatch):
    monkeypatch.setenv(variable, KEY)
    assert "a.b" in refused(config={"a": {"b": f"${{oc.env:{variable}}}"}})


def test_what_looks_like_a_secret():
    refused([f"a=hf_{'x' * 34}"])
    refused([f"a=wandb_v1_{'x' * 40}"])
    refused(["model.name_or_path=https://me:pass@host/model"])


def test_logins_are_known(monkeypatch, tmp_path):
    (tmp_path / ".netrc").write_text(f"machine host login user password {KEY}\n")
    refused([f"a={KEY}"])
    (tmp_path / ".netrc").write_text("machine\n")  # damaged: not ours to mend
    check_secrets([f"a={KEY}"])
    (tmp_path / "hf").mkdir()
    (tmp_path / "hf/token").write_text(f"{KEY}\n")
    refused([f"a={KEY}"])


def test_what_is_harmless_passes(monkeypatch):
    monkeypatch.setenv("SOME_TOKEN", "x")  # too short to be one
    monkeypatch.setenv("OTHER_TOKEN", "")
    check_secrets(
        ["model.revision=" + KEY, "tokenizer.eos_token=</s>", "+token=null", "x.batch_tokens=4",
         "x.api_key=''", "data.forget.source=https://host/file.txt", "-m", "--cfg", "job",
         "description=a,b x"],
        OmegaConf.create({"model": {"revision": KEY, "pad_token": "<pad>"}, "token": None,
                          "secret": 3, "max_new_tokens": 4}),
    )  # fmt: skip


@pytest.mark.parametrize(
    "experiment", sorted(path.stem for path in (config_folder() / "experiment").glob("*.yaml"))
)
def test_our_own_configurations_pass(experiment, compose_config):
    config = compose_config(
        f"experiment={experiment}", "logger=[wandb,csv]", "model.name_or_path=x",
        "++data.forget.source=x", "++data.retain.source=x",
    )  # fmt: skip
    check_secrets([], config)
