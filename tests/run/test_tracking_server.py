"""The way to a W&B server and back, against a stand-in that speaks as much of it as is needed.

Each in a process of its own: W&B takes its address and key from the environment once.
"""

from __future__ import annotations

import base64
import os
import socket
import subprocess
import sys
import threading
from contextlib import suppress

import pytest
from forked import run

from .wandb_files import offline_runs
from .wandb_server import wandb_server

KEY = "plantedplantedplantedplantedplantedplanted"
SCRIPT = """
import logging, os, sys, time
from pathlib import Path
from omegaconf import OmegaConf
import unlearning.run.tracking.wandb_run
from unlearning.run.tracking.trackers import Tracking
from unlearning.types import Generation

unlearning.run.tracking.wandb_run.FINISH_SECONDS = PATIENCE
logging.basicConfig(level=logging.WARNING, format="%(message)s")
folder = Path(sys.argv[1])
node = {"_target_": "lightning.pytorch.loggers.WandbLogger", "project": "p"}
config = OmegaConf.create({"name": "demo", "logger": {"wandb": node}})
with Tracking(config, folder) as tracking:
    for stage in ("base", "unlearn"):
        for logger in tracking.loggers(stage):
            logger.log_metrics({"train/loss": 1.0}, step=3)
    MEANWHILE
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


def track(tmp_path, address, meanwhile="", patience=20, **more):
    script = SCRIPT.replace("MEANWHILE", meanwhile).replace("PATIENCE", str(patience))
    return run(
        [sys.executable, "-c", script, str(tmp_path / "run")],
        env=environment(tmp_path, address, **more),
    )


def sync(tmp_path, address, words):
    return subprocess.run(
        f"{sys.executable} -m wandb sync {words}", shell=True, env=environment(tmp_path, address),
        text=True, capture_output=True, timeout=300,
    )  # fmt: skip


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
    runs = {run["jobType"]: run["name"] for run in received.runs().values()}
    assert set(runs) == {"base", "unlearn"}
    check_arrived(received, runs["unlearn"])
    assert received.exit_codes(runs["base"]) == [0]
    assert f"{address}/somebody/p/runs/{runs['unlearn']}" in result.stdout.replace("\n", "")
    login = "Basic " + base64.b64encode(f"api:{KEY}".encode()).decode()
    assert received.authorisations == {login}
    assert not [what for what in received.elsewhere if KEY.encode() in what]


def test_sync_sends_all_of_an_offline_run_that_was_killed_and_resumed(tmp_path):
    folder, rows = tmp_path / "run", 500
    files = "list(folder.glob('wandb/offline-run-*/*.wandb'))"
    written = f"sum(path.read_bytes().count(b'train/loss') for path in {files})"
    wait, kill = "[time.sleep(0.05) for _ in iter(lambda: {}, True)]; ", "os.kill(os.getpid(), 9)"
    begun, half = wait.format(f"len({files}) == 2"), wait.format(f"{written} > {rows / 2}")
    many = f"[logger.log_metrics({{'train/loss': 1.0}}, step=n) for n in range({rows})]; "
    # Before W&B writes anything, and in the midst of it.
    for meanwhile in (begun + kill, many + half + kill):
        result = track(tmp_path, None, meanwhile, WANDB_MODE="offline")
        assert result.returncode == -9
    result = track(tmp_path, None, WANDB_MODE="offline")
    assert result.returncode == 0 and result.stderr == ""
    first, second = offline_runs(folder, patience=0)["unlearn"]
    assert first.run.run_id == second.run.run_id and first.exit_code is None
    with wandb_server() as (address, received):
        result = sync(tmp_path, address, f"{folder}/wandb/offline-run-*")
    assert result.returncode == 0 and "ERROR" not in result.stderr
    run = first.run.run_id
    assert len(received.runs()) == 2, "the parts are one run"
    steps = [r["_step"] for r in received.lines(run, "wandb-history.jsonl") if "train/loss" in r]
    assert len(steps) >= rows / 2, "what had reached the disk"
    assert len(set(steps)) == len(steps) and steps == sorted(steps), "no row lies on another"
    assert received.exit_codes(run)[-1] == 0
    assert f"/put/report-{run}/report.html" in received.uploads


def test_a_server_that_never_answers_is_one_line_and_no_long_wait(tmp_path):
    """One connection, hence one wait, however many runs and uploads there are."""
    connections = []

    def accept():
        with suppress(OSError):  # closed
            while True:
                connections.append(server.accept()[0])

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=accept, daemon=True).start()
        result = track(tmp_path, f"http://127.0.0.1:{server.getsockname()[1]}")
        server.shutdown(socket.SHUT_RDWR)
        for connection in connections:
            connection.close()
    assert result.returncode == 0 and "done" in result.stdout
    [line] = result.stderr.strip().splitlines()
    assert "goes on offline" in line and "wandb sync" in line
    assert len(connections) == 1
    assert set(offline_runs(tmp_path / "run")) == {"base", "unlearn"}


def test_a_network_that_is_lost_later_loses_nothing(tmp_path):
    with wandb_server() as (address, first):
        stop = f"import urllib.request; urllib.request.urlopen({address!r} + '/stop')"
        result = track(tmp_path, address, stop, patience=3)
    assert result.returncode == 0, result.stderr
    asked = [what for what in first.elsewhere if b"viewer { id }" in what]
    assert len(asked) == 2, "at the start and after the loss, not at every call"
    [told] = [line for line in result.stderr.splitlines() if "goes on offline" in line]
    with wandb_server() as (address, received):
        result = sync(tmp_path, address, told.partition("wandb sync ")[2])
    [run] = {r["name"] for r in received.runs().values() if r["jobType"] == "unlearn"}
    assert run in {r["name"] for r in first.runs().values()}
    check_arrived(received, run)


def test_under_an_agent_the_run_is_the_sweeps(tmp_path):
    with wandb_server() as (address, received):
        result = track(
            tmp_path, address, WANDB_SWEEP_ID="sweep1", WANDB_RUN_ID="fromagent",
            WANDB_PROJECT="theirs", WANDB_ENTITY="somebody",
        )  # fmt: skip
    assert result.returncode == 0, result.stderr
    [run] = received.runs().values()
    assert (run["name"], run["sweep"], run["project"]) == ("fromagent", "sweep1", "theirs")
    check_arrived(received, "fromagent")
