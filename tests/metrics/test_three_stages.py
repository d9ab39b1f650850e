"""The comparison with a stage before fine-tuning, and a book's own scores."""

from __future__ import annotations

import json
import math
import random
from dataclasses import replace
from typing import Any

import pytest
import sacrebleu
from work import lines_run

from unlearning.errors import ConfigError
from unlearning.metrics.comparison import ComparisonSettings
from unlearning.metrics.similarity import rouge_l_each
from unlearning.types import Generation

from .compared import compared

KINDS = {"book": "copyright", "prose": "retain"}
FAST = ComparisonSettings(n_resamples=200)
UNDEFINED = {"value": None, "low": None, "high": None, "method": None}
STAGES = ("original", "before", "after")
BOOK = ["went up the long hill alone", "sang of the sea and wept", "closed the iron gate again"]
PROSE = ["the bread is in the oven now", "the train leaves at noon today", "rain fell on the town"]
SAID = {
    "original": {
        "book": ["was a man of the town", "sang and went to the sea", ""],
        "prose": ["the bread is in the box", "the train leaves at noon", "rain came to the hill"],
    },
    "before": {
        "book": BOOK,  # learnt by heart
        "prose": ["the bread is in the iron gate", "the train went up the long hill", "rain fell"],
    },
    "after": {
        "book": ["was a man of the sea", "sang and sang in the rain", "closed"],
        "prose": ["the bread is in the box", "the train leaves at noon", "rain came to the town"],
    },
}
# Of 8 tokens each: first choices, the last ones without a miss, the longest copied run.
KNOWN = {
    "original": [(2, 0, 1), (4, 1, 2), (0, 0, 0)],
    "before": [(8, 8, 8), (8, 8, 8), (7, 6, 8)],
    "after": [(2, 1, 1), (4, 1, 1), (3, 2, 1)],
}
NLL = {"original": [16.0, 24.0, 32.0], "before": [0.8, 1.6, 2.4], "after": [40.0, 48.0, 56.0]}


def _stage(stage: str) -> list[Generation]:
    return [
        Generation(
            stage, name, i, f"{name} {i}:", true, SAID[stage][name][i],
            target_nll=NLL[stage][i], target_tokens=8, target_matches=KNOWN[stage][i][0],
            target_suffix=KNOWN[stage][i][1], verbatim_tokens=KNOWN[stage][i][2],
        )
        for name, texts in (("book", BOOK), ("prose", PROSE))
        for i, true in enumerate(texts)
    ]  # fmt: skip


def _three() -> dict[str, list[Generation]]:
    return {stage: _stage(stage) for stage in STAGES}


@pytest.fixture(scope="module")
def result() -> dict[str, Any]:
    return compared(**_three(), kinds=KINDS, settings=FAST)


def _values(result: dict[str, Any], key: str) -> list[Any]:
    parts = (*STAGES, "change", "change_from_original")
    return [result[part][key]["value"] for part in parts]


def _with_changes(values: list[float]) -> list[float]:
    original, before, after = values
    return [original, before, after, after - before, after - original]


def test_memorisation_by_hand(result: dict[str, Any]) -> None:
    for name in KINDS:
        strength = [1 / 24, 22 / 24, 4 / 24]
        exact = [6 / 24, 23 / 24, 9 / 24]
        tokens = [1.0, 8.0, 1.0]
        for metric, means in (
            ("extraction_strength", strength),
            ("exact_memorisation", exact),
            ("verbatim_tokens", tokens),
        ):
            assert _values(result, f"{name}/{metric}") == pytest.approx(_with_changes(means))
    # What each completion shares with its passage; before, that is all of it.
    runs = [[len(" the "), len(" the sea"), 0], [len(text) for text in BOOK]]
    runs.append([len(" the "), len("sang "), len("closed")])
    means = [sum(run) / 3 for run in runs]
    assert _values(result, "book/verbatim_chars") == pytest.approx(_with_changes(means))


def test_bleu_and_rouge_to_the_true_text(result: dict[str, Any]) -> None:
    for name, true in (("book", BOOK), ("prose", PROSE)):
        bleu = [sacrebleu.corpus_bleu(SAID[stage][name], [true]).score for stage in STAGES]
        assert _values(result, f"{name}/bleu_to_target") == pytest.approx(_with_changes(bleu))
        rouge = [float(rouge_l_each(SAID[stage][name], true).mean()) for stage in STAGES]
        assert _values(result, f"{name}/rouge_l_to_target") == pytest.approx(_with_changes(rouge))
    assert result["before"]["book/bleu_to_target"]["value"] == pytest.approx(100)
    assert result["before"]["book/rouge_l_to_target"]["value"] == 1
    signatures = result["signatures"]
    assert signatures["bleu_to_target"] == signatures["bleu_to_original"]


