"""The page of a comparison as a browser would read it."""

from __future__ import annotations

import json
import re

import pytest

from unlearning.cli import main
from unlearning.errors import ConfigError
from unlearning.report.compare import read_results, write_comparison
from unlearning.report.compare.picture import find_marks, front

from .comparisons import write_comparison_folder
from .test_results import FAR, GOOD, NEAR, POOR, compared

ATTACK = "<script>alert(1)</script>"


def rows(html: str, name: str) -> list[str]:
    (table,) = re.findall(rf'<table class="compared" id="{name}">(.*?)</table>', html, re.DOTALL)
    return re.findall(r"<tr[^>]*>.*?</tr>", table, re.DOTALL)[1:]


def test_the_page_is_sound_and_has_every_part(tmp_path, parse):
    html = write_comparison(compared(tmp_path)).read_text(encoding="utf-8")
    found = parse(html)
    ids = [e["id"] for _, e in found.elements if "id" in e]
    assert len(ids) == len(set(ids))
    for target in [e["href"] for tag, e in found.elements if tag == "a"]:
        assert target[1:] in ids if target[0] == "#" else (tmp_path / target).is_file(), target
    assert "script" not in found.tags() and not re.search(r"https?://|\bsrc=|@import|url\(", html)
    assert "None" not in found.text and "nan" not in found.text.split()
    assert [re.findall(r'<data value="([\d.]+)', row)[0][:5] for row in rows(html, "methods")] == [
        "0.21", "0.211", "0.51",
    ]  # fmt: skip
    assert len(rows(html, "picked")) == 3 and len(rows(html, "differences")) == 6
    alike = [row for row in rows(html, "differences") if row.startswith('<tr class="alike">')]
    assert "paper and npo" in alike[0] and "not told apart" in alike[0]
    assert not any("paper and rmu" in row for row in alike)


def test_all_trials_are_in_one_picture_and_the_picked_ones_marked(tmp_path, parse):
    html = write_comparison(compared(tmp_path)).read_text(encoding="utf-8")
    (picture,) = re.findall(r'<svg class="plot".*?</svg>', html, re.DOTALL)
    marks = re.findall(r'<g class="trial (m\d)( front)?( picked)?" data-setting="(\d+)">', picture)
    assert sorted(int(job) for *_, job in marks) == [0, 1, 2, 6, 7, 8, 12, 13]
    assert {job for *_, picked, job in marks if picked} == {"1", "7", "12"}
    assert {colour for colour, *_, job in marks if job in ("6", "7", "8")} == {"m1"}
    assert re.findall(r'class="letter m\d"[^>]*>([^<]*)<', picture) == ["rmu", "paper", "npo"]
    assert "Not drawn: 1 trials without finite figures." in html


def test_the_front_is_over_all_methods(tmp_path):
    """Of (0.5, 1), (0.2, 4), (0.1, 20) twice and (0.6, 9), (0.1, 40) the last two are beaten."""
    results = read_results(compared(tmp_path))
    marks = find_marks(results, results.main[1])
    best = front(marks, results.main[0], results.main[1])
    assert [m.job.name for m in best] == ["0", "6", "1", "7", "2", "8"]


def test_what_a_sweep_says_is_never_markup(tmp_path, parse):
    methods = {ATTACK: (GOOD, NEAR), "npo": (POOR, FAR)}
    html = write_comparison(write_comparison_folder(tmp_path, methods)).read_text()
    assert "script" not in parse(html).tags() and "alert(1)" in parse(html).text


@pytest.mark.parametrize("name", ["comparison.html", "metrics.csv"])
def test_a_file_of_somebody_else_is_never_overwritten(tmp_path, name):
    (compared(tmp_path) / name).write_text("theirs")
    with pytest.raises(ConfigError, match=f"{name} was not written by unlearning"):
        write_comparison(tmp_path)


def test_unlearn_report_writes_it_again(tmp_path, monkeypatch, capsys):
    compared(tmp_path)
    monkeypatch.setattr("sys.argv", ["unlearn", "report", str(tmp_path)])
    main()
    assert capsys.readouterr().out.strip() == str(tmp_path / "comparison.html")
    assert (tmp_path / "comparison.html").is_file() and not (tmp_path / "sweep.html").exists()


def test_a_method_without_steps_says_so(tmp_path):
    folder = compared(tmp_path)
    for job in read_results(folder).arms[2].trials[:2]:
        edited = {**job.metrics, "steps": 0}
        (job.folder / "metrics.json").write_text(json.dumps(edited), encoding="utf-8")
    found = rows(write_comparison(folder).read_text(encoding="utf-8"), "methods")
    assert ["no unlearning steps" in row for row in found] == [False, False, True]
