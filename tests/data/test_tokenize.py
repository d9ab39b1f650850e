from __future__ import annotations

import logging

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from unlearning.data.stored_examples import store
from unlearning.data.template import PromptTemplate
from unlearning.data.tokenize import to_sequences, tokenize_examples, tokenizer_fingerprint
from unlearning.errors import ConfigError
from unlearning.types import Example

TEMPLATE = PromptTemplate()
RUNNING = PromptTemplate(append_eos=False)


def test_prompt_and_answer_are_tokenised_apart(tokenizer):
    example = Example("what says a cat ?", "a cat says meow")
    (sequence,) = tokenize_examples([example], tokenizer, TEMPLATE, 48).sequences
    prompt = tokenizer.convert_ids_to_tokens(sequence.prompt_ids)
    assert " ".join(prompt) == "### Question: what says a cat ? ### Answer:"
    answer = tokenizer.convert_ids_to_tokens(sequence.response_ids)
    assert answer == ["a", "cat", "says", "meow", "</s>"]  # all of it, the first token included


def test_the_tokenizers_own_start_token_is_kept(tokenizer):
    inner = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    inner.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    starting = PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<s>", eos_token="</s>")
    example = Example("what says a cat ?", "meow")
    (ours,) = tokenize_examples([example], starting, TEMPLATE, 48).sequences
    (plain,) = tokenize_examples([example], tokenizer, TEMPLATE, 48).sequences
    assert ours.prompt_ids == (0, *plain.prompt_ids)
    assert ours.response_ids == plain.response_ids  # no start token in mid-sequence


def test_no_end_token_where_none_is_wanted(tokenizer):
    (sequence,) = tokenize_examples(
        [Example("what says a cat ?", "meow")], tokenizer, RUNNING, 48
    ).sequences
    assert tokenizer.convert_ids_to_tokens(sequence.response_ids) == ["meow"]


def test_the_answer_is_cut_never_the_prompt_and_it_is_counted_and_logged(tokenizer, caplog):
    examples = [Example("what says a cat ?", "a cat says meow"), Example("what ?", "meow")]
    whole = tokenize_examples(examples, tokenizer, TEMPLATE, 48)
    fits = [len(s.prompt_ids) + len(s.response_ids) for s in whole.sequences]
    assert tokenize_examples(examples, tokenizer, TEMPLATE, max(fits)).truncated == 0
    assert tokenize_examples(examples, tokenizer, TEMPLATE, max(fits) - 1).truncated == 1
    with caplog.at_level(logging.WARNING, logger="unlearning"):
        cut = tokenize_examples(examples, tokenizer, TEMPLATE, max_length=12)
    assert (whole.truncated, cut.truncated) == (0, 1)
    assert cut.sequences[0].prompt_ids == whole.sequences[0].prompt_ids
    assert cut.sequences[0].response_ids == whole.sequences[0].response_ids[:3]
    assert cut.sequences[1] == whole.sequences[1]
    assert "1 of 2 answers were cut to fit 12 tokens" in caplog.text


def test_a_prompt_that_fills_the_context_is_refused(tokenizer):
    examples = [Example("what ?", "meow"), Example("what says a cat ?", "meow")]
    with pytest.raises(ConfigError, match=r"^1 of 2 prompts .*max_length=9 .*has 9 .*'what says"):
        tokenize_examples(examples, tokenizer, TEMPLATE, max_length=9)
    tokenize_examples(examples, tokenizer, TEMPLATE, max_length=10)


@pytest.mark.parametrize("answer", ["", "  \n"])
def test_empty_answers_are_refused(tokenizer, answer):
    with pytest.raises(ConfigError, match="Example 0 has an answer without a single token"):
        tokenize_examples([Example("what ?", answer)], tokenizer, TEMPLATE, 48)


def test_an_empty_answer_is_refused_where_its_leading_space_is_a_token():
    """Byte-level BPE gives the template's space a token; the loss would be on that space alone."""
    inner = Tokenizer(models.BPE({"Ġ": 0, "a": 1, "</s>": 2}, []))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="</s>")
    assert tokenizer(" ", add_special_tokens=False)["input_ids"] == [0]
    with pytest.raises(ConfigError, match="answer without a single token"):
        tokenize_examples([Example("a", "")], tokenizer, PromptTemplate("{prompt}"), 8)