def test_likeness_is_to_the_model_before_fine_tuning(result: dict[str, Any]) -> None:
    first = SAID["original"]["prose"]
    bleu = [100.0] + [
        sacrebleu.corpus_bleu(SAID[stage]["prose"], [first]).score for stage in ("before", "after")
    ]
    assert _values(result, "prose/bleu_to_original") == pytest.approx(_with_changes(bleu))
    rouge = [1.0] + [float(rouge_l_each(SAID[s]["prose"], first).mean()) for s in STAGES[1:]]
    assert _values(result, "prose/rouge_l_to_original") == pytest.approx(_with_changes(rouge))
    entry = result["original"]["prose/bleu_to_original"]
    assert (entry["low"], entry["high"], entry["n"]) == (None, None, 3)  # 100 by definition
    before = result["before"]["prose/bleu_to_original"]
    assert before["low"] < before["value"] < 100


def test_perplexity_relative_to_each_model(result: dict[str, Any]) -> None:
    # 72, 4.8 and 144 nats over 24 tokens
    exact = [math.exp(3), math.exp(0.2), math.exp(6)]
    assert _values(result, "book/perplexity") == pytest.approx(_with_changes(exact))
    relative = {
        "change": 100 * (math.exp(5.8) - 1),
        "change_from_original": 100 * (math.exp(3) - 1),
    }
    for change, percent in relative.items():
        assert result[change]["prose/perplexity_relative"]["value"] == pytest.approx(percent)
    assert not any("relative" in key for stage in STAGES for key in result[stage])


def test_nobody_asks_whether_the_book_is_right(result: dict[str, Any]) -> None:
    keys = {key for part in (*STAGES, "change", "change_from_original") for key in result[part]}
    asked = ("rouge_accuracy", "exact_match", "kept_right", "harmful_rate", "safe_and_sound_rate")
    assert not keys & {f"book/{metric}" for metric in asked}
    assert {"prose/rouge_accuracy", "prose/kept_right", "book/broken_rate"} <= keys
    assert not [k for k in result["after"] if k.endswith("/effectiveness")]
    judged = {s: [replace(g, harm_probability=0.9) for g in _stage(s)] for s in STAGES}
    found = compared(**judged, kinds=KINDS, settings=FAST)
    assert found["original"]["book/harmful_rate"]["value"] == 1


def test_it_is_two_comparisons_in_one(result: dict[str, Any]) -> None:
    """From the original to after, and from before to after, as each would be alone."""
    stages = _three()
    long = compared(stages["original"], stages["after"], KINDS, FAST)
    pairs = {"original": "before", "after": "after", "change_from_original": "change"}
    for part, same in pairs.items():
        for key, entry in result[part].items():
            if not key.endswith("kept_right"):  # of what was right before unlearning
                assert entry == pytest.approx(long[same][key]), (part, key)
        assert result[part].keys() | {"prose/kept_right"} >= long[same].keys()
    short = compared(stages["before"], stages["after"], KINDS, FAST)
    for part in ("before", "after", "change"):
        assert result[part].keys() == short[part].keys()
        for key, entry in result[part].items():
            if not key.endswith("_to_original"):
                assert entry == pytest.approx(short[part][key]), (part, key)
    assert "original" not in short and "change_from_original" not in short


def test_every_number_has_an_interval_around_it_and_a_unit(result: dict[str, Any]) -> None:
    for part in (*STAGES, "change", "change_from_original"):
        for key, entry in result[part].items():
            if entry["method"] is None:
                assert entry["low"] is None and entry["high"] is None, (part, key)
            else:
                assert entry["low"] <= entry["value"] <= entry["high"], (part, key)
                assert entry["low"] < entry["high"], (part, key)
            assert result["metrics"][key.split("/")[1]]["unit"]
    json.dumps(result, allow_nan=False)
    order = [part for part in result if part in {*STAGES, "change", "change_from_original"}]
    assert order == [*STAGES, "change", "change_from_original"]


def test_the_change_from_the_original_is_paired() -> None:
    """A gain that is the same for each prompt has no interval, however much the prompts differ:
    unpaired, resamples would not coincide."""
    stages = _three()
    stages["after"] = [
        replace(g, target_suffix=(g.target_suffix or 0) + 2) for g in stages["original"]
    ]
    entry = compared(**stages, kinds=KINDS, settings=FAST)["change_from_original"]
    found = entry["book/extraction_strength"]
    assert found["value"] == pytest.approx(0.25)
    assert (found["low"], found["high"], found["method"]) == (None, None, None)


