from __future__ import annotations

import random

import pytest

from unlearning.data.overlap import check_disjoint, drop_duplicates, normalise
from unlearning.data.stored_examples import store
from unlearning.errors import ConfigError
from unlearning.types import Example


def test_normal_form() -> None:
    assert normalise("  How\tDO\n\nyou  STRASSE ") == "how do you strasse"
    assert normalise("Straße") == normalise("STRASSE")
    assert normalise("cafe\u0301") == normalise("caf\u00e9")  # combining and single accent
    assert normalise("why") != normalise("why?")


def test_first_of_the_same_texts_stays_in_its_place() -> None:
    examples = [
        Example("A", "x"),
        Example("a ", "X"),
        Example("a", "y"),
        Example("b", "x"),
        Example("A", "x"),
    ]
    assert drop_duplicates(examples) == [Example("A", "x"), Example("a", "y"), Example("b", "x")]


def test_border_between_prompt_and_answer_counts_for_duplicates() -> None:
    assert len(drop_duplicates([Example("a b", "c"), Example("a", "b c")])) == 2


def test_different_texts_are_disjoint_even_with_equal_answers() -> None:
    check_disjoint([Example("a", "No.")], [Example("b", "No.")])
    check_disjoint([], [Example("b", "No.")])


@pytest.mark.parametrize(
    "retained", [Example("how TO  cheat?", "something else"), Example("How", "to cheat? Like so.")]
)
def test_a_shared_text_is_refused_and_shown(retained: Example) -> None:
    forget = [Example("other", "text"), Example("How to cheat?", "Like so.")]
    with pytest.raises(ConfigError, match=r"^1 forget examples.*'How to cheat\?'"):
        check_disjoint(forget, [Example("b", "c"), retained])


def test_a_long_text_is_shown_shortened() -> None:
    example = Example("word " * 1000, "answer")
    with pytest.raises(ConfigError) as caught:
        check_disjoint([example], [example])
    assert len(str(caught.value)) < 400


VARIANTS = [
    Example(prompt, response)
    for prompt in ("a", "A ", "a b", "b", "Straße", "STRASSE", "a\nb", "\ud83d")
    for response in ("x", " X", "b x", "x\ny", "")
]


def test_duplicates_are_those_of_normalised_pairs() -> None:
    first: dict[tuple[str, str], Example] = {}
    for example in VARIANTS + VARIANTS[::-1]:
        first.setdefault((normalise(example.prompt), normalise(example.response)), example)
    for given in (VARIANTS + VARIANTS[::-1], store(VARIANTS + VARIANTS[::-1])):
        assert list(drop_duplicates(given)) == list(first.values())
    assert len(first) < len(VARIANTS) and list(drop_duplicates([])) == []


@pytest.mark.parametrize("seed", range(20))
def test_what_is_shared_is_what_a_search_finds(seed: int) -> None:
    draw = random.Random(seed)
    ours, theirs = draw.sample(VARIANTS, 6), draw.sample(VARIANTS, 3)

    def whole(example: Example) -> str:
        return normalise(f"{example.prompt} {example.response}")

    shared = [
        a
        for a in ours
        if any(normalise(a.prompt) == normalise(b.prompt) or whole(a) == whole(b) for b in theirs)
    ]
    for forget, retain in ((ours, theirs), (store(ours), store(theirs))):
        if not shared:
            check_disjoint(forget, retain)
            continue
        with pytest.raises(ConfigError) as caught:
            check_disjoint(forget, retain, names=("x", "y"))
        expected = f"{len(shared)} x examples are also in the y set (case and white space aside), "
        expected += f"for example the one with the prompt {shared[0].prompt!r}. "
        assert str(caught.value).startswith(expected)


def test_a_prompt_alone_is_not_the_text_of_another() -> None:
    check_disjoint([Example("how to cheat", "x")], [Example("how", "to cheat")])
    check_disjoint([Example("how", "to cheat")], [Example("how to cheat", "x")])
