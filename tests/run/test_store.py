"""Kept results: found again, made once, never half."""

from __future__ import annotations

import os
import threading

import pytest

from unlearning.files import aside_of
from unlearning.run.output.store import Store, key_of, model_identity
from unlearning.sums import SUMS


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


def _flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


DAMAGE = {
    "flipped": _flip,
    "cut": lambda path: os.truncate(path, path.stat().st_size // 2),
    "emptied": lambda path: os.truncate(path, 0),
    "removed": lambda path: path.unlink(),
}
FILES = ("generations.jsonl", "merged/model.safetensors", "inputs.json", SUMS)


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("name", FILES)
def test_whatever_happens_to_a_file_the_result_is_the_same(tmp_path, caplog, name, damage):
    made = []

    def make(folder):
        (folder / "merged").mkdir(parents=True)
        (folder / "merged/model.safetensors").write_bytes(bytes(range(200)))
        (folder / "generations.jsonl").write_text('{"index": 0}\n{"index": 1}\n')
        made.append(folder)

    def contents(folder):
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        return {str(path.relative_to(folder)): path.read_bytes() for path in files}

    folder, _ = Store(tmp_path).get("base", {"a": 1}, make)
    before = contents(folder)
    assert set(before) == set(FILES)
    DAMAGE[damage](folder / name)
    spoiled = contents(folder)
    with caplog.at_level("WARNING", logger="unlearning"):
        again, kept = Store(tmp_path).get("base", {"a": 1}, make)
    assert (again, kept, len(made)) == (folder, False, 2)
    assert contents(folder) == before
    assert contents(folder.with_name(f"{folder.name}.damaged-1")) == spoiled
    (line,) = caplog.messages
    assert "damaged" in line and (name in line or name == SUMS)
    assert Store(tmp_path).get("base", {"a": 1}, make) == (folder, True)


def test_a_file_in_the_place_of_a_result_is_set_aside(tmp_path):
    path = Store(tmp_path).path("base", {"a": 1})
    path.parent.mkdir()
    path.write_text("notes")
    folder, kept = Store(tmp_path).get("base", {"a": 1}, lambda folder: folder.mkdir())
    assert (folder, kept) == (path, False)
    assert path.with_name(f"{path.name}.damaged-1").read_text() == "notes"


def test_of_unfinished_results_those_that_nobody_makes_are_cleared(tmp_path):
    def fail(folder):
        folder.mkdir()
        (folder / "half").touch()
        os._exit(9)  # as kill -9 does: nothing is cleaned up

    child = os.fork()
    if not child:
        Store(tmp_path).get("base", {"a": 1}, fail)
    os.waitpid(child, 0)
    left = aside_of(Store(tmp_path).path("base", {"a": 1}))
    assert (left / "half").is_file()

    def make(folder):
        folder.mkdir()
        Store(tmp_path).remove_unfinished()
        assert folder.is_dir() and not left.exists()

    Store(tmp_path).get("base", {"a": 2}, make)
    Store(tmp_path / "nowhere").remove_unfinished()


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


def test_a_model_of_the_same_size_and_time_is_another_one(tmp_path):
    """As one of two fine-tuned models that were unpacked to the same place."""
    file = tmp_path / "model.gguf"
    file.write_bytes(bytes(1_000_000))
    os.utime(file, ns=(0, 0))
    before = model_identity(str(file))
    assert model_identity(str(file)) == before
    for start, end in ((0, 1), (500_000, 600_000), (999_999, 1_000_000)):
        content = bytearray(1_000_000)
        content[start:end] = b"\1" * (end - start)
        file.write_bytes(content)
        os.utime(file, ns=(0, 0))
        assert model_identity(str(file)) != before
