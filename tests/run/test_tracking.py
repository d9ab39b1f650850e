"""Trackers, written to disk and read back."""

from __future__ import annotations

import csv
import json
import logging
import os
import sys

import pytest
from lightning import Trainer
from lightning.pytorch.demos.boring_classes import BoringModel
from omegaconf import OmegaConf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from unlearning.run.tracking.trackers import Tracking
from unlearning.types import Generation

from .wandb_files import offline_runs

METRICS = {"after": {"s/harmful_rate": {"value": 0.25}}, "steps": 3, "reference": "Cached"}
WANDB = {"wandb": {"_target_": "lightning.pytorch.loggers.WandbLogger", "project": "p"}}
CSV = {"csv": {"_target_": "lightning.pytorch.loggers.CSVLogger"}}
BOARD = {"tensorboard": {"_target_": "lightning.pytorch.loggers.TensorBoardLogger"}}


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    for name in ("WANDB_SWEEP_ID", "WANDB_RUN_ID"):
        monkeypatch.delenv(name, raising=False)


def config(loggers, **settings):
    return OmegaConf.create({"name": "demo", "seed": 1, "logger": loggers, **settings})


def report(tracking, folder):
    (folder / "report.html").write_text("<html>")
    (folder / "metrics.json").write_text("{}")
    tracking.report(folder / "report.html", METRICS)


def log(tracking, stage, step=0, **values):
    for logger in tracking.loggers(stage):
        logger.log_metrics(values, step=step)
        logger.save()


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_each_stage_is_a_run_of_its_own(tmp_path):
    sweep = {"name": "grid", "job": "objective.forget.weight=0.25"}
    folder = tmp_path / "7"
    with Tracking(config(WANDB, sweep=sweep), folder) as tracking:
        log(tracking, "classifier", **{"train/loss": 1.0})
        tracking.evaluated("classifier", {"accuracy": 0.75})
        log(tracking, "unlearn", step=5, **{"train/forget": 2.0})
        report(tracking, folder)
    runs = offline_runs(folder)
    assert {stage: len(parts) for stage, parts in runs.items()} == {"classifier": 1, "unlearn": 1}
    for [part] in runs.values():
        assert part.run.run_group == "grid" and part.run.display_name == sweep["job"]
        assert part.run.project == "p" and part.exit_code == 0
        assert part.config["sweep"] == sweep and part.config["seed"] == 1
        assert part.of("stats"), "system metrics"
    [main], [judge] = runs["unlearn"], runs["classifier"]
    assert judge.history[0]["train/loss"] == 1 and judge.summary["classifier.accuracy"] == 0.75
    assert (main.history[0]["train/forget"], main.history[0]["trainer/global_step"]) == (2, 5)
    expected = {"after.s/harmful_rate.value": 0.25, "reference": "Cached", "steps": 3}
    assert expected.items() <= main.summary.items()
    assert main.summary["classifier.accuracy"] == 0.75, "all scores in one place"
    [artifact] = [a for a in main.of("artifact") if a.type == "report"]
    assert sorted(entry.path for entry in artifact.manifest.contents) == [
        "metrics.json",
        "report.html",
    ]
    waiting = [entry.local_path for entry in artifact.manifest.contents]
    assert all(path.startswith(str(folder)) and os.path.isfile(path) for path in waiting)


def test_without_a_sweep_runs_are_grouped_by_folder(tmp_path):
    with Tracking(config(WANDB), tmp_path / "2026-01-31") as tracking:
        log(tracking, "unlearn", a=1.0)
    [part] = offline_runs(tmp_path / "2026-01-31")["unlearn"]
    assert (part.run.run_group, part.run.display_name) == ("2026-01-31", "demo")


def test_answers_are_a_table(tmp_path):
    said = [Generation(stage, "s", 0, "Why?", "r", stage) for stage in ("before", "after")]
    with Tracking(config(WANDB), tmp_path) as tracking:
        tracking.generations(said[:1], said[1:])
    [path] = tmp_path.glob("wandb/offline-run-*/files/media/table/generations_*.json")
    table = json.loads(path.read_text())
    row = dict(zip(table["columns"], table["data"][0], strict=True))
    assert (row["prompt"], row["before"], row["after"]) == ("Why?", "before", "after")


