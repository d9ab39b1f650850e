"""The way to a W&B server and back, against a stand-in that speaks as much of it as is needed.

Each in a process of its own: W&B takes its address and key from the environment once.
"""

from __future__ import annotations

import base64
import os
import socket
import sys

import pytest
from forked import run

from .wandb_server import wandb_server

KEY = "plantedplantedplantedplantedplantedplanted"
SCRIPT = """
import logging, sys
from pathlib import Path
from omegaconf import OmegaConf
import unlearning.run.tracking.wandb_run as wandb_run
from unlearning.errors import ConfigError
from unlearning.run.tracking.trackers import Tracking
from unlearning.types import Generation

wandb_run.FINISH_SECONDS = 5
logging.basicConfig(level=logging.WARNING, format="%(message)s")
folder = Path(sys.argv[1])
node = {"_target_": "lightning.pytorch.loggers.WandbLogger", "project": "p"}
config = OmegaConf.create({"name": "demo", "logger": {"wandb": node}})
with Tracking(config, folder) as tracking:
    for stage in ("base", "unlearn"):
        for logger in tracking.loggers(stage):
            logger.log_metrics({"train/loss": 1.0}, step=3)
    if len(sys.argv) > 2:
        import urllib.request
        urllib.request.urlopen(sys.argv[2])
    said = [Generation(stage, "s", 0, "p", "r", stage) for stage in ("before", "after")]
    tracking.generations(said[:1], said[1:])
    (folder / "report.html").write_text("<html>")
    tracking.report(folder / "report.html", {"steps": 3})
print("done")
"""
pytestmark = pytest.mark.slow


def environment(tmp_path, address=None, **more):
    kept = {k: v for k, v in os.environ.items() if not k.startswith("WANDB_")}
    settings = {"HOME": str(tmp_path), "WANDB_API_KEY": KEY, "no_proxy": "*", **more}
    return {**kept, **settings, **({"WANDB_BASE_URL": address} if address else {})}


def track(tmp_path, address, *stop, **more):
    command = [sys.executable, "-c", SCRIPT, str(tmp_path / "run"), *stop]
    return run(command, env=environment(tmp_path, address, **more))


def check_arrived(received, run):
    [row] = [r for r in received.lines(run, "wandb-history.jsonl") if "train/loss" in r]
    assert (row["train/loss"], row["trainer/global_step"]) == (1.0, 3)
    assert received.lines(run, "wandb-summary.json")[-1]["steps"] == 3
    assert received.uploads[f"/put/report-{run}/report.html"] == b"<html>"
    assert b"before" in received.uploads[f"/put/run-{run}-generations/generations.table.json"]
    assert set(received.exit_codes(run)) == {0}


def test_everything_arrives_and_the_key_goes_into_its_header_alone(tmp_path):
    with wandb_server() as (address, received):
        result = track(tmp_path, address)
        assert result.returncode == 0, result.stderr
        [made] = received.runs().values()
        check_arrived(received, made["name"])
        assert f"{address}/somebody/p/runs/{made['name']}" in result.stdout.replace("\n", "")
        assert track(tmp_path, address).returncode == 0
        assert list(received.runs()) == [made["name"]], "resumed, another run was made"
    login = "Basic " + base64.b64encode(f"api:{KEY}".encode()).decode()
    assert received.authorisations == {login}
    assert not [what for what in received.elsewhere if KEY.encode() in what]


def test_without_a_server_no_work_starts(tmp_path):
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        result = track(tmp_path, address, WANDB_INIT_TIMEOUT="5")
    assert result.returncode == 1 and "done" not in result.stdout
    assert "ConfigError: W&B could not start a run" in result.stderr


def test_a_network_that_is_lost_ends_nothing_and_says_how_to_send_the_rest(tmp_path):
    with wandb_server() as (address, _):
        result = track(tmp_path, address, f"{address}/stop")
    assert result.returncode == 0 and "done" in result.stdout, result.stderr
    assert f"wandb sync {tmp_path}/run/wandb/run-" in result.stderr
    assert (tmp_path / "run/report.html").is_file()


def test_under_an_agent_the_run_is_the_sweeps(tmp_path):
    with wandb_server() as (address, received):
        result = track(
            tmp_path, address, WANDB_SWEEP_ID="sweep1", WANDB_RUN_ID="fromagent",
            WANDB_PROJECT="theirs", WANDB_ENTITY="somebody",
        )  # fmt: skip
    assert result.returncode == 0, result.stderr
    [made] = received.runs().values()
    assert (made["name"], made["sweep"], made["project"]) == ("fromagent", "sweep1", "theirs")
    check_arrived(received, "fromagent")
