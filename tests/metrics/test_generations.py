from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from unlearning.errors import ConfigError
from unlearning.metrics.choice import choice_accuracy, choice_accuracy_norm
from unlearning.metrics.generations import by_prompt_set, read_generations, write_generations
from unlearning.types import AlternativeScore, Generation

ROW = Generation("before", "retain", 0, "Who?", "Me.", "You.", 3, True, 0.25, 4.5, 2)


def test_round_trip_keeps_every_field_and_character(tmp_path: Path) -> None:
    odd = replace(ROW, index=1, completion='"q"\n\r\u2028 ü 😀 \x00 \ud83d', harm_probability=None)
    rows = [ROW, odd, replace(ROW, index=2, finished=False, target_nll=None)]
    path = tmp_path / "new" / "generations.jsonl"
    write_generations(path, rows)
    assert read_generations(path) == rows
    assert path.read_text(encoding="utf-8").count("\n") == 3


def test_what_is_not_finite_becomes_null(tmp_path: Path) -> None:
    path = tmp_path / "g.jsonl"
    write_generations(path, [replace(ROW, target_nll=math.inf, harm_probability=math.nan)])
    row = json.loads(path.read_text())
    assert (row["target_nll"], row["harm_probability"]) == (None, None)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "g.jsonl"
    write_generations(path, [ROW])

    def broken() -> object:
        yield ROW
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        write_generations(path, broken())  # type: ignore[arg-type]
    assert read_generations(path) == [ROW]
    assert [p.name for p in tmp_path.iterdir()] == ["g.jsonl"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2 is not JSON"),
        ("[1]", "holds a list"),
        ('{"stage": "before"}', "lacks .*completion"),
        (json.dumps({**ROW.to_dict(), "score": 1}), "unknown keys .*score"),
        (json.dumps({**ROW.to_dict(), "index": "0"}), "index is '0'; expected int"),
        (json.dumps({**ROW.to_dict(), "index": True}), "index is True; expected int"),
        (json.dumps({**ROW.to_dict(), "completion": None}), "completion is None"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "g.jsonl"
    path.write_text(json.dumps(ROW.to_dict()) + "\n" + line + "\n")
    with pytest.raises(ConfigError, match=message):
        read_generations(path)


def test_a_missing_or_foreign_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no generations at"):
        read_generations(tmp_path / "none.jsonl")
    (tmp_path / "latin.jsonl").write_bytes("\u00fc".encode("latin-1"))
    with pytest.raises(ConfigError, match="not UTF-8"):
        read_generations(tmp_path / "latin.jsonl")


def test_pairs_by_set_and_index_in_any_order() -> None:
    rows = [replace(ROW, prompt_set=s, index=i) for s in ("b", "a") for i in (2, 0, 1)]
    after = [replace(row, stage="after") for row in reversed(rows)]
    pairs = by_prompt_set({"before": rows, "after": after})
    assert sorted(pairs) == ["a", "b"]
    for before_rows, after_rows in (sides.values() for sides in pairs.values()):
        assert [g.index for g in before_rows] == [g.index for g in after_rows] == [0, 1, 2]
        assert {g.stage for g in after_rows} == {"after"}


def test_what_does_not_pair_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"only before.*same prompts"):
        by_prompt_set({"before": [ROW, replace(ROW, index=1)], "after": [ROW]})
    with pytest.raises(ConfigError, match="twice in the generations after"):
        by_prompt_set({"before": [ROW], "after": [ROW, ROW]})
    for other in ({"prompt": "What?"}, {"target": "No."}):
        with pytest.raises(ConfigError, match="differs between before and after"):
            by_prompt_set({"before": [ROW], "after": [replace(ROW, **other)]})


def test_three_stages_pair_with_the_original_in_front() -> None:
    rows = [replace(ROW, index=i) for i in (1, 0)]
    stages = {name: [replace(r, stage=name) for r in rows] for name in ("before", "after")}
    first = [replace(row, stage="original") for row in reversed(rows)]
    ((name, sides),) = by_prompt_set({"original": first, **stages}).items()
    assert name == "retain"
    assert [[(g.stage, g.index) for g in side] for side in sides.values()] == [
        [(stage, 0), (stage, 1)] for stage in ("original", "before", "after")
    ]
    with pytest.raises(ConfigError, match=r"only original.*same prompts original and before"):
        by_prompt_set({"original": rows, "before": rows[:1], "after": rows[:1]})


def test_scores_of_alternatives_survive_the_file(tmp_path: Path) -> None:
    scores = {"choices": (AlternativeScore("a", 1.5, 2, 0.25), AlternativeScore("b", 2.0, 1))}
    known = replace(ROW, split="test", alternatives=scores, label=1)
    write_generations(tmp_path / "g.jsonl", [known, ROW])
    assert read_generations(tmp_path / "g.jsonl") == [known, ROW]
    second = (tmp_path / "g.jsonl").read_text().splitlines()[1]
    assert "alternatives" not in second  # costs nothing where there are none
    (tmp_path / "g.jsonl").write_text(json.dumps({**ROW.to_dict(), "alternatives": {"x": [1]}}))
    with pytest.raises(ConfigError, match="expected lists of text, nll"):
        read_generations(tmp_path / "g.jsonl")


def test_one_model_alone_needs_no_partner() -> None:
    assert by_prompt_set({"model": [ROW]}) == {"retain": {"model": [ROW]}}


def test_scores_of_running_text_survive_the_file(tmp_path: Path) -> None:
    known = replace(ROW, target_matches=3, target_suffix=0, verbatim_tokens=None)
    write_generations(tmp_path / "g.jsonl", [known])
    assert read_generations(tmp_path / "g.jsonl") == [known]


def test_a_likelihood_that_is_not_finite_is_written_and_leaves_its_metric_undefined(tmp_path):
    """A broken model's alternatives: not a crash, and no choice that wins by being undefined."""
    broken = (AlternativeScore("a", math.nan, 1), AlternativeScore("b", 1.0, 1))
    sound = (AlternativeScore("a", 2.0, 1), AlternativeScore("b", 1.0, 1))
    answers = [
        Generation("after", "s", n, "p", "t", "c", alternatives={"choices": scores}, label=0)
        for n, scores in enumerate((broken, sound))
    ]
    path = tmp_path / "generations.jsonl"
    write_generations(path, answers)
    back = read_generations(path)
    assert math.isnan(back[0].alternatives["choices"][0].nll)
    assert back[1] == answers[1]
    for declared in (choice_accuracy, choice_accuracy_norm):
        assert math.isnan(declared.statistic(back).value)
        assert declared.statistic(back[1:]).value == 0.0
