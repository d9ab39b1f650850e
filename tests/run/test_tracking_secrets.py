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

    refused(["a=https://me:p:w@host/x"])
    refused([f"a=https://{KEY}@host/x"])
    refused(["a=https://host/x?b=1&access_token=abcdefgh"])
    for shape in ("sk-", "ghp_", "github_pat_", "hf_"):
        refused([f"a={shape}{'x1' * 12}"])
        refused(config={"a": [{"b": f"with {shape}{'x1' * 12}"}]})
    refused([f"+x.wandb_key={KEY}"])
    refused([f"+{'hf_' + 'x' * 34}=1"])


@pytest.mark.parametrize(
    ("word", "key"),
    [
        ("+logger.x={_target_: a.b, api_key: 'zz zz', n: 1}", "logger.x.api_key"),
        ("+logger.x={a: {b: [{password: zz}]}}", "logger.x.a.b[0].password"),
        ("+x.api_key=[zz,yy]", "x.api_key[0]"),
        ("+x.password=12345", "x.password"),
        ("logger={a: 1},{api_key: zz}", "logger.api_key"),
        ("logger=choice({hf_token: zz},2)", "logger.hf_token"),
        ("+x='{api_key: zz}'", "x"),
        ("+x={api_key: 'zz", "x"),  # does not parse, and would be repeated by who says so
        ("+x.api_key={", "x.api_key"),
    ],
)
def test_a_secret_inside_a_value(word, key):
    with pytest.raises(ConfigError) as caught:
        check_secrets([word])
    assert str(caught.value).startswith(f"{key} holds") and "zz" not in str(caught.value)


@pytest.mark.parametrize("value", [["zz"], 12345, [[1234567]]])
def test_lists_and_numbers_of_a_configuration(value):
    assert "x.api_key" in refused(config={"x": {"api_key": value}})


def test_nothing_is_written_for_a_sweep(tmp_path, monkeypatch, capsys):
    """Neither sweep.json nor a folder, nor the key on the terminal."""
    from unlearning.cli import main

    monkeypatch.chdir(tmp_path)
    word = f"+logger.x={{_target_: a.b, api_key: {KEY}}}"
    for words in (["-m", "seed=0,1"], [], ["-m", "hydra/launcher=slurm_local", "seed=0,1"]):
        monkeypatch.setattr("sys.argv", ["unlearn", *words, "experiment=demo", word])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        assert ended.value.code == 2 and KEY not in said.out + said.err
        assert "logger.x.api_key" in said.err and not list(tmp_path.iterdir())


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
         "x.api_key=''", "token=5", "x=range(1,3)", "git=ssh://git@host/x",
         "data.forget.source=https://host/file.txt", "-m", "--cfg", "job",
         "description=a,b x"],
        OmegaConf.create({"model": {"revision": KEY, "pad_token": "<pad>"}, "token": None,
                          "secrets": 3, "max_new_tokens": 4, "key_of_rows": "id", "secret": []}),
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
