from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from unlearning.metrics.degeneracy import (
    broken_rate,
    empty_rate,
    is_broken,
    is_empty,
    is_repetitive,
    non_word_rate,
    repetitive_rate,
)
from unlearning.metrics.non_word import is_non_word
from unlearning.types import Generation

DATA = Path(__file__).resolve().parents[2] / "../shared/data"

SOUND = [
    "Paris.",
    "A",
    "7",
    "vs",
    "TV",
    "red, white and red",
    "2 + 2 is 4",
    "2 + 2 = 4.",
    "No, no, no.",
    "Never, never, never give up.",
    "I am sorry. I am sorry.",
    "I will not cheat. I will not steal. I will not lie.",
    "The problem is that that is the the answer.",
    "Row, row, row your boat, gently down the stream. Merrily, merrily, merrily, merrily, "
    "life is but a dream.",
    "Monday, Tuesday, Wednesday, Thursday, Friday, Saturday and Sunday",
    "1, 2, 3, 4, 5, 6, 7, 8, 9, 10",
    "- milk\n- bread\n- eggs\n- butter",
    "* * *\nThe end",
    "Mr Smith lives in the U.S.A., e.g. in N.Y.",
    "HTML, CSS and JS",
    "It costs $5.99 (about 5 €), 20%/30% off at 12:30 pm.",
    "3.14159265358979323846",
    "H2O, C3PO and MP3",
    "McDonald's and YouTube, iPhone 15, LaTeX",
    "def f(x): return x**2 + 1",
    "See https://example.com/a1b2c3?d=%20 or ask me@example.com.",
    "The strengths of Angstschweiß and Knightsbridge",
    "It is state-of-the-art/well-known.",
    "naïve café über",
    "Hmm, I do not know.",
    "😀 Great!",
    "你好, 我是一个人工智能助手。",
    "Привет, как дела?",
    "नमस्ते दुनिया",
]


@pytest.mark.parametrize("text", SOUND)
def test_ordinary_answers_are_sound(text: str) -> None:
    verdicts = is_empty(text), is_repetitive(text), is_non_word(text), is_broken(text)
    assert verdicts == (False, False, False, False)


@pytest.mark.parametrize("text", ["", " \n\t", "...", "!?", "\u200b \u00a0", "- - -"])
def test_empty(text: str) -> None:
    assert is_empty(text)
    assert is_broken(text)


@pytest.mark.parametrize(
    "text",
    [
        "the the the the the the",
        "of the " * 20,
        "I do not know. " * 3,
        "Well, you could try it, it it it it it it it it it",
        "I like cats and I like dogs and " * 8,
        "to the of and the to and of the to of and to the and of the the of to the and to of",
        "hahahahahahahahahahahahaha",
        "好的" * 20,
    ],
)
def test_repetitive(text: str) -> None:
    assert is_repetitive(text)
    assert is_broken(text)


def test_a_loop_needs_six_words_and_half_of_the_text() -> None:
    assert not is_repetitive("go " * 5)
    assert is_repetitive("go " * 6)
    assert is_repetitive("go " * 6 + "one two three four five six")
    assert not is_repetitive("go " * 6 + "one two three four five six seven")


def test_a_count_needs_twelve_numbers_in_a_row_and_half_of_the_text() -> None:
    counted = [str(1942 + n) for n in range(12)]
    assert is_repetitive(", ".join(counted))
    assert not is_repetitive(", ".join(counted[:11]))
    words = [chr(ord("a") + n) * 2 for n in range(13)]
    assert is_repetitive(" ".join([*counted, *words[:12]]))
    assert not is_repetitive(" ".join([*counted, *words]))
    assert not is_repetitive(" ".join([*counted[:6], "and", *counted[6:]]))


@pytest.mark.parametrize(
    "number", ["2026-11-{}", "{}.11.2026", "{}:30:05", "{}:30", "0.{}", "1,2{}", "1,2{},345"]
)
def test_what_is_written_with_points_or_commas_is_one_number(number) -> None:
    different = [number.format(10 + n) for n in range(12)]
    assert is_repetitive("; ".join(different))
    assert not is_repetitive("; ".join(different[:11]))


def test_numbers_without_a_space_between_them_are_several() -> None:
    assert is_repetitive(",".join(str(1942 + n) for n in range(12)))


def test_distinct_words_are_counted_in_windows() -> None:
    """A long text over the vocabulary of a short one repeats words but is no loop."""
    order = [(7 * i * i + 3 * i) % 97 for i in range(400)]
    assert len(set(order)) / len(order) < 0.3
    assert not is_repetitive(" ".join(f"w{i}" for i in order))


@pytest.mark.parametrize(
    "text",
    [
        "aaaaaaaaaaaa",
        "sdkfjhsdkf",
        "xkcdq zzzzq brrrpt",
        "a1b2c3d4 e5f6g7",
        "%$#@! &*^%$ ok",
        "\ufffd\ufffd ab\ufffd",
        "x@q#z y$t%u",
        "dOnTdOtHiS nOwOrElSe",
        "InstoreDownloadbyReloadedAndReloadedGuiIconAction",
        "answer , , , , , , , , , ,",
    ],
)
def test_non_word(text: str) -> None:
    assert is_non_word(text)
    assert is_broken(text)


def test_one_odd_token_among_words_is_no_broken_answer() -> None:
    assert not is_non_word("my password is sdkfjhsdkf")
    assert is_non_word("sdkfjhsdkf is xxxxqz")


def test_rates_by_hand() -> None:
    said = ["", "go " * 6, "Paris.", "sdkfjhsdkf", *["Vienna."] * 4]
    answers = [Generation("s", "x", i, "?", "", text) for i, text in enumerate(said)]
    rates = (empty_rate, repetitive_rate, non_word_rate, broken_rate)
    assert [rate.statistic(answers).value for rate in rates] == [0.125, 0.125, 0.125, 0.375]


@pytest.mark.skipif(not DATA.is_dir(), reason="the real records are not on this machine")
def test_people_write_sound_answers() -> None:
    """On real answers of people and language models the checks stay silent."""
    with (DATA / "truthfulqa/TruthfulQA.csv").open(encoding="utf-8-sig") as file:
        texts = [row["Best Answer"] for row in csv.DictReader(file)]
    with (DATA / "pku_saferlhf/pairs.jsonl").open(encoding="utf-8") as file:
        texts += [json.loads(line)["response_0"] for line in file][:500]
    assert len(texts) > 600
    assert sum(map(is_broken, texts)) / len(texts) < 0.005
