"""The command line, as a person types it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from forked import run
from omegaconf import OmegaConf

from unlearning.errors import ConfigError
from unlearning.run.start import start

COMMAND = [sys.executable, "-m", "unlearning.cli"]


@pytest.fixture
def environment(tmp_path):
    return {**os.environ, "UNLEARNING_CACHE": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "1"}


def call(arguments, folder, environment):
    return run([*COMMAND, *arguments], folder, environment)


def test_bad_input_is_one_line_and_exit_code_2(tmp_path, environment):
    result = subprocess.run(
        [*COMMAND, "experiment=demo", "objective.forget.wieght=1"],
        cwd=tmp_path, env=environment, text=True, capture_output=True,
    )  # fmt: skip
    assert result.returncode == 2
    assert result.stderr.startswith("error: Unknown configuration key 'objective.forget.wieght'")
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "runs").exists()


def test_wrong_values_are_all_that_is_said(tmp_path, environment):
    result = call(["experiment=demo", "seed=abc", "cache_dir=null"], tmp_path, environment)
    assert result.returncode == 2 and result.stderr.startswith(
        "error: 2 settings are wrong:\n  seed="
    )
    assert not any((tmp_path / "runs").glob("*/*"))  # no run folder is left


@pytest.mark.parametrize("words", [["report", ""], ["resume="]])
def test_an_empty_name_is_not_the_working_folder(words, tmp_path, environment):
    (tmp_path / "0").mkdir()
    (tmp_path / "0/metrics.json").write_text('{"after": {}}')
    result = call(words, tmp_path, environment)
    assert result.returncode == 2 and "run" in result.stderr and "older>" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["0"]


def test_a_finished_folder_is_refused_before_anything_is_written(tmp_path, environment):
    (tmp_path / "done").mkdir()
    (tmp_path / "done/metrics.json").write_text("{}")
    result = call(["experiment=demo", "hydra.run.dir=done"], tmp_path, environment)
    assert result.returncode == 2 and "never overwritten" in result.stderr
    assert [path.name for path in (tmp_path / "done").iterdir()] == ["metrics.json"]


@pytest.mark.parametrize("folder", ["nowhere", "."])
def test_resume_needs_a_run_folder(folder, tmp_path, environment):
    result = call([f"resume={folder}"], tmp_path, environment)
    assert result.returncode == 2 and "no run folder" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["resume=s"], "s is a sweep. To go on with it: unlearn -m sweep.resume=s"),
        (["report", "nowhere"], "nowhere is no folder"),
        (["experiment=demo", "seed=0,1"], "holds several values"),
    ],
)
def test_what_was_meant_is_said(arguments, said, tmp_path, environment):
    (tmp_path / "s").mkdir()
    (tmp_path / "s/sweep.json").write_text("{}")
    result = call(arguments, tmp_path, environment)
    assert result.returncode == 2 and said in result.stderr


def test_what_shows_something_shows_it_with_m_too(tmp_path, environment):
    result = call(["-m", "experiment=demo", "--cfg", "job"], tmp_path, environment)
    assert result.returncode == 0 and "name: demo" in result.stdout
    assert call(["--version"], tmp_path, environment).stdout.startswith("unlearning ")


@pytest.mark.parametrize(
    ("raised", "code"), [("ctrl_c", 130), ("lightning", 130), ("exit", 3), ("config", 2)]
)
def test_ctrl_c_in_any_stage_says_how_to_go_on(raised, code, tmp_path, monkeypatch, capsys):
    def stop(*_):
        if raised == "exit":
            sys.exit(3)
        if raised == "config":
            raise ConfigError("no such layer")
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            if raised == "ctrl_c":
                raise
            sys.exit(1)  # so does a Trainer, in a training

    for name in ("check", "set_up_logging"):
        monkeypatch.setattr(f"unlearning.run.start.{name}", lambda *_: 1)
    monkeypatch.setattr(
        "unlearning.run.start.prepare",
        lambda config, folder, resume: (folder / "config.yaml").write_text(""),
    )
    monkeypatch.setattr("unlearning.run.start.go", stop)
    if raised == "exit":
        with pytest.raises(SystemExit) as left:
            start(OmegaConf.create({"validate": False}), tmp_path)
        assert left.value.code == code
    else:
        assert start(OmegaConf.create({"validate": False}), tmp_path) == code
    assert (f"unlearn resume={tmp_path}" in capsys.readouterr().err) == (code == 130)


@pytest.mark.slow
def test_ctrl_c_saves_and_resume_ends_as_if_nothing_had_happened(tmp_path, environment):
    common = ["experiment=demo", "trainer=debug", "debug.steps=30", "callbacks.checkpoint=null"]
    whole = call([*common, "hydra.run.dir=whole"], tmp_path, environment)
    assert whole.returncode == 0, whole.stderr

    process = subprocess.Popen(
        [*COMMAND, *common, "hydra.run.dir=broken"], cwd=tmp_path, env=environment,
        text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    losses = tmp_path / "broken/losses.csv"
    deadline = time.monotonic() + 300
    while not losses.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=300)
    if process.returncode == 0:
        pytest.fail("the run ended before it could be interrupted")
    assert process.returncode == 130, output
    assert "unlearn resume=" in output
    assert not (tmp_path / "broken/metrics.json").exists()

    resumed = call(["resume=broken"], tmp_path, environment)
    assert resumed.returncode == 0, resumed.stderr
    expected = json.loads((tmp_path / "whole/metrics.json").read_text())
    found = json.loads((tmp_path / "broken/metrics.json").read_text())
    assert found["after"] == expected["after"] and found["steps"] == expected["steps"]
    assert read_weights(tmp_path / "broken") == read_weights(tmp_path / "whole")
    assert (tmp_path / "broken/losses.csv").read_text() == (
        tmp_path / "whole/losses.csv"
    ).read_text()


def read_weights(folder: Path) -> bytes:
    return (folder / "model/model.safetensors").read_bytes()
