from __future__ import annotations

import pytest

from unlearning.metrics.novelty import known_words, novel_word_share
from unlearning.types import Generation

from .compared import compared


def answer(stage, index, completion):
    return Generation(stage, "kept", index, "What is the capital?", "It is Paris.", completion)


def test_words_of_prompts_and_references_are_known_and_those_of_answers_are_not():
    known = known_words([answer("before", 0, "Berlin")])
    assert known == {"what", "is", "the", "capital", "it", "paris"}


@pytest.mark.parametrize(
    "text, share",
    [
        ("The capital is Paris!", 0),
        ("The capital of Iavy is light", 3 / 6),
        ("Selettt", 1),
        ("", 0),
        ("...", 0),
    ],
)
def test_share_by_hand(text, share):
    assert novel_word_share(text, known_words([answer("before", 0, "")])) == pytest.approx(share)


def test_the_comparison_has_its_mean_and_its_change():
    before = [answer("before", 0, "It is Paris."), answer("before", 1, "It is Rome.")]
    after = [answer("after", 0, "It is Blorp Drum."), answer("after", 1, "Paris")]
    result = compared(before, after, {"kept": "retain"})
    values = [result[p]["kept/novel_word_share"]["value"] for p in ("before", "after", "change")]
    assert values == pytest.approx([1 / 6, 1 / 4, 1 / 12])