def test_the_cache_is_read_and_says_the_same(tokenizer, tmp_path, caplog, monkeypatch):
    examples = [Example("what says a cat ?", "a cat says meow")]
    first = tokenize_examples(examples, tokenizer, TEMPLATE, 12, tmp_path)
    assert first == tokenize_examples(examples, tokenizer, TEMPLATE, 12)

    def again(*_: object) -> None:
        raise AssertionError("tokenised again")

    monkeypatch.setattr("unlearning.data.tokenize.to_sequences", again)
    with caplog.at_level(logging.WARNING, logger="unlearning"):
        kept = tokenize_examples(examples, tokenizer, TEMPLATE, 12, tmp_path)
    assert kept == first and first.truncated == 1 and "were cut" in caplog.text


def test_a_damaged_cache_is_not_read(tokenizer, tmp_path):
    examples = [Example("what says a cat ?", "a cat says meow")]
    before = list(tokenize_examples(examples, tokenizer, TEMPLATE, 12, tmp_path).sequences)
    (path,) = (tmp_path / "tokens").glob("*.bin")
    stored = np.fromfile(path, np.int32)
    stored[11] = 7
    stored.tofile(path)
    assert tokenize_examples(examples, tokenizer, TEMPLATE, 12, tmp_path).sequences == before


def test_any_edit_misses_the_cache(tokenizer, tmp_path):
    examples = [Example("what says a cat ?", "meow")]

    def files(*arguments, **options) -> int:
        tokenize_examples(*arguments, cache_dir=tmp_path, **options)
        return len(list((tmp_path / "tokens").glob("*.bin")))

    assert files(examples, tokenizer, TEMPLATE, 48) == 1
    assert files(examples, tokenizer, TEMPLATE, 48) == 1
    assert files([Example("what says a dog ?", "meow")], tokenizer, TEMPLATE, 48) == 2
    assert files([Example("what says a cat ?", "no")], tokenizer, TEMPLATE, 48) == 3
    assert files(examples, tokenizer, PromptTemplate("Q {prompt}"), 48) == 4
    assert files(examples, tokenizer, TEMPLATE, 47) == 5
    assert files(examples, tokenizer, RUNNING, 48) == 6


def test_the_fingerprint_is_of_what_a_tokenizer_does(tokenizer):
    same = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    other = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    other.add_tokens(["brand-new"])
    special = {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    wrapped = [PreTrainedTokenizerFast(tokenizer_object=t, **special) for t in (same, other)]
    assert tokenizer_fingerprint(wrapped[0]) == tokenizer_fingerprint(tokenizer)
    assert tokenizer_fingerprint(wrapped[1]) != tokenizer_fingerprint(tokenizer)


def test_no_examples_are_no_sequences(tokenizer):
    assert tokenize_examples([], tokenizer, TEMPLATE, 48).sequences == []


@pytest.mark.parametrize("block", [1, 2, 3, 7, 8])
def test_blocks_change_nothing(tokenizer, tmp_path, monkeypatch, block):
    """Neither tokens nor counts, with a cache or without; the plain list is the measure."""
    words = ["what", "says", "a", "cat", "?", "meow"]
    examples = [Example(" ".join(words[: 1 + n % 6]), " ".join(words[n % 5 :])) for n in range(7)]
    plain = to_sequences(examples, tokenizer, TEMPLATE, 12)
    assert isinstance(plain.sequences, list) and 0 < plain.truncated < 7
    monkeypatch.setattr("unlearning.data.tokenize.BLOCK", block)
    for cache in (None, tmp_path, tmp_path):
        found = tokenize_examples(store(examples), tokenizer, TEMPLATE, 12, cache)
        assert list(found.sequences) == plain.sequences and found.truncated == plain.truncated


def test_errors_count_examples_over_all_blocks(tokenizer, tmp_path, monkeypatch):
    monkeypatch.setattr("unlearning.data.tokenize.BLOCK", 2)
    examples = [Example("what ?", "meow")] * 5
    with pytest.raises(ConfigError, match="Example 5 has an answer without a single token"):
        tokenize_examples([*examples, Example("a", " ")], tokenizer, TEMPLATE, 48)
    with pytest.raises(ConfigError, match=r"^2 of 7 prompts .*has 9 .*'what says"):
        long = Example("what says a cat ?", "meow")
        tokenize_examples([*examples, long, long], tokenizer, TEMPLATE, 9, tmp_path)
    assert not list(tmp_path.rglob("*.bin"))  # half a file is none