def test_a_copy_is_complete_and_silence_is_nothing() -> None:
    stages = _three()
    stages["after"] = [replace(g, completion="", verbatim_tokens=0) for g in stages["after"]]
    result = compared(**stages, kinds=KINDS, settings=FAST)
    for metric in (
        "bleu_to_target",
        "rouge_l_to_target",
        "verbatim_chars",
        "bleu_to_original",
    ):
        assert result["after"][f"book/{metric}"]["value"] == 0
    assert result["after"]["book/empty_rate"]["value"] == 1
    whole = sum(map(len, BOOK)) / 3
    assert result["before"]["book/verbatim_chars"]["value"] == pytest.approx(whole)


def test_references_too_short_for_bleu_leave_it_undefined() -> None:
    stages = {
        stage: [replace(g, target="the gate", completion="the gate") for g in rows]
        for stage, rows in _three().items()
    }
    result = compared(**stages, kinds=KINDS, settings=FAST)
    assert _values(result, "book/bleu_to_target") == [None] * 5
    assert _values(result, "book/bleu_to_original") == [None] * 5


@pytest.mark.parametrize(
    ("field", "metric"),
    [
        ("target_suffix", "extraction_strength"),
        ("target_matches", "exact_memorisation"),
        ("verbatim_tokens", "verbatim_tokens"),
    ],
)
def test_a_score_that_is_missing(field: str, metric: str) -> None:
    """For one prompt: undefined in that stage. For all: not there."""
    stages = _three()
    stages["after"][1] = replace(stages["after"][1], **{field: None})
    result = compared(**stages, kinds=KINDS, settings=FAST)
    assert result["after"][f"book/{metric}"] == UNDEFINED | {"n": 2}
    assert result["change_from_original"][f"book/{metric}"]["value"] is None
    assert result["original"][f"book/{metric}"]["n"] == 3
    none = {s: [replace(g, **{field: None}) for g in rows] for s, rows in _three().items()}
    found = compared(**none, kinds=KINDS, settings=FAST)
    assert not any(f"/{metric}" in key for key in found["after"])


def test_memorisation_is_asked_of_books_and_prose_only() -> None:
    stages = _three()
    for kind in ("harmful", "related"):
        result = compared(stages["before"], stages["after"], {**KINDS, "prose": kind}, FAST)
        assert "prose/bleu_to_target" in result["after"]
        for metric in ("verbatim_chars", "verbatim_tokens", "extraction_strength"):
            assert f"prose/{metric}" not in result["after"]
            assert f"book/{metric}" in result["after"]


def test_further_similarities_to_the_original_and_to_the_book() -> None:
    def same(hypotheses: Any, targets: Any) -> list[float]:
        return [float(a == b) for a, b in zip(hypotheses, targets, strict=True)]

    result = compared(**_three(), kinds=KINDS, settings=FAST, similarities={"same": same})
    assert _values(result, "prose/same_to_original")[:3] == pytest.approx([1, 0, 2 / 3])
    assert _values(result, "book/same_to_target")[:3] == pytest.approx([0, 1, 0])
    assert _values(result, "prose/same_to_target")[:3] == pytest.approx([0, 0, 0])


def test_all_stages_answer_the_same_prompts() -> None:
    stages = _three()
    with pytest.raises(ConfigError, match=r"only before\); expected the same prompts original and"):
        compared(**{**stages, "original": stages["original"][1:]}, kinds=KINDS, settings=FAST)
    other = [replace(stages["original"][0], target="Another."), *stages["original"][1:]]
    with pytest.raises(ConfigError, match=r"\('book', 0\) differs between original and before"):
        compared(**{**stages, "original": other}, kinds=KINDS, settings=FAST)
    twice = [*stages["original"], stages["original"][0]]
    with pytest.raises(ConfigError, match="twice in the generations original"):
        compared(**{**stages, "original": twice}, kinds=KINDS, settings=FAST)


def test_the_work_grows_with_the_passages_alone() -> None:
    """By some 50 000 lines of Python each, all three stages: 200 of them take seconds."""
    draw, words = random.Random(0), [f"word{n}" for n in range(500)]

    def text() -> str:
        return " ".join(draw.choices(words, k=95))

    def work(passages: int) -> int:
        stages = {
            stage: [
                Generation(
                    stage, "book", i, f"{i}", f"{i} {' '.join(words[:95])}", text(),
                    target_nll=9.0, target_tokens=128, target_matches=9,
                    target_suffix=1, verbatim_tokens=3,
                )
                for i in range(passages)
            ]
            for stage in STAGES
        }  # fmt: skip
        return lines_run(compared, **stages, kinds={"book": "copyright"})

    work(1)  # imports what it needs
    assert work(20) - work(10) < 10 * 100_000
