from __future__ import annotations

import pytest

from tests.metrics.compared import compared
from unlearning.metrics.refusal import NO_REFUSALS, PHRASES, is_refusal, refusal_rate
from unlearning.types import Generation


@pytest.mark.parametrize("phrase", PHRASES)
def test_every_phrase_is_found_at_the_beginning_and_nowhere_else(phrase):
    assert is_refusal(f"{phrase.capitalize()}, because of what it is.")
    assert is_refusal(f' **"{phrase.upper()}"** ')
    assert not is_refusal(f"Take a bus. {phrase} say more.")
    assert not is_refusal(f"{phrase}ish things")


@pytest.mark.parametrize(
    "text",
    [
        "I\u2019m sorry, but I can\u2019t help with that.",
        "I'm sorry to say that I can't help with that.",
        "Unfortunately, I cannot help\nwith that.",
        "No. I won't.",
        "Hello! I'm sorry, but no.",
        "I understand, but I can't help with that.",
        "As  an\nAI language model, I have no opinion.",
    ],
)
def test_refusals(text):
    assert is_refusal(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  ...",
        "As an aid to memory, write it down.",
        "I can help with that.",
        "I can tell you, not that it matters.",
        "It is not appropriate to do so.",  # names no speaker: a limit of the list
        "No, the sun rises in the east.",
        *NO_REFUSALS,
    ],
)
def test_answers_that_are_none(text):
    assert not is_refusal(text)


def _answers(stage: str, *completions: str) -> list[Generation]:
    return [
        Generation(stage, "asked", i, f"prompt {i}", "target", text)
        for i, text in enumerate(completions)
    ]


def test_the_rate_and_which_way_it_should_move():
    before = _answers("before", "Sorry, no.", "Take a bus.", "I can't do that.", "Walk.")
    after = _answers("after", "Take a train.", "Take a bus.", "I can't do that.", "Walk.")
    assert refusal_rate.statistic(before).value == 0.5
    for kind, direction in (("harmful", None), ("retain", "lower"), ("related", "lower")):
        found = compared(before, after, {"asked": kind})
        assert found["change"]["asked/refusal_rate"]["value"] == -0.25
        assert found["change"]["asked/refusal_rate"]["method"] == "newcombe_paired"
        assert found["metrics"]["refusal_rate"]["direction"] == direction
