from __future__ import annotations

import pytest

from unlearning.data.template import PromptTemplate
from unlearning.data.tokenize import tokenize_examples
from unlearning.data.tokenize_windows import tokenize_windows
from unlearning.errors import ConfigError
from unlearning.types import Example

PASSAGE = PromptTemplate("{prompt}", "", append_eos=False)


def test_windows_that_fit_are_examples_like_others(tokenizer, retain_examples):
    for template in (PASSAGE, PromptTemplate()):
        for max_length in (12, 48, 1000):
            ours = tokenize_windows(retain_examples, tokenizer, template, max_length)
            assert ours == tokenize_examples(retain_examples, tokenizer, template, max_length)
    assert tokenize_windows([], tokenizer, PASSAGE, 12).sequences == []


def test_a_prompt_that_fills_the_length_gives_its_end_to_the_answer(tokenizer):
    window = Example("what is the capital of France", " take lunch")
    with pytest.raises(ConfigError, match="leave no room"):
        tokenize_examples([window], tokenizer, PASSAGE, 6)
    (found,) = tokenize_windows([window], tokenizer, PASSAGE, 6).sequences
    assert tokenizer.decode(found.prompt_ids) == "what is the"
    assert tokenizer.decode(found.response_ids) == "capital of France"
    (found,) = tokenize_windows([window], tokenizer, PASSAGE, 7).sequences  # just fits
    assert tokenizer.decode(found.response_ids) == "take"
