"""What `validate=true` prints of the tokens where prompt and answer meet."""

from __future__ import annotations

import chat_templates as forms
import pytest
import tokenizer_kinds
from transformers import GenerationConfig, LlamaConfig

from unlearning.data import ChatTemplate, SyntheticDataModule
from unlearning.errors import ConfigError
from unlearning.run.checks.tokens import token_lines
from unlearning.types import Example


class One(SyntheticDataModule):
    """One example."""

    def read(self):
        return [Example("Is it 7?", "Look behind the house. Then the wind said no.")]


@pytest.fixture
def lines(compose_config, tmp_path, monkeypatch):
    """The lines for a tokenizer and overrides."""

    def get(tokenizer, *overrides: str, end: object = 2) -> list[str]:
        tokenizer.save_pretrained(tmp_path)
        LlamaConfig(eos_token_id=end).save_pretrained(tmp_path)
        GenerationConfig(eos_token_id=end).save_pretrained(tmp_path)
        config = compose_config("data=synthetic", "model.tokenizer=null", *overrides)
        data = {"forget": One("harmful", fractions=(1, 0, 0)), "retain": None, "related": None}
        return token_lines(config, data, str(tmp_path))

    return get


def test_pieces_counts_and_ends_by_hand(lines):
    tokenizer = tokenizer_kinds.make("words", start=True)
    shown = lines(tokenizer, r'data.template.prompt_format="Question: {prompt}\nAnswer: the old"')
    assert shown == [
        "tokens, data.forget: <s> Question: <unk> it <unk> Answer: the old | Look behind the "
        "house. Then the wind said <unk> </s>",
        "  in prompt + answer: <s> 1 + 0, </s> 0 + 1; tokenised together the same",
        "  warning: 3 tokens are <unk>, unknown to the tokenizer",
        "tokens that end an answer: </s> (the template, the tokenizer, the model)",
    ]


def test_a_chat_is_shown_with_the_token_that_ends_a_turn(lines):
    tokenizer = tokenizer_kinds.make("bytes", chat_template=forms.CHATML)
    shown = lines(tokenizer, "data/template=chat", end=[2, 4])
    assert shown[0].startswith("tokens, data.forget: ... ") and shown[0].endswith(" <|end|>")
    assert " <|turn|> " in shown[0].split(" | ")[0] and "Ċ | L" in shown[0]
    assert shown[1:] == [
        "  in prompt + answer: <s> 0 + 0, </s> 0 + 0; tokenised together the same",
        "tokens that end an answer: </s> (the tokenizer, the model), <|turn|> (the model), "
        "<|end|> (the template)",
    ]
    assert lines(tokenizer)[-1].endswith("; the tokenizer has a chat template (data/template=chat)")


@pytest.mark.parametrize(
    ("settings", "override", "warning"),
    [
        ({"start": True}, 'data.template.prompt_format="<s><s>Q: {prompt} A:"',
         "the prompt begins with <s> twice"),
        ({"eos_token": None}, "data.template.append_eos=true", "no end token: the tokenizer has n"),
        ({}, 'data.template.prompt_format="Q: {prompt} A: "', "together, there would be"),
        ({}, 'data.template.prompt_format="<|turn|>user {prompt} A:"',
         "data.template.prompt_format holds <|turn|>, a token of chat templates"),
        ({}, 'data.template.prompt_format="[INST] {prompt} [/INST]"',
         "data.template.prompt_format holds [/INST], which is no token of this tokenizer"),
        ({"start": True, "chat_template": forms.CHATML}, "data/template=chat",
         "the tokenizer begins texts with <s>, not the prompt"),
    ],
)  # fmt: skip
def test_what_looks_wrong_is_warned_of(lines, settings, override, warning):
    overrides = [override, "data.template.answer_prefix=''"] if "A: " in override else [override]
    shown = lines(tokenizer_kinds.make("bytes", **settings), *overrides)
    assert [line for line in shown if f"warning: {warning}" in line], shown


def test_nothing_is_warned_of_where_nothing_is_wrong(lines):
    for kind in ("bytes", "prepend", "metaspace_first", "unigram"):
        shown = lines(tokenizer_kinds.make(kind, start=True, end=True))
        assert "warning" not in "\n".join(shown)
        assert "<s> 1 + 0, </s> 0 + 1; tokenised together the same" in shown[1]


def test_without_a_tokenizer_it_is_said_why(compose_config):
    config = compose_config("data=synthetic", "model.tokenizer=null")
    assert "trained with the model" in token_lines(config, {}, None)[0]
    assert "of some/model is not on this machine" in token_lines(config, {}, "some/model")[0]


def test_a_template_that_is_none_for_the_tokenizer_is_refused(lines):
    with pytest.raises(ConfigError, match="the tokenizer has no chat template"):
        lines(tokenizer_kinds.make("bytes"), "data/template=chat")
    assert ChatTemplate().append_eos