@pytest.mark.parametrize(
    ("error", "code"),
    [(ValueError, 1), (KeyboardInterrupt, 130), (SystemExit(143), 143), (SystemExit("no"), 1)],
)
def test_a_run_is_finished_whatever_happens(error, code, tmp_path):
    with pytest.raises(BaseException), Tracking(config(WANDB), tmp_path) as tracking:  # noqa: B017
        log(tracking, "classifier", a=1.0)
        log(tracking, "unlearn", a=1.0)
        raise error
    runs = offline_runs(tmp_path)
    assert (runs["classifier"][0].exit_code, runs["unlearn"][0].exit_code) == (0, code)
    assert bool(runs["unlearn"][0].of("preempting")) == (code == 143)


def test_a_resumed_stage_goes_on_in_its_run(tmp_path):
    loggers = {**WANDB, **CSV}
    with Tracking(config(loggers), tmp_path) as tracking:
        log(tracking, "unlearn", step=1, a=1.0)
        tracking.stopped(143)
    offline_runs(tmp_path)  # whole, as a process that resumes finds it
    with Tracking(config(loggers), tmp_path) as tracking:
        log(tracking, "unlearn", step=2, a=2.0)
        report(tracking, tmp_path)
    first, second = offline_runs(tmp_path)["unlearn"]
    assert first.run.run_id == second.run.run_id
    assert (first.exit_code, second.exit_code) == (143, 0) and first.of("preempting")
    assert [rows(tmp_path / f"csv/{name}/metrics.csv")[0]["a"] for name in ("unlearn", "unlearn-2")]


def test_what_was_unlearned_before_a_resume_is_reported_in_its_run(tmp_path):
    with Tracking(config(WANDB), tmp_path) as tracking:
        log(tracking, "unlearn", a=1.0)
    offline_runs(tmp_path)  # whole, as a process that resumes finds it
    with Tracking(config(WANDB), tmp_path) as tracking:
        report(tracking, tmp_path)
    first, second = offline_runs(tmp_path)["unlearn"]
    assert first.run.run_id == second.run.run_id and second.exit_code == 0
    assert second.summary["steps"] == 3


def test_csv_and_tensorboard_have_folders_by_stage(tmp_path):
    with Tracking(config({**CSV, **BOARD}), tmp_path) as tracking:
        log(tracking, "classifier", step=1, loss=1.5)
        log(tracking, "unlearn", step=2, loss=2.5)
        tracking.evaluated("before", {"s": {"harm": 0.5}})
        report(tracking, tmp_path)
    assert rows(tmp_path / "csv/classifier/metrics.csv") == [{"loss": "1.5", "step": "1"}]
    [scores] = rows(tmp_path / "csv/scores/metrics.csv")
    assert (scores["before.s.harm"], scores["after.s/harmful_rate.value"]) == ("0.5", "0.25")
    board = EventAccumulator(str(tmp_path / "tensorboard/unlearn")).Reload()
    assert [(e.step, e.value) for e in board.Scalars("loss")] == [(2, 2.5)]
    board = EventAccumulator(str(tmp_path / "tensorboard/scores")).Reload()
    assert board.Scalars("after.s/harmful_rate.value")[0].value == 0.25
    assert not (tmp_path / "wandb").exists() and not (tmp_path / "wandb.json").exists()


@pytest.mark.parametrize("way", ["another rank", "no logger", "disabled"])
def test_nothing_is_tracked(way, tmp_path, monkeypatch):
    if way == "disabled":
        monkeypatch.setenv("WANDB_MODE", "disabled")
    loggers = {} if way == "no logger" else {**WANDB, **(CSV if way == "another rank" else {})}
    with Tracking(config(loggers), tmp_path, rank=int(way == "another rank")) as tracking:
        assert tracking.loggers("unlearn") == []
        tracking.evaluated("before", {"a": 1})
        tracking.generations([], [])
        tracking.report(tmp_path / "report.html", METRICS)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
