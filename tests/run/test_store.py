"""Kept results: found again, made once, never half."""

from __future__ import annotations

import threading

import pytest

from unlearning.run.output.store import Store, key_of, model_identity


def test_the_same_inputs_are_made_once(tmp_path):
    made = []

    def make(folder):
        folder.mkdir()
        (folder / "result").write_text("x")
        made.append(folder)

    store = Store(tmp_path)
    first, kept_first = store.get("base", {"a": 1, "b": 2}, make)
    second, kept_second = store.get("base", {"b": 2, "a": 1}, make)
    other, _ = store.get("base", {"a": 2, "b": 2}, make)
    assert (kept_first, kept_second, len(made)) == (False, True, 2)
    assert first == second != other
    assert (first / "result").read_text() == "x"


def test_a_failed_stage_leaves_nothing_that_would_be_reused(tmp_path):
    def fail(folder):
        folder.mkdir()
        (folder / "half").write_text("x")
        raise RuntimeError("killed")

    store = Store(tmp_path)
    with pytest.raises(RuntimeError):
        store.get("base", {"a": 1}, fail)
    assert not store.path("base", {"a": 1}).exists()
    folder, kept = store.get("base", {"a": 1}, lambda folder: folder.mkdir())
    assert not kept and not (folder / "half").exists()


def test_two_at_once_make_it_once(tmp_path):
    made, barrier = [], threading.Barrier(2)

    def work():
        barrier.wait()
        Store(tmp_path).get("base", {"a": 1}, lambda folder: (made.append(1), folder.mkdir()))

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == [1]


def test_the_key_depends_on_inputs_and_version(monkeypatch):
    before = key_of({"a": 1})
    assert before == key_of({"a": 1}) != key_of({"a": 2})
    monkeypatch.setattr("unlearning.run.output.store.__version__", "another")
    assert key_of({"a": 1}) != before


def test_a_model_folder_is_another_model_when_a_file_changes(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    before = model_identity(str(tmp_path))
    (tmp_path / "config.json").write_text("{ }")
    assert model_identity(str(tmp_path)) != before
    assert model_identity("facebook/opt-1.3b") == "facebook/opt-1.3b@main"
    assert model_identity("facebook/opt-1.3b", "abc") == "facebook/opt-1.3b@abc"
