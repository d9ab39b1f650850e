"""Configuration folders of one's own, and modules in the working folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from sweep.conftest import calls, stand_in  # noqa: F401  (a fixture)

from unlearning import cli
from unlearning.errors import ConfigError
from unlearning.run import start as start_module
from unlearning.run.config.overrides import check_overrides
from unlearning.run.config.searchpath import with_searchpath

OWN_EXPERIMENT = """
# @package _global_
defaults:
  - /experiment/demo
name: own
objective:
  forget:
    weight: 0.125
"""


@pytest.fixture
def own(tmp_path, monkeypatch) -> Path:
    """The working folder, with `my conf/` in it; holds the word that stands for it."""
    (tmp_path / "my conf/experiment").mkdir(parents=True)
    (tmp_path / "my conf/experiment/own.yaml").write_text(OWN_EXPERIMENT)
    (tmp_path / "my conf/flavour").mkdir()
    (tmp_path / "my conf/flavour/sweet.yaml").write_text("sugar: 1")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def word(folder: Path) -> str:
    return f"hydra.searchpath=['file://{folder}/my conf']"


@pytest.mark.parametrize(
    "arguments",
    [
        ["--config-dir", "my conf", "seed=1"],
        ["--config-dir=my conf", "seed=1"],
        ["-cd", "my conf", "seed=1"],
        ["seed=1", "hydra.searchpath=['file://my conf']"],
        ["seed=1", "-cd", "my conf", "hydra.searchpath=['my conf']"],
    ],
)
def test_every_way_to_name_a_folder_becomes_one_setting(own, arguments):
    assert with_searchpath(arguments) == [word(own), "seed=1"]


def test_other_sources_and_other_words_stay(own):
    assert with_searchpath(["-m", "--cfg", "job"]) == ["-m", "--cfg", "job"]
    assert with_searchpath(["--cfg", "job", "hydra.searchpath=[pkg://mine.conf]"]) == [
        "--cfg", "job", "hydra.searchpath=['pkg://mine.conf']",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config-dir", "nowhere"], r"nowhere does not exist \(looked for .*/nowhere\)"),
        (["--config-dir"], "--config-dir needs a folder"),
        (["hydra.searchpath=here"], "expected a list of folders"),
        (["hydra.searchpath=[1]"], "expected a list of folders"),
        (["hydra.searchpath=["], "searchpath"),
    ],
)
def test_no_folder(own, arguments, message):
    with pytest.raises(ConfigError, match=message):
        with_searchpath(arguments)


def test_a_file_that_ours_would_hide_is_named(own):
    (own / "my conf/experiment/demo.yaml").write_text(OWN_EXPERIMENT)
    with pytest.raises(ConfigError, match=r"holds experiment/demo\.yaml, which the package's own"):
        with_searchpath(["--config-dir", "my conf"])


def test_its_groups_are_choices_and_its_keys_are_known(own):
    config = check_overrides([word(own), "experiment=own", "+flavour=sweet"])
    assert config.name == "own" and config.objective.forget.weight == 0.125
    assert config.flavour.sugar == 1
    config = check_overrides(["-m", word(own), "experiment=demo,own", "+flavour=sweet", "seed=1,2"])
    assert config.name == "demo"
    with pytest.raises(ConfigError, match=r"no experiment=onw; there is .*own"):
        check_overrides(["-m", word(own), "experiment=own,onw"])
    with pytest.raises(ConfigError, match="Did you mean 'seed'"):
        check_overrides([word(own), "experiment=own", "sed=1"])


def test_models_are_told_from_folders(own, monkeypatch):
    started = []
    monkeypatch.setattr(sys, "argv", ["unlearn"])
    monkeypatch.setattr(start_module, "start", lambda c, *a, **b: started.append(c) or 0)
    words = ["--config-dir=my conf", "one", "-cd", "my conf", "two", "experiment=own"]
    assert cli._main(["evaluate", *words]) == 0
    [config] = started
    assert (config.model.name_or_path, config.compare_with) == ("one", "two")


@pytest.mark.parametrize("resumed", [False, True])
def test_a_run_and_its_resume_compose_with_it(own, resumed, monkeypatch):
    started = []
    monkeypatch.setattr(sys, "argv", ["unlearn"])
    monkeypatch.setattr(start_module, "start", lambda *a, **b: started.append((*a, b)) or 0)
    (own / "run").mkdir()
    (own / "run/config.yaml").write_text("name: own")
    words = ["--config-dir", "my conf", "experiment=own"]
    assert cli._main([*words, "resume=run" if resumed else "hydra.run.dir=run"]) == 0
    [(config, folder, resume, settings)] = started
    assert (config.name, folder, resume) == ("own", own / "run", resumed)
    assert settings == {"compare": resumed}


def test_a_sweep_gives_it_to_its_jobs_and_keeps_it(own, stand_in, monkeypatch):  # noqa: F811
    words = ["-m", "--config-dir", "my conf", "experiment=own", "hydra.sweep.dir=s"]
    assert cli._main([*words, "objective.forget.weight=1,13"]) == 1
    assert word(own) in calls(own / "s/0")[0]["words"]
    stored = json.loads((own / "s/sweep.json").read_text())["overrides"]
    assert word(own) in stored
    # From elsewhere, without the flag; and with it, from here.
    (own / "elsewhere").mkdir()
    monkeypatch.chdir(own / "elsewhere")
    assert cli._main(["-m", f"sweep.resume={own / 's'}"]) == 0
    monkeypatch.chdir(own)
    assert cli._main([*words[:4], "objective.forget.weight=1,13", "sweep.resume=s"]) == 0
    assert [len(calls(own / f"s/{n}")) for n in range(2)] == [1, 2]


OWN_MODULE = """
def own_loss(tokens):
    return tokens.nll.mean()
"""
CONSOLE_SCRIPT = "import sys\nfrom unlearning.cli import main\nsys.exit(main())"


@pytest.mark.slow
@pytest.mark.parametrize("sweep", [False, True])
def test_the_console_script_finds_modules_of_the_working_folder(own, sweep):
    (own / "my_losses.py").write_text(OWN_MODULE)
    (own / "bin").mkdir()
    (own / "bin/unlearn").write_text(CONSOLE_SCRIPT)
    words = ["experiment=own", "objective.retain.loss=my_losses.own_loss", "validate=true"]
    result = subprocess.run(
        [sys.executable, own / "bin/unlearn", *["-m"] * sweep, "--config-dir", "my conf", *words],
        env={**os.environ, "HF_HUB_OFFLINE": "1"}, cwd=own, text=True, capture_output=True,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr + result.stdout
    assert ("1 of 1 jobs finished" if sweep else "0.125 x forget") in result.stdout


def test_a_safe_path_stays_safe(own, monkeypatch):
    monkeypatch.setattr(sys, "path", [str(own / "bin")])
    cli.make_working_folder_importable()
    cli.make_working_folder_importable()
    assert sys.path == [str(own), str(own / "bin")]


def test_python_p_keeps_the_working_folder_out(own):
    code = (
        "import sys\nfrom unlearning.cli import make_working_folder_importable as make\n"
        "make()\nprint(sys.path)"
    )
    said = subprocess.run([sys.executable, "-P", "-c", code], text=True, capture_output=True)
    assert repr(str(own)) not in said.stdout and said.returncode == 0
