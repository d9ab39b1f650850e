"""The run folder: who holds it, and what it was made with."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest
from omegaconf import OmegaConf

from unlearning.errors import ConfigError
from unlearning.files.made import Made
from unlearning.run.config.debug import limited
from unlearning.run.output.claim import CLAIM, claim, remove_if_empty
from unlearning.run.output.run_folder import FINGERPRINTS, check_folder, load_config, save_config
from unlearning.run.output.same_run import (
    check_config,
    check_data_unchanged,
    config_differences,
)
from unlearning.run.pipeline import prepare

HOLD = (
    "import sys, time\n"
    "from pathlib import Path\n"
    "from unlearning.run.output.claim import claim\n"
    "with claim(Path(sys.argv[1])):\n"
    "    print('held', flush=True); time.sleep(60)\n"
)


# --- may it be used? -----------------------------------------------------------------------------


def test_a_finished_run_is_never_overwritten(tmp_path):
    (tmp_path / "metrics.json").write_text("{}")
    (tmp_path / "report.html").write_text("")
    for resume in (False, True):
        with pytest.raises(ConfigError, match="never overwritten"):
            check_folder(tmp_path, resume)


def test_a_run_that_lacks_its_report_alone_may_be_resumed(tmp_path):
    (tmp_path / "metrics.json").write_text("{}")
    with pytest.raises(ConfigError, match="never overwritten"):
        check_folder(tmp_path)
    check_folder(tmp_path, resume=True)


@pytest.mark.parametrize("left", ["checkpoints/step=3.ckpt", "unlearned.json"])
def test_an_interrupted_run_is_not_run_over(tmp_path, left):
    """Of a run without checkpoints: its model would pass for the one of the new settings."""
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / left).touch()
    with pytest.raises(ConfigError, match="unlearn resume="):
        check_folder(tmp_path)
    check_folder(tmp_path, resume=True)


THEIRS = (
    "config.yaml", "losses.csv", "samples.jsonl", "generations.jsonl", "seconds.json", "README.md",
    "model/config.json", "checkpoints/notes", "run.log", "report.html", "thesis.tex", ".git/HEAD",
    ".env", "0/metrics.json",
)  # fmt: skip


@pytest.mark.parametrize("name", THEIRS)
def test_a_folder_with_what_no_run_made_is_refused(tmp_path, name):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("theirs")
    with pytest.raises(ConfigError, match="holds what this run has not made") as refused:
        check_folder(tmp_path)
    assert name.split("/")[0] in str(refused.value)
    assert (tmp_path / name).read_text() == "theirs"


def test_a_new_folder_may_hold_a_lock_a_shells_log_and_what_nobody_minds(tmp_path):
    check_folder(tmp_path / "new")
    for name in (CLAIM, ".job.lock", "job.log", ".gitignore", "nohup.out", "slurm-7.err"):
        (tmp_path / name).touch()
    for name in ("lost+found", ".hydra"):
        (tmp_path / name).mkdir()
    check_folder(tmp_path)


def test_a_run_that_ended_without_a_result_leaves_its_folder_to_the_next(compose_config, tmp_path):
    prepare(compose_config("experiment=demo"), tmp_path)
    for name in ("run.log", "fingerprints.json", "losses.csv"):
        (tmp_path / name).touch()
    check_folder(tmp_path)


def test_a_report_on_a_folder_of_runs_makes_no_run_of_it(tmp_path):
    Made(tmp_path).write({"sweep.html": b""}, lambda found: False)
    with pytest.raises(ConfigError, match=r"made\.json, sweep\.html"):
        check_folder(tmp_path)


@pytest.mark.parametrize("resume", [False, True])
def test_a_damaged_record_is_known_before_any_work(compose_config, tmp_path, resume):
    prepare(compose_config("experiment=demo"), tmp_path)
    (tmp_path / "made.json").write_text("")
    with pytest.raises(ConfigError, match=r"made\.json .*Move it away"):
        check_folder(tmp_path, resume)


@pytest.mark.parametrize("resume", [False, True])
def test_what_a_killed_run_had_half_written_is_cleared(compose_config, tmp_path, resume):
    config = compose_config("experiment=demo")
    prepare(config, tmp_path)
    (tmp_path / ".model.partial").mkdir()
    (tmp_path / ".model.partial/model.safetensors").touch()
    (tmp_path / ".losses.csv.partial").touch()
    prepare(config, tmp_path, resume)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.yaml", "made.json"]


# --- two runs on one folder ----------------------------------------------------------------------


@pytest.fixture
def holder(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "run")], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_the_second_run_refuses_and_names_the_first(tmp_path, holder):
    with (
        pytest.raises(ConfigError, match=rf"Another run works in .*process {holder.pid} on"),
        claim(tmp_path / "run"),
    ):
        pass


def test_a_killed_run_lets_go(tmp_path, holder):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert (tmp_path / "run" / CLAIM).is_file()  # what it wrote is of no consequence
    with claim(tmp_path / "run"):
        assert (tmp_path / "run" / CLAIM).read_text().startswith(f"{os.getpid()} on ")
    assert not (tmp_path / "run" / CLAIM).exists()


def test_whoever_inherits_the_handle_holds_the_folder_too(tmp_path):
    """A rank that outlives the process that started it."""
    with claim(tmp_path) as handle:
        child = subprocess.Popen(["sleep", "60"], pass_fds=[handle])
        name = tmp_path / CLAIM
        os.link(name, tmp_path / "kept")
    os.rename(tmp_path / "kept", name)  # as if this process had been killed before it removed it
    with pytest.raises(ConfigError, match="Another run"), claim(tmp_path):
        pass
    child.kill()
    child.wait()
    with claim(tmp_path):
        pass


def test_the_same_process_may_claim_one_after_the_other(tmp_path):
    for _ in range(2):
        with claim(tmp_path), pytest.raises(ConfigError, match=str(os.getpid())), claim(tmp_path):
            pass
    assert list(tmp_path.iterdir()) == []


def test_a_lock_that_was_removed_while_one_waited_for_it_is_taken_anew(tmp_path, monkeypatch):
    """The owner unlinks the file and lets go between our opening it and our locking it."""
    import fcntl

    flock, calls = fcntl.flock, []

    def late(handle, how):
        calls.append(handle)
        if len(calls) == 1:
            (tmp_path / CLAIM).unlink()
        flock(handle, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with claim(tmp_path):
        assert len(calls) == 2 and (tmp_path / CLAIM).is_file()


def test_a_disk_that_knows_no_locks(tmp_path, monkeypatch, caplog):
    import fcntl

    def no_locks(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with claim(tmp_path):
        assert "cannot be locked" in caplog.text


# --- the configuration ---------------------------------------------------------------------------


def test_a_saved_configuration_equals_itself(compose_config, tmp_path):
    config = limited(compose_config("experiment=demo", "trainer=debug"))
    save_config(config, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.yaml", "made.json"]
    again = limited(compose_config("experiment=demo", "trainer=debug", "validate=true"))
    assert config_differences(OmegaConf.load(tmp_path / "config.yaml"), again) == []
    check_config(tmp_path, again)


def test_what_differs_is_named_with_both_values(compose_config, tmp_path):
    save_config(compose_config("experiment=demo"), tmp_path)
    given = compose_config(
        "experiment=demo", "objective.forget.weight=0.5", "model.lora={r:8}", "callbacks.guard=null"
    )
    with pytest.raises(ConfigError) as refused:
        check_config(tmp_path, given)
    lines = str(refused.value).splitlines()
    assert "objective.forget.weight: 0.25 in the run, 0.5 now" in str(refused.value)
    assert "model.lora: None in the run, absent now" in str(refused.value)
    assert "model.lora.r: absent in the run, 8 now" in str(refused.value)
    assert any(line.startswith("  callbacks.guard.retain_kl: ") for line in lines)
    assert lines[-1].endswith("start a run of its own.")


def test_differences_in_lists_and_numbers():
    saved = OmegaConf.create({"a": [1, 2], "b": [{"x": 1}, {"x": 2}], "c": 1, "d": float("nan")})
    given = OmegaConf.create({"a": [1, 3], "b": [{"x": 1}, {"x": 3}], "c": 1.0, "d": float("nan")})
    found = {d.key: (d.saved, d.given) for d in config_differences(saved, given)}
    assert found == {"a[1]": (2, 3), "b[1].x": (2, 3)}


def test_a_folder_without_a_run(compose_config, tmp_path):
    with pytest.raises(ConfigError, match="no run folder"):
        check_config(tmp_path, compose_config("experiment=demo"))


# --- the data ------------------------------------------------------------------------------------


def test_a_run_that_begins_anew_forgets_data_and_times_of_the_one_before(compose_config, tmp_path):
    check_data_unchanged(tmp_path, {"forget": "one"})
    (tmp_path / "seconds.json").write_text('{"base": 9.0}')
    prepare(compose_config("experiment=demo"), tmp_path, resume=True)
    assert (tmp_path / "seconds.json").exists()
    prepare(compose_config("experiment=demo"), tmp_path)
    assert not (tmp_path / "seconds.json").exists()
    check_data_unchanged(tmp_path, {"forget": "two"})


def test_only_an_empty_folder_goes(tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").touch()
    (tmp_path / "empty").mkdir()
    for name in ("full", "empty", "empty", "never"):
        remove_if_empty(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["full"]


@pytest.mark.parametrize("text", ["", "{", "[]", "null"])
def test_a_damaged_record_of_the_data_is_refused(tmp_path, text):
    (tmp_path / FINGERPRINTS).write_text(text)
    with pytest.raises(ConfigError, match=r"fingerprints\.json .*damaged.*remove that file"):
        check_data_unchanged(tmp_path, {"forget": "one"})


@pytest.mark.parametrize("text", ["", "a: [1", "[1]", "a: ${", "\0"])
def test_a_damaged_configuration_is_refused(tmp_path, text):
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"config\.yaml .*cut off or edited"):
        load_config(tmp_path)


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(ConfigError, match=r"The run folder .*file/run cannot be written"),
        claim(tmp_path / "file/run"),
    ):
        pass


def test_other_data_are_refused_by_name(tmp_path):
    found = {"forget": "a" * 64, "retain": "b" * 64}
    check_data_unchanged(tmp_path, found)
    assert json.loads((tmp_path / FINGERPRINTS).read_text()) == found
    check_data_unchanged(tmp_path, dict(reversed(found.items())))
    with pytest.raises(ConfigError, match=r"data\.retain \(b{12}\.\.\. then, c{12}\.\.\. now\)"):
        check_data_unchanged(tmp_path, {**found, "retain": "c" * 64})
    with pytest.raises(ConfigError, match=r"data\.related \(none then, d{12}"):
        check_data_unchanged(tmp_path, {**found, "related": "d" * 64})
    assert json.loads((tmp_path / FINGERPRINTS).read_text()) == found


@pytest.mark.parametrize("text", ["{" * 3000, "a: &a [*a]"])
def test_a_configuration_beyond_reading_is_refused(tmp_path, text):
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(ConfigError, match="nested too deeply"):
        load_config(tmp_path)
