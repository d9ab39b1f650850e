from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from unlearning.errors import ConfigError
from unlearning.report import write_report
from unlearning.report.figures import DASH

ATTACKS = ["<script>alert(1)</script>", "\"><img src=x onerror='alert(1)'>", "</pre></style>&lt;"]
EXPECTED_TAGS = {
    *(
        "html",
        "head",
        "meta",
        "title",
        "style",
        "body",
        "header",
        "footer",
        "main",
        "nav",
        "section",
    ),
    *(
        "article",
        "p",
        "h1",
        "h2",
        "h3",
        "dl",
        "dt",
        "dd",
        "div",
        "span",
        "strong",
        "em",
        "code",
        "a",
    ),
    *(
        "ul",
        "li",
        "i",
        "details",
        "summary",
        "table",
        "caption",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
    ),
    *("data", "figure", "figcaption", "pre", "svg", "text", "line", "path", "circle"),
}


def read(folder: Path) -> str:
    return write_report(folder).read_text(encoding="utf-8")


def planted(attack: str, metrics: dict[str, Any]) -> tuple[Any, str, list[str], str]:
    """The attack in every place whose text comes from outside."""
    kinds = {attack: "harmful", f"retain {attack}": "retain", "odd": attack}
    stages = {
        stage: {f"{name}/{m}": metrics["after"]["harmful_heldout/harmful_rate"]}
        for stage in ("before", "after", "change")
        for name in kinds
        for m in ("harmful_rate", "broken_rate", attack.replace("/", ""))
    }
    hostile = {
        **metrics,
        **stages,
        "prompt_sets": kinds,
        "notes": [attack],
        "stop_reason": attack,
        "seconds": {attack: 1.0},
        "versions": {attack: attack},
        "fingerprints": {attack: {attack: [attack]}},
        "classifier": {attack: attack, "threshold": 0.5},
        "settings": {attack: attack},
        "date": attack,
    }
    quoted = json.dumps(attack)
    config = (
        f"name: {quoted}\ndescription: {quoted}\n"
        f"data: {{forget: {{_target_: {quoted}, source: {quoted}}}, retain: {quoted}}}\n"
        f"model: {{name_or_path: {quoted}}}\nunlearn: {{optimizer: {quoted}}}\n"
        f"objective: {{{quoted}: {{loss: {quoted}, weight: {quoted}}}}}\n"
    )
    keys = ("prompt", "target", "completion", "prompt_set")
    rows = [
        json.dumps({"stage": s, "index": 0, **dict.fromkeys(keys, attack)}) for s in ("before", "x")
    ]
    column = attack.replace('"', '""')
    losses = f'step,"{column}","{column}_weighted"\n0,1.0,2.0\n1,2.0,3.0\n'
    return hostile, config, rows, losses


@pytest.mark.parametrize("attack", ATTACKS)
def test_text_from_outside_stays_text(attack, metrics, make_run, parse):
    page = parse(read(make_run(*planted(attack, metrics))))
    assert page.tags() <= EXPECTED_TAGS
    assert not [name for _, attrs in page.elements for name in attrs if name.startswith("on")]
    assert page.text.count(attack) > 25  # shown as it is, not dropped
    svg_labels = [attrs["aria-label"] for tag, attrs in page.elements if tag == "svg"]
    assert any(attack[:20] in label for label in svg_labels)


def test_page_loads_nothing(metrics, make_run, parse):
    html = read(make_run(metrics))
    page = parse(html)
    loading = ("src", "srcset", "data", "action", "poster", "xlink:href", "background")
    for tag, attrs in page.elements:
        assert not set(loading) & set(attrs), tag
        assert attrs.get("href", "#").startswith("#")
    assert not {"script", "link", "img", "iframe", "object", "embed", "base"} & page.tags()
    assert not re.search(r"url\(|@import|@font-face", page.style)
    assert not re.search(r"https?://|//[a-z]+\.", html)
    policy = next(a["content"] for _, a in page.elements if "Content-Security-Policy" in a.values())
    assert policy.startswith("default-src 'none'")
    assert "script-src" not in policy


def test_numbers_are_those_of_the_file(metrics, make_run, parse):
    page = parse(read(make_run(metrics)))
    entries = [e for s in ("before", "after", "change") for e in metrics[s].values() if e]
    expected = [entry["value"] for entry in entries]
    expected += [metrics["classifier"][key] for key in ("accuracy", "f1", "threshold")]
    assert sorted(page.values) == sorted(expected)
    for shown in (
        "81.2\xa0%",
        "70.0 to 90.0\xa0%",
        "\N{MINUS SIGN}75.0\xa0pts",
        "\N{MINUS SIGN}85.0 to \N{MINUS SIGN}65.0\xa0pts",
        "+2.0\xa0%",
    ):
        assert shown in page.text
    for shown in ("84.0 to 92.0", "50 harmful prompts", "1,000", "2 min 04 s", "1.83 GB"):
        assert shown in page.text


