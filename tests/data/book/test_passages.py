"""Passages, and their prompts."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unlearning.data.book.passages import PromptLength, cut_passages, cut_prompt
from unlearning.errors import ConfigError
from unlearning.types import Example

WORDS = st.sampled_from(["a", "bee", "Dr.", "end.", "Said", "“Yes!”", "no—", "x" * 30, "Long?"])
PARAGRAPHS = st.lists(st.lists(WORDS, min_size=1, max_size=40).map(" ".join), max_size=8)


def test_whole_paragraphs_as_long_as_they_fit():
    text = "a b\n\nc d e\n\nf\n\ng h i j"
    assert cut_passages(text, 5) == ["a b\n\nc d e", "f\n\ng h i j"]
    assert cut_passages(text, 4) == ["a b", "c d e\n\nf", "g h i j"]
    assert cut_passages(text, 100) == [text]
    assert cut_passages("", 5) == []


def test_a_longer_paragraph_is_cut_at_sentences_else_at_words():
    text = "One two.  Three “four?” Mr. Five six seven eight nine."
    assert cut_passages(text, 4) == ["One two.  Three “four?”", "Mr. Five six seven", "eight nine."]
    assert cut_passages(f"intro\n\n{text}\n\nend", 7) == [
        "intro\n\nOne two.  Three “four?”", "Mr. Five six seven eight nine.\n\nend",
    ]  # fmt: skip
    assert cut_passages("a\nb c", 2) == ["a\nb", "c"]


@settings(deadline=None)
@given(paragraphs=PARAGRAPHS, num_words=st.integers(2, 30))
def test_nothing_is_lost_or_doubled(paragraphs, num_words):
    text = "\n\n".join(paragraphs)
    passages = cut_passages(text, num_words)
    place = 0
    for passage in passages:
        assert passage == passage.strip() and 1 <= len(passage.split()) <= num_words
        begin = text.index(passage, place)
        assert not text[place:begin].strip()  # only white space is between passages
        place = begin + len(passage)
    assert not text[place:].strip()
    assert "".join("".join(passages).split()) == "".join(text.split())


@settings(deadline=None)
@given(
    paragraphs=PARAGRAPHS,
    length=st.one_of(
        st.floats(0.01, 0.99).map(lambda share: PromptLength(fraction=share)),
        st.integers(1, 400).map(lambda number: PromptLength(characters=number)),
    ),
)
def test_prompt_and_response_are_the_passage(paragraphs, length):
    passage = "\n\n".join(paragraphs)
    example = cut_prompt(passage, length)
    if example is None:
        assert len(passage.split()) < 2 or len(passage) <= (length.characters or 0)
        return
    assert example.prompt + example.response == passage
    assert example.prompt.strip() and example.response.strip()
    assert example.response[0].isspace() and not example.prompt[-1].isspace()
    limit = length.characters or length.fraction * len(passage)
    assert len(example.prompt) <= limit or len(example.prompt.split()) == 1


PASSAGE = "The quick brown fox jumps over the lazy dog and away."  # 53 characters


@pytest.mark.parametrize(
    ("length", "prompt"),
    [
        ({"fraction": 0.2}, "The quick"),  # 10.6 characters
        ({"fraction": 0.1}, "The"),
        ({"fraction": 0.01}, "The"),  # at least a word
        ({"fraction": 0.99}, "The quick brown fox jumps over the lazy dog and"),
        ({"characters": 9}, "The quick"),
        ({"characters": 8}, "The"),
        ({"characters": 52}, "The quick brown fox jumps over the lazy dog and"),
    ],
)
def test_where_the_prompt_ends(length, prompt):
    assert cut_prompt(PASSAGE, PromptLength.of(length)) == Example(prompt, PASSAGE[len(prompt) :])


def test_a_passage_no_longer_than_its_prompt_is_none():
    assert cut_prompt(PASSAGE, PromptLength(characters=53)) is None
    assert cut_prompt("alone", PromptLength(fraction=0.2)) is None
    assert cut_prompt("", PromptLength(fraction=0.2)) is None


def test_a_prompt_in_tokens(tokenizer):
    passage = "the sun is hot , not cold"  # a token a word
    cut = [cut_prompt(passage, PromptLength(tokens=n), tokenizer) for n in (1, 3, 6, 7)]
    assert [c and c.prompt for c in cut] == ["the", "the sun is", "the sun is hot , not", None]
    assert cut[1] == Example("the sun is", " hot , not cold")


def test_the_tokenizer_that_counts(tokenizer, tmp_path):
    assert PromptLength(fraction=0.2, tokenizer="no such").counter(None) is None
    assert PromptLength(tokens=5).counter(tokenizer) is tokenizer
    with pytest.raises(
        ConfigError, match=r"prompt\.tokens=50 needs a tokenizer.*prompt\.tokenizer"
    ):
        PromptLength(tokens=50).counter(None)
    tokenizer.save_pretrained(tmp_path / "here")
    named = PromptLength(tokens=2, tokenizer=str(tmp_path / "here"))
    example = cut_prompt("the sun is hot", named, named.counter(None))
    assert example == Example("the sun", " is hot")
    with pytest.raises(ConfigError, match=r"prompt\.tokenizer='.*gone'.* cannot be loaded"):
        PromptLength(tokens=2, tokenizer=str(tmp_path / "gone")).counter(None)


@pytest.mark.parametrize(
    ("given_", "message"),
    [
        ({}, "exactly one of fraction, characters and tokens"),
        ({"fraction": 0.2, "tokens": 3}, "exactly one"),
        ({"fraction": 20}, r"prompt\.fraction=20: expected a share between 0 and 1"),
        ({"fraction": "a"}, r"prompt\.fraction='a'"),
        ({"characters": 0}, r"prompt\.characters=0: expected a whole number"),
        ({"tokens": 2.5}, r"prompt\.tokens=2\.5"),
        (
            {"words": 3},
            r"prompt\.words: unknown; expected one of fraction, characters, tokens, tokenizer",
        ),
    ],
)
def test_bad_prompt_lengths(given_, message):
    with pytest.raises(ConfigError, match=message):
        PromptLength.of(given_)
