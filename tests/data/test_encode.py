"""The tokens of prompt and answer are what generation reads, for tokenizers of every kind."""

from __future__ import annotations

import pytest
import tokenizer_kinds
from tokenizer_kinds import KINDS, SPACE

from unlearning.data.encode import (
    encode_answers,
    encode_behind,
    encode_prompt_texts,
    encode_prompts,
    start_tokens,
)
from unlearning.data.template import PromptTemplate
from unlearning.data.tokenize import to_sequences
from unlearning.errors import ConfigError
from unlearning.generation.continuation import targets
from unlearning.types import Example

TEMPLATE = PromptTemplate()
TIGHT = PromptTemplate("Question: {prompt}\nAnswer:\n", "")
TEXT = PromptTemplate("{prompt}", "", append_eos=False)
ASKED = [
    Example("Where is the old road?", "Look behind the house."),
    Example("Is it 7?", "'No', said the cat..."),
    Example("Then?", "8"),
]
PASSAGES = [
    Example("Then the wind said", " look again, and the old house was there."),
    Example("Look behind the house.", "\n\nThen the wind said no."),
]


@pytest.fixture(scope="module")
def made():
    """A tokenizer of a kind, made once."""
    kept = {}

    def get(kind, **settings):
        key = (kind, *settings.items())
        if key not in kept:
            kept[key] = tokenizer_kinds.make(kind, **settings)
        return kept[key]

    return get


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("template", [TEMPLATE, TIGHT, TEXT], ids=["question", "tight", "text"])
def test_prompt_and_answer_are_the_pieces_of_the_whole_text(made, kind, template):
    """Against the tokenizer's own tokens of prompt and answer as one text."""
    tokenizer = made(kind, start=True)
    for example in PASSAGES if template is TEXT else ASKED:
        prompt = template.prompt(example.prompt)
        whole = tokenizer(prompt + template.answer(example.response))["input_ids"]
        (prompt_ids,) = encode_prompts([example], tokenizer, template)
        (answer_ids,) = encode_answers([example], tokenizer, template)
        assert prompt_ids == tokenizer(prompt)["input_ids"]  # what generation reads
        assert prompt_ids + answer_ids == whole, tokenizer.convert_ids_to_tokens(answer_ids)
        (sequence,) = to_sequences([example], tokenizer, template, 500).sequences
        end = (tokenizer.eos_token_id,) if template.append_eos else ()
        assert sequence.response_ids == (*answer_ids, *end)
        (target,) = targets([example], tokenizer, template, 500)
        assert target.ids == tuple(answer_ids)


@pytest.mark.parametrize("kind", ["prepend", "unigram_prepend"])
def test_no_space_stands_alone_before_an_answer(made, kind):
    """Tokenised by itself, the answer begins with a `▁` that no prompt is followed by."""
    tokenizer = made(kind)
    apart = tokenizer.convert_ids_to_tokens(tokenizer(" Look behind")["input_ids"])
    assert apart[0].startswith(SPACE) and "".join(apart).startswith(2 * SPACE)
    (ids,) = encode_answers(ASKED[:1], tokenizer, TEMPLATE)
    text = "".join(tokenizer.convert_ids_to_tokens(ids))
    assert text == " Look behind the house.".replace(" ", SPACE)


@pytest.mark.parametrize("kind", ["prepend", "metaspace_always", "unigram", "bytes_with_space"])
def test_an_answer_without_a_space_gets_none(made, kind):
    tokenizer = made(kind)
    (ids,) = encode_answers(ASKED[:1], tokenizer, TIGHT)
    assert tokenizer.convert_ids_to_tokens(ids)[0][0] == "L"
    assert tokenizer.convert_ids_to_tokens(tokenizer("Look")["input_ids"])[0][0] in SPACE + "Ġ"


@pytest.mark.parametrize("kind", KINDS)
def test_where_text_would_merge_the_prompt_stays_and_the_answer_has_no_stray_piece(made, kind):
    """`A: ` and `Look`: the tokenizer itself would give the space to the word."""
    tokenizer, template = made(kind), PromptTemplate("Question: {prompt}\nAnswer: ", "")
    prompts = encode_prompts(ASKED, tokenizer, template)
    answers = encode_answers(ASKED, tokenizer, template)
    for example, prompt, answer in zip(ASKED, prompts, answers, strict=True):
        assert prompt == tokenizer(template.prompt(example.prompt))["input_ids"]
        text = "".join(tokenizer.convert_ids_to_tokens(answer))
        if kind == "words":
            assert answer == tokenizer(example.response)["input_ids"]
        elif kind == "wordpiece":
            assert text.replace("##", "") == example.response.lower().replace(" ", "")
        else:
            assert text == example.response.replace(" ", "Ġ" if "bytes" in kind else SPACE)


def test_an_answers_tokens_do_not_depend_on_its_prompt(made):
    for kind in KINDS:
        tokenizer = made(kind)
        same = [Example(e.prompt, "Look behind the house.") for e in ASKED]
        for template in (TEMPLATE, TIGHT):
            assert len(set(map(tuple, encode_answers(same, tokenizer, template)))) == 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("start", [False, True])
@pytest.mark.parametrize("end", [False, True])
def test_a_prompt_has_the_start_once_and_no_end(made, kind, start, end):
    tokenizer = made(kind, start=start, end=end)
    bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
    assert start_tokens(tokenizer) == [bos] * start
    for template in (TEMPLATE, PromptTemplate("<s>Question: {prompt}\nAnswer:")):
        for prompt in encode_prompts(ASKED, tokenizer, template):
            held = template.prompt("").startswith("<s>")
            assert prompt.count(bos) == (start or held) and prompt.count(eos) == 0
            assert (prompt[0] == bos) == (start or held)
        for answer in encode_answers(ASKED, tokenizer, template):
            assert bos not in answer and eos not in answer
    (ids,) = encode_prompt_texts(["Look"], tokenizer, adds_start=False)
    assert bos not in ids


def test_a_token_that_the_tokenizer_does_not_know_hides_no_word(made):
    """Behind an unknown text, a word that it merges with would be gone."""
    tokenizer = made("words")
    assert encode_behind(["Look again,"], tokenizer, "=>") == [
        tokenizer("Look again,")["input_ids"]
    ]


def test_nothing_is_nothing(made):
    for kind in KINDS:
        assert encode_prompts([], made(kind), TEMPLATE) == []
        assert encode_answers([], made(kind), TEMPLATE) == []


def test_a_prompt_without_a_token_is_refused(made):
    with pytest.raises(ConfigError, match="The prompt of Example 0 has no token: ' '"):
        to_sequences([Example(" ", "Look")], made("words"), TEXT, 10)
