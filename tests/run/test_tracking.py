"""Trackers, written to disk and read back."""

from __future__ import annotations

import csv
import json
import logging
import os
import sys

import pytest
import wandb
from lightning import Trainer
from lightning.pytorch.demos.boring_classes import BoringModel
from omegaconf import OmegaConf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from unlearning.errors import ConfigError
from unlearning.run.tracking.trackers import Tracking
from unlearning.types import Generation

from .wandb_files import offline_parts

METRICS = {"after": {"s/harmful_rate": {"value": 0.25}}, "steps": 3, "reference": "Cached"}
WANDB = {"wandb": {"_target_": "lightning.pytorch.loggers.WandbLogger", "project": "p"}}
CSV = {"csv": {"_target_": "lightning.pytorch.loggers.CSVLogger"}}
BOARD = {"tensorboard": {"_target_": "lightning.pytorch.loggers.TensorBoardLogger"}}


@pytest.fixture(autouse=True)
def offline(monkeypatch, tmp_path_factory):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path_factory.mktemp("waiting")))
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


def test_the_stages_share_a_run(tmp_path):
    sweep = {"name": "grid", "job": "objective.forget.weight=0.25"}
    folder = tmp_path / "7"
    with Tracking(config(WANDB, sweep=sweep), folder) as tracking:
        log(tracking, "classifier", step=9, **{"train/loss": 1.0})
        tracking.evaluated("classifier", {"accuracy": 0.75, "bins": {"a": 1.0}, "id": "x"})
        log(tracking, "unlearn", step=5, **{"train/forget": 2.0})
        report(tracking, folder)
    [run] = offline_parts(folder)
    assert run.run.run_group == "grid" and run.run.display_name == sweep["job"]
    assert run.run.project == "p" and run.exit_code == 0
    assert run.config["sweep"] == sweep and run.config["seed"] == 1
    assert run.of("stats"), "system metrics"
    judge, main = (row for row in run.history if "trainer/global_step" in row)
    assert (judge["classifier/train/loss"], judge["trainer/global_step"]) == (1, 9)
    assert (main["train/forget"], main["trainer/global_step"]) == (2, 5)
    expected = {"after.s/harmful_rate.value": 0.25, "reference": "Cached", "steps": 3}
    expected |= {"classifier.accuracy": 0.75, "classifier.id": "x"}
    assert expected.items() <= run.summary.items()
    assert "classifier.bins.a" not in run.summary, "it has what one compares runs by"
    [artifact] = [a for a in run.of("artifact") if a.type == "report"]
    assert sorted(entry.path for entry in artifact.manifest.contents) == [
        "metrics.json",
        "report.html",
    ]
    assert json.loads((folder / "wandb.json").read_text()) == {"id": run.run.run_id}


def test_without_a_sweep_runs_are_grouped_by_folder(tmp_path):
    with Tracking(config(WANDB), tmp_path / "2026-01-31"):
        pass
    [part] = offline_parts(tmp_path / "2026-01-31")
    assert (part.run.run_group, part.run.display_name) == ("2026-01-31", "demo")


def test_name_and_group_can_be_chosen_and_offline_is_the_runs_alone(tmp_path, monkeypatch):
    monkeypatch.delenv("WANDB_MODE")
    mine = {**WANDB["wandb"], "offline": True, "name": "mine", "group": "ours"}
    with Tracking(config({"wandb": mine}), tmp_path):
        pass
    [part] = offline_parts(tmp_path)
    assert (part.run.run_group, part.run.display_name) == ("ours", "mine")
    assert "WANDB_MODE" not in os.environ


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
        log(tracking, "unlearn", a=1.0)
        raise error
    [part] = offline_parts(tmp_path)
    assert part.exit_code == code
    assert bool(part.of("preempting")) == (code == 143)


def test_a_resumed_run_goes_on_in_its_run(tmp_path):
    loggers = {**WANDB, **CSV}
    with Tracking(config(loggers), tmp_path) as tracking:
        log(tracking, "unlearn", step=1, a=1.0)
        tracking.stopped(143)
    [first] = offline_parts(tmp_path)
    (tmp_path / "wandb").rename(tmp_path / "earlier")  # W&B's names tell seconds apart, not less
    with Tracking(config(loggers), tmp_path) as tracking:
        log(tracking, "unlearn", step=2, a=2.0)
        report(tracking, tmp_path)
    [second] = offline_parts(tmp_path)
    assert first.run.run_id == second.run.run_id
    assert (first.exit_code, second.exit_code) == (143, 0) and first.of("preempting")
    assert second.summary["steps"] == 3
    assert [rows(tmp_path / f"csv/{name}/metrics.csv")[0]["a"] for name in ("unlearn", "unlearn-2")]


def test_a_run_of_version_0_4_goes_on_in_the_run_of_its_unlearning(tmp_path):
    (tmp_path / "wandb.json").write_text('{"base": "one", "unlearn": "two"}')
    with Tracking(config(WANDB), tmp_path):
        pass
    [part] = offline_parts(tmp_path)
    assert part.run.run_id == "two"


@pytest.mark.parametrize("text", ["", "[]", "{"])
def test_a_damaged_record_of_the_run_is_refused(tmp_path, text):
    (tmp_path / "wandb.json").write_text(text)
    with (
        pytest.raises(ConfigError, match=r"wandb\.json .*damaged.*Remove it"),
        Tracking(config(WANDB), tmp_path),
    ):
        pass


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
    [run] = offline_parts(tmp_path)
    assert [row["trainer/global_step"] for row in run.history] == [1, 3]
    assert all("train/loss" in row for row in run.history)
    assert run.config["seed"] == 1, "a module's argument lay on the configuration's key"
    assert len(rows(tmp_path / "csv/unlearn/metrics.csv")) == 2


def test_a_tracker_that_fails_at_the_end_ends_nothing(tmp_path, monkeypatch, caplog):
    def broken(*_, **__):
        raise ConnectionError("gone\nand more")

    with (
        caplog.at_level(logging.WARNING, "unlearning"),
        Tracking(config(WANDB), tmp_path) as tracking,
    ):
        [logger] = tracking.loggers("unlearn")
        run = logger.experiment
        for name in ("log", "log_artifact", "finish"):
            monkeypatch.setattr(type(run), name, broken)
        tracking.generations([], [])
        report(tracking, tmp_path)
    assert [record.getMessage().count("gone") for record in caplog.records] == [1] * 3
    assert f"wandb sync {tmp_path}/wandb/offline-run-" in caplog.records[-1].getMessage()
    assert all("\n" not in record.getMessage() for record in caplog.records)
    monkeypatch.undo()
    run.finish()


def test_a_run_that_cannot_be_started_is_said_before_any_work(tmp_path, monkeypatch):
    def broken(**_):
        raise wandb.errors.CommError("the server\ndoes not answer")

    monkeypatch.setattr(wandb, "init", broken)
    with (
        pytest.raises(ConfigError, match=r"could not start a run: the server. .*offline=true"),
        Tracking(config(WANDB), tmp_path),
    ):
        pytest.fail("work has started")


def test_wandb_is_imported_only_where_it_is_wanted(tmp_path):
    import subprocess

    code = (
        "import sys; from omegaconf import OmegaConf\n"
        "from unlearning.run.tracking.trackers import Tracking\n"
        "with Tracking(OmegaConf.create({'logger': {}}), '.') as t: t.loggers('unlearn')\n"
        "assert 'wandb' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)
