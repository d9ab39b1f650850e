"""The record of what was written: nobody else's file is overwritten or taken for ours."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from unlearning.errors import ConfigError
from unlearning.files.made import RECORD, Made, content_sum


def never(content: bytes) -> bool:
    return False


def write(folder: Path, content: bytes, name: str = "report.html", recognised=never) -> None:
    Made(folder).write({name: content}, recognised)


def test_what_we_wrote_is_written_again(tmp_path):
    for content in (b"one", b"two", b"three"):
        write(tmp_path, content)
        assert (tmp_path / "report.html").read_bytes() == content
    assert sorted(os.listdir(tmp_path)) == [RECORD, "report.html"]


@pytest.mark.parametrize("before", [False, True])
def test_what_a_user_wrote_or_edited_is_refused_and_left(tmp_path, before):
    if before:
        write(tmp_path, b"ours")
    (tmp_path / "report.html").write_bytes(b"theirs")
    with pytest.raises(ConfigError, match=r"report\.html was not written by unlearning, or was ch"):
        write(tmp_path, b"new")
    assert (tmp_path / "report.html").read_bytes() == b"theirs"
    (tmp_path / "report.html").rename(tmp_path / "mine.html")
    write(tmp_path, b"new")
    assert (tmp_path / "report.html").read_bytes() == b"new"


def test_of_several_files_none_is_written_where_one_is_not_ours(tmp_path):
    (tmp_path / "metrics.csv").write_bytes(b"theirs")
    with pytest.raises(ConfigError, match=r"metrics\.csv"):
        Made(tmp_path).write({"sweep.html": b"page", "metrics.csv": b"table"}, never)
    assert os.listdir(tmp_path) == ["metrics.csv"]


def test_a_file_from_before_there_was_a_record_is_ours_if_it_is_recognised(tmp_path):
    (tmp_path / "report.html").write_bytes(b"old page")
    write(tmp_path, b"new", recognised=lambda found: found == b"old page")
    # From now on the record decides: the same text, put there by a user, is the user's.
    write(tmp_path, b"newer", recognised=lambda found: True)
    (tmp_path / "report.html").write_bytes(b"old page")
    with pytest.raises(ConfigError):
        write(tmp_path, b"new", recognised=lambda found: True)


@pytest.mark.parametrize("name", ["folder", "link"])
def test_what_is_no_file_is_not_ours(tmp_path, name):
    path = tmp_path / "report.html"
    path.mkdir() if name == "folder" else path.symlink_to(tmp_path / "nowhere")
    with pytest.raises(ConfigError):
        write(tmp_path, b"new", recognised=lambda found: True)


@pytest.mark.parametrize("text", ["{}", "[]", "{", '{"by": "me", "made": {}}', '{"by": 1}', ""])
def test_a_record_of_somebody_else_is_left_alone(tmp_path, text):
    (tmp_path / RECORD).write_text(text)
    with pytest.raises(ConfigError, match=r"made\.json should say .*Move it away"):
        write(tmp_path, b"new")
    assert (tmp_path / RECORD).read_text() == text


def test_a_folder_is_ours_to_the_byte(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model/weights").write_bytes(b"ours")
    made = Made(tmp_path)
    assert not made.owns("model") and not made.has("model")
    made.note("model", content_sum(tmp_path / "model"))
    assert Made(tmp_path).owns("model") and Made(tmp_path).has("model")
    (tmp_path / "model/weights").write_bytes(b"hers")
    assert not Made(tmp_path).owns("model")
    (tmp_path / "model/weights").write_bytes(b"ours")
    (tmp_path / "model/notes").touch()
    assert not Made(tmp_path).owns("model")


def test_writers_side_by_side_leave_a_file_that_is_ours(tmp_path):
    contents = [str(number).encode() * 1000 for number in range(8)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda content: write(tmp_path, content), contents))
    assert (tmp_path / "report.html").read_bytes() in contents
    write(tmp_path, b"last")
    assert sorted(os.listdir(tmp_path)) == [RECORD, "report.html"]
    assert json.loads((tmp_path / RECORD).read_text())["by"].startswith("unlearning ")
