"""The tokenizer's chat template: the prompt that generation reads, and the turn that ends it."""

from __future__ import annotations

import chat_templates as forms
import pytest
import tokenizer_kinds

from unlearning.data import ChatTemplate
from unlearning.data.encode import encode_answers, encode_prompts
from unlearning.data.tokenize import to_sequences, tokenize_examples
from unlearning.errors import ConfigError
from unlearning.types import Example

CHAT = ChatTemplate()
ASKED = Example("Where is the old road?", "Look behind the house.")
TALK = Example(
    "And then?", "Never.", turns=[("user", "Where do I look?"), ("assistant", "Behind the house.")]
)
TOLD = Example("And then?", "Never.", turns=[("system", "Say no.")])


@pytest.fixture(scope="module")
def made():
    kept = {}

    def get(form, kind="bytes", **settings):
        key = (form, kind, *settings.items())
        if key not in kept:
            kept[key] = tokenizer_kinds.make(kind, chat_template=form, **settings)
        return kept[key]

    return get


def pieces(tokenizer, example, template=CHAT, length=500) -> tuple[str, str]:
    (sequence,) = to_sequences([example], tokenizer, template, length).sequences
    return tokenizer.decode(sequence.prompt_ids), tokenizer.decode(sequence.response_ids)


@pytest.mark.parametrize(
    ("form", "prompt", "answer"),
    [
        (forms.CHATML, "<|turn|>user\nWhere is the old road?<|end|>\n<|turn|>assistant\n",
         "Look behind the house.<|end|>"),
        (forms.WITH_START, "<s><|turn|>user\n\nWhere is the old road?<|end|><|turn|>assistant\n\n",
         "Look behind the house.<|end|>"),
        (forms.NO_SYSTEM, "<s><|turn|>user\nWhere is the old road?<|end|>\n<|turn|>model\n",
         "Look behind the house.<|end|>"),
        (forms.THINKING, "<|turn|>user\nWhere is the old road?<|end|>\n<|turn|>assistant\n"
         "<think>\n\n</think>\n\n", "Look behind the house.<|end|>"),
        (forms.THINKING_ONCE, "<|turn|>user\nWhere is the old road?<|end|>\n<|turn|>assistant\n"
         "<think>\n\n</think>\n\n", "Look behind the house.<|end|>"),
        (forms.SPACED, "<s>[ Where is the old road? ]", " Look behind the house. </s>"),
        (forms.ENDED_TWICE, "<|turn|>user\nWhere is the old road?<|end|>\n<|turn|>assistant\n",
         "Look behind the house.<|end|>"),
        (forms.OPEN_END, "<|turn|>user\nWhere is the old road?<|turn|>assistant\n",
         "Look behind the house.</s>"),
    ],
    ids=["chatml", "with start", "no system", "thinking", "once", "spaced", "twice", "open"],
)  # fmt: skip
@pytest.mark.parametrize("start", [False, True])
def test_prompt_and_answer_by_hand(made, form, prompt, answer, start):
    """Whether or not the tokenizer puts a start token before texts: the template alone does."""
    tokenizer = made(form, start=start)
    CHAT.check(tokenizer)
    assert pieces(tokenizer, ASKED) == (prompt, answer)
    (sequence,) = to_sequences([ASKED], tokenizer, CHAT, 500).sequences
    assert sequence.prompt_ids.count(tokenizer.bos_token_id) == prompt.count("<s>")
    ends = (tokenizer.convert_tokens_to_ids("<|end|>"),) if "<|end|>" in answer else (2,)
    assert CHAT.end_tokens(tokenizer) == ends == sequence.response_ids[-1:]