def test_every_part_is_there(metrics, make_run, parse):
    metrics |= {"stop_reason": "retain KL above 2 at step 40", "notes": ["3 answers were cut"]}
    page = parse(read(make_run(metrics)))
    for shown in (
        "Mildly harmful advice", "PKU (PKU-Alignment/PKU-SafeRLHF)", "Synthetic (everyday)",
        "retain KL above 2 at step 40", "3 answers were cut", "facebook/opt-1.3b", "LoRA, rank 16",
        "bounded_ascent (cap 10.0)", "unlearning.losses.bounded_ascent",
        "9f2c41d0", "retain.train", "2.13.0", "Content warning", "Broken is not safe",
        "Forget effective", "Retain intact", "Output sound", "No side damage",
        "All 4 checks passed.", "judged harmful: 0.97", "judged harmless: 0.02",
        "1 values not finite, not drawn",
    ):  # fmt: skip
        assert shown in page.text, shown


def test_a_reverted_run_says_so_before_its_figures(metrics, make_run, parse):
    metrics |= {"stop_reason": "a loss is not finite", "steps": 20, "kept_steps": 0}
    said = parse(read(make_run(metrics))).text
    assert "Reverted. The collapse guard put back the weights from before the first of 20" in said
    assert said.index("nothing was unlearned") < said.index("81.2")
    metrics["kept_steps"] = 9
    said = parse(read(make_run(metrics))).text
    assert "Stopped early. The collapse guard put back the weights after 9 of 20 steps." in said


def test_tables_and_pictures_are_accessible(metrics, make_run, parse):
    page = parse(read(make_run(metrics)))
    headers = [attrs for tag, attrs in page.elements if tag == "th"]
    assert headers and all(attrs.get("scope") in ("row", "col") for attrs in headers)
    pictures = [attrs for tag, attrs in page.elements if tag == "svg"]
    assert pictures and all(a["role"] == "img" and a["aria-label"] for a in pictures)
    tags = [tag for tag, _ in page.elements]
    assert tags.count("caption") == tags.count("table")
    ids = [attrs["id"] for _, attrs in page.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    targets = {a["href"][1:] for tag, a in page.elements if tag == "a"}
    assert targets <= set(ids)
    assert ("html", {"lang": "en"}) in page.elements


def test_harmful_answers_are_folded_away(metrics, make_run, parse):
    unknown = json.dumps({"stage": "after", "prompt_set": "unlisted", "completion": "x"})
    folder = make_run(metrics)
    with (folder / "generations.jsonl").open("a", encoding="utf-8") as file:
        file.write(unknown + "\n")
    sets = parse(read(folder)).with_class("set")
    # harmful_heldout, retain_heldout, and one of unknown kind, which counts as harmful
    assert ["open" in attrs for _, attrs in sets] == [False, True, False]


def test_examples_are_the_first_of_each_set_and_counted(metrics, make_run, parse):
    text = parse(read(make_run(metrics))).text
    assert "25 of 30 prompts" in text
    assert "before answer 24 of retain_heldout" in text
    assert "answer 25 of retain_heldout" not in text


PIECES = (
    *("before", "after", "change", "models", "metrics", "steps", "seconds", "peak_memory_mb"),
    *("fingerprints", "versions", "prompt_sets", "classifier", "stop_reason", "notes"),
)


@pytest.mark.parametrize("empty", [None, "absent"])
@pytest.mark.parametrize("key", PIECES)
def test_missing_pieces_leave_a_page(key, empty, metrics, make_run, parse):
    metrics[key] = None
    if empty == "absent":
        del metrics[key]
    page = parse(read(make_run(metrics)))
    assert "Did it work?" in page.text
    assert "None" not in page.text.replace("None recorded", "")


def test_nothing_but_empty_metrics(make_run, parse):
    page = parse(read(make_run({"after": {}}, config=None, generations=None, losses=None)))
    assert page.text.count("? not measured") == 4
    for absent in ("config.yaml", "generations.jsonl", "losses.csv"):
        assert f"No {absent} in the run folder." in page.text


@pytest.mark.parametrize("found", [{}, {"accuracy": 0.9}])
def test_metrics_of_something_else_are_refused(found, make_run):
    folder = make_run(found, config=None, generations=None, losses=None)
    with pytest.raises(ConfigError, match="none of the parts that an evaluation writes"):
        write_report(folder)
    assert not (folder / "report.html").exists()


def test_null_is_a_dash_and_infinity_is_not_a_crash(metrics, make_run, parse):
    metrics["after"]["retain_heldout/perplexity"] = {
        "value": float("inf"),
        "low": 5.0,
        "high": None,
    }
    metrics["before"]["related/rouge_accuracy"] = {"value": None, "low": None, "high": None, "n": 3}
    metrics["after"]["related/rouge_accuracy"] = float("nan")
    page = parse(read(make_run(metrics)))
    assert "∞" in page.text
    assert "nan" not in page.text.lower()
    assert DASH in page.text


def test_broken_output_is_made_visible(metrics, make_run):
    rows = [
        json.dumps({"stage": stage, "prompt_set": "retain_heldout", "index": 0, "completion": text})
        for stage, text in (("before", " \n\t"), ("after", "a\x00b\u202ec\ud800"))
    ]
    html = read(make_run(metrics, generations=rows))
    assert "only white space, 3 characters" in html
    assert "a␀b[U+202E]c[U+D800]" in html
    assert "\x00" not in html and "\u202e" not in html


def test_a_lone_surrogate_outside_the_answers_does_not_lose_the_page(metrics, make_run):
    metrics["notes"] = ["half a pair: \ud83d"]
    assert "half a pair: ?" in read(make_run(metrics))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("metrics.json", '{"before": ', "not valid JSON"),
        ("metrics.json", "[]", "expected a mapping"),
        ("config.yaml", "a: [", "not plain YAML"),
        ("config.yaml", "- a", "expected a mapping"),
        ("generations.jsonl", '{"stage": "before"}\n{"sta', "line 2"),
        ("losses.csv", "step,total\n0,much", "'much'"),
        ("losses.csv", "step,total\n0,1,2", "more cells"),
        ("metrics.json", "[" * 100_000, "nested too deeply"),
        ("metrics.json", '{"a": ' + "1" * 6000 + "}", "not valid JSON"),
        ("generations.jsonl", "[" * 100_000, "line 1"),
        ("config.yaml", "{" * 3000, "nested too deeply"),
        ("losses.csv", "step,total\n0,\udcff", "no UTF-8 text"),
    ],
)
def test_a_damaged_file_is_named(name, content, message, metrics, make_run):
    folder = make_run(metrics)
    (folder / name).write_text(content, encoding="utf-8", errors="surrogateescape")
    with pytest.raises(ConfigError, match=message) as error:
        write_report(folder)
    assert name in str(error.value)
    assert not (folder / "report.html").exists()


