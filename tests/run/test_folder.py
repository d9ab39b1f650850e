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
from unlearning.run.config.debug import limited
from unlearning.run.output.run_folder import (
    CLAIM,
    FINGERPRINTS,
    check_config,
    check_data_unchanged,
    check_folder,
    claim,
    config_differences,
    remove_if_empty,
    save_config,
)
from unlearning.run.pipeline import prepare

HOLD = (
    "import sys, time\n"
    "from pathlib import Path\n"
    "from unlearning.run.output.run_folder import claim\n"
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
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]
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


def test_a_model_that_no_run_has_made_is_not_in_the_way(tmp_path):
    (tmp_path / "model").mkdir()
    with pytest.raises(ConfigError, match="holds a model and no run"):
        check_folder(tmp_path)
    (tmp_path / "config.yaml").write_text("seed: 0")
    check_folder(tmp_path, resume=True)