@pytest.mark.parametrize("form", [forms.CHATML, forms.WITH_START, forms.SPACED, forms.THINKING])
@pytest.mark.parametrize("kind", ["bytes", "prepend", "metaspace_first", "unigram", "wordpiece"])
def test_tokens_are_those_of_transformers_itself(made, form, kind):
    tokenizer = made(form, kind)
    for example in (ASKED, TALK):
        said = [{"role": role, "content": text} for role, text in example.turns]
        said.append({"role": "user", "content": example.prompt})
        asked = tokenizer.apply_chat_template(
            said, add_generation_prompt=True, enable_thinking=False
        )["input_ids"]
        said.append({"role": "assistant", "content": example.response})
        whole = tokenizer.apply_chat_template(said, enable_thinking=False)["input_ids"]
        (prompt,) = encode_prompts([example], tokenizer, CHAT)
        (answer,) = encode_answers([example], tokenizer, CHAT)
        assert prompt == asked
        ended = [*prompt, *answer, *CHAT.end_tokens(tokenizer)]
        assert ended == whole[: len(ended)]
        assert not tokenizer.decode(whole[len(ended) :]).strip()  # a newline at most


def test_turns_and_system_texts_stand_in_the_prompt(made):
    tokenizer = made(forms.CHATML)
    asked = "<|turn|>user\nAnd then?<|end|>\n<|turn|>assistant\n"
    earlier = "<|turn|>user\nWhere do I look?<|end|>\n<|turn|>assistant\nBehind the house.<|end|>\n"
    brief = ChatTemplate(system=r"Be old.\nAnd cold.")
    said = "<|turn|>system\nBe old.\nAnd cold.<|end|>\n"
    assert pieces(tokenizer, TALK) == (earlier + asked, "Never.<|end|>")
    assert pieces(tokenizer, TALK, brief)[0] == said + earlier + asked
    assert pieces(tokenizer, TOLD, brief)[0] == "<|turn|>system\nSay no.<|end|>\n" + asked


def test_thinking_can_be_left_on(made):
    tokenizer = made(forms.THINKING_ONCE)
    prompt, answer = pieces(tokenizer, ASKED, ChatTemplate(enable_thinking=True))
    assert prompt.endswith("<|turn|>assistant\n") and answer == "Look behind the house.<|end|>"


def test_an_answer_that_is_part_of_the_closing_text_is_found(made):
    assert pieces(made(forms.CHATML), Example("Why?", "end"))[1] == "end<|end|>"
    assert pieces(made(forms.THINKING_ONCE), Example("Why?", "end"))[1] == "end<|end|>"


def test_a_date_is_always_the_same_one(made):
    assert pieces(made(forms.DATED), ASKED)[0].startswith("26 Jul 2024\n")


def test_what_a_template_does_not_take_is_refused_before_any_work(made):
    told = ChatTemplate(system="Be old.")
    told.check(made(forms.CHATML))
    CHAT.check(made(forms.NO_SYSTEM))
    with pytest.raises(ConfigError, match=r"dialogue of system, user: System role not supp.*"
                       r"Set data\.template\.system=null"):  # fmt: skip
        told.check(made(forms.NO_SYSTEM))
    with pytest.raises(ConfigError, match=r"system='Be old\.': this tokenizer's chat template lea"):
        told.check(made(forms.DROPS_SYSTEM))
    with pytest.raises(ConfigError, match="the tokenizer has no chat template"):
        CHAT.check(tokenizer_kinds.make("bytes"))
    with pytest.raises(ConfigError, match="leaves out what the user says"):
        CHAT.check(made("{% for m in messages %}{{ m.role }}{% endfor %}"))
    with pytest.raises(ConfigError, match="leaves out what the assistant says"):
        CHAT.check(made("{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}"))
    form = "{% for m in messages %}{{ messages | length }}{{ m.content | replace('x', '') }}|"
    with pytest.raises(ConfigError, match="gives this answer another form than others: 'fox'"):
        to_sequences([Example("a", "fox")], made(form + "{% endfor %}"), CHAT, 99)


def test_the_cache_of_tokens_knows_the_template(made, tmp_path):
    def files(*settings) -> int:
        tokenize_examples([ASKED], *settings, 500, tmp_path)
        return len(list((tmp_path / "tokens").glob("*.bin")))

    assert files(made(forms.CHATML), CHAT) == 1
    assert files(made(forms.CHATML), ChatTemplate()) == 1
    assert files(made(forms.CHATML), ChatTemplate(system="No.")) == 2
    assert files(made(forms.WITH_START), CHAT) == 3