def test_lightning_trains_with_it_and_the_configuration_stays(tmp_path):
    class Module(BoringModel):
        def __init__(self, seed):
            super().__init__()
            self.save_hyperparameters()

        def training_step(self, batch, batch_idx):
            loss = super().training_step(batch, batch_idx)["loss"]
            self.log("train/loss", loss)
            return loss

    with Tracking(config({**WANDB, **CSV}), tmp_path) as tracking:
        trainer = Trainer(
            accelerator="cpu", max_steps=4, log_every_n_steps=2, limit_val_batches=0,
            logger=tracking.loggers("unlearn"), enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False,
        )  # fmt: skip
        trainer.fit(Module(seed={"of": "the module"}))
    [run] = offline_runs(tmp_path)["unlearn"]
    assert [row["trainer/global_step"] for row in run.history] == [1, 3]
    assert all("train/loss" in row for row in run.history)
    assert run.config["seed"] == 1, "a module's argument lay on the configuration's key"
    assert len(rows(tmp_path / "csv/unlearn/metrics.csv")) == 2


def test_a_tracker_that_fails_ends_nothing(tmp_path, monkeypatch, caplog):
    with (
        caplog.at_level(logging.WARNING, "unlearning"),
        Tracking(config(WANDB), tmp_path) as tracking,
    ):
        [logger] = tracking.loggers("unlearn")

        def broken(*_, **__):
            raise ConnectionError("gone\nand more")

        for name in ("log", "log_artifact", "finish"):
            monkeypatch.setattr(type(logger.experiment), name, broken)
        run = logger.experiment
        logger.log_metrics({"a": 1.0})
        tracking.generations([], [])
        report(tracking, tmp_path)
    assert [record.getMessage().count("gone") for record in caplog.records] == [1] * 4
    assert "wandb sync" in caplog.records[-1].getMessage()
    assert all("\n" not in record.getMessage() for record in caplog.records)
    monkeypatch.undo()
    run.finish()


def test_no_start_no_tracking_and_one_line(tmp_path, monkeypatch, caplog):
    import unlearning.run.tracking.wandb_logger as module

    def broken(**_):
        raise OSError("no space")

    monkeypatch.setattr(module, "start_run", broken)
    with Tracking(config({**WANDB, **CSV}), tmp_path) as tracking:
        assert [type(x).__name__ for x in tracking.loggers("base")] == ["CSVLogger"]
        assert len(tracking.loggers("unlearn")) == 1
        report(tracking, tmp_path)
    assert [r.getMessage() for r in caplog.records if "no space" in r.getMessage()] == [
        "W&B could not be started, and tracks nothing: no space"
    ]


def test_the_environment_is_left_as_it_was(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_SILENT", "false")
    before = dict(os.environ)
    with Tracking(config(WANDB), tmp_path):
        assert os.environ["WANDB_DATA_DIR"].startswith(str(tmp_path))
        assert os.environ["WANDB_SILENT"] == "false", "the user's own"
    assert dict(os.environ) == before


def test_a_missing_key_is_one_line_and_the_run_goes_on(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    with Tracking(config(WANDB), tmp_path / "run") as tracking:
        log(tracking, "base", a=1.0)
        log(tracking, "unlearn", a=1.0)
    told = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert len(told) == 1 and "WANDB_API_KEY" in told[0] and "wandb sync" in told[0]
    assert set(offline_runs(tmp_path / "run")) == {"base", "unlearn"}


def test_wandb_is_imported_only_where_it_is_wanted(tmp_path):
    import subprocess

    code = (
        "import sys; from omegaconf import OmegaConf\n"
        "from unlearning.run.tracking.trackers import Tracking\n"
        "with Tracking(OmegaConf.create({'logger': {}}), '.') as t: t.loggers('unlearn')\n"
        "assert 'wandb' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)