def test_a_folder_without_metrics_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"metrics\.json does not exist"):
        write_report(tmp_path)


@pytest.mark.parametrize("name", ["made.json", "report.html"])
def test_an_interrupted_write_keeps_the_old_page(metrics, make_run, monkeypatch, name):
    folder = make_run(metrics)
    old = read(folder)
    files = set(os.listdir(folder))
    (folder / "metrics.json").write_text(json.dumps({**metrics, "date": "another day"}))
    replace = os.replace

    def interrupted(source: str, target: Path) -> None:
        if target.name == name:
            raise KeyboardInterrupt
        replace(source, target)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(os, "replace", interrupted)
        write_report(folder)
    assert (folder / "report.html").read_text(encoding="utf-8") == old
    assert set(os.listdir(folder)) == files
    assert "another day" in read(folder)  # and it still counts as ours


def test_a_page_of_version_0_5_is_written_again_and_anything_else_is_not(metrics, make_run):
    """It has no record; what makes it ours is its head."""
    folder = make_run(metrics)
    page = read(folder)
    (folder / "made.json").unlink()
    assert read(folder) == page  # recognised, and recorded from now on
    for theirs in ("<!doctype html><title>Unlearning report: x</title>", "notes", page + " "):
        (folder / "report.html").write_text(theirs, encoding="utf-8")
        with pytest.raises(ConfigError, match=r"report\.html was not written by unlearning, or"):
            write_report(folder)
        assert (folder / "report.html").read_text(encoding="utf-8") == theirs


def test_the_page_is_the_same_each_time(metrics, make_run):
    folder = make_run(metrics)
    assert read(folder) == read(folder)


def test_report_never_imports_torch(metrics, make_run):
    code = (
        "import sys; from pathlib import Path; from unlearning.report import *; "
        "write_report(Path(sys.argv[1])); model_card({}, {}); "
        "heavy = {'torch', 'lightning', 'transformers', 'numpy'} & set(sys.modules); "
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code, str(make_run(metrics))], check=True)
