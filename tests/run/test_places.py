"""Run folder and cache: whether they can be written is known before any work."""

from __future__ import annotations

import os

import pytest

from unlearning.errors import ConfigError
from unlearning.run.checks.places import check_losses, check_places, make_cache


@pytest.fixture
def demo(compose_config):
    return lambda cache: compose_config("experiment=demo", f"cache_dir={cache}")


def test_folders_that_are_still_to_be_made_are_fine(demo, tmp_path):
    check_places(demo(tmp_path / "a/cache"), tmp_path / "b/run")
    check_places(demo(tmp_path / "run/cache"), tmp_path / "run")
    check_places(demo(tmp_path), tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("cache", ["null", "''"])
def test_kept_results_need_a_folder(demo, tmp_path, cache):
    with pytest.raises(ConfigError, match=r"cache_dir=.*expected a folder"):
        check_places(demo(cache), tmp_path)


@pytest.mark.parametrize("below", ["", "/below/it"])
def test_a_file_is_no_folder(demo, tmp_path, below):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"cache_dir=.*file cannot be written: .*is a file"):
        check_places(demo(f"{tmp_path}/file"), tmp_path / "run")
    with pytest.raises(ConfigError, match=r"The run folder .*cannot be written: .*is a file"):
        check_places(demo(tmp_path), tmp_path / f"file{below}")


def test_a_folder_without_permission(demo, tmp_path, monkeypatch):
    """Asked of the system, since a test may run as root, who may write everywhere."""
    shut = tmp_path / "shut"
    shut.mkdir()
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: path != shut and access(path, mode))
    with pytest.raises(ConfigError, match=r"cache_dir=.*no permission to write in .*shut"):
        check_places(demo(shut / "cache"), tmp_path / "run")
    with pytest.raises(ConfigError, match=r"The run folder .*no permission to write"):
        check_places(demo(tmp_path), shut)


def test_a_disk_that_takes_nothing_is_known_when_the_run_begins(demo, tmp_path, monkeypatch):
    make_cache(demo(tmp_path / "a/cache"))
    assert list((tmp_path / "a/cache").iterdir()) == []

    def full(**_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.TemporaryFile", full)
    with pytest.raises(ConfigError, match=r"cache_dir=.*cannot be written: .*No space left"):
        make_cache(demo(tmp_path / "a/cache"))
    with pytest.raises(ConfigError, match=r"cache_dir=/proc/none/cache cannot be written"):
        make_cache(demo("/proc/none/cache"))  # which takes no folders, whatever the rights


@pytest.mark.parametrize("inside", ["", "/model", "/checkpoints/cache"])
def test_the_cache_does_not_lie_among_the_files_of_the_run(demo, tmp_path, inside):
    with pytest.raises(ConfigError, match="lies among the files of the run"):
        check_places(demo(f"{tmp_path}/run{inside}"), tmp_path / "run")


@pytest.mark.parametrize("text", ["", "x", "a,b\n", "step,learning_rate\nten,1\n"])
def test_a_damaged_loss_curve_is_named(tmp_path, text):
    check_losses(tmp_path)
    (tmp_path / "losses.csv").write_text("step,learning_rate\n1,0.5\n2,")
    check_losses(tmp_path)
    (tmp_path / "losses.csv").write_text(text)
    with pytest.raises(ConfigError, match=r"losses\.csv is damaged.*Move it away"):
        check_losses(tmp_path)
