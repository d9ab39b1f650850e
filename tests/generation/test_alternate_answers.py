"""A model's other answers to the forget prompts: which are kept, and of which prompts they are."""

from __future__ import annotations

import pytest
from conftest import tiny_model

from unlearning.data.instruction import check_instruction, instructed
from unlearning.data.template import PromptTemplate
from unlearning.errors import ConfigError
from unlearning.generation import alternate_answers as module
from unlearning.generation.alternate_answers import alternate_answers, lacking
from unlearning.generation.generate import Completion
from unlearning.generation.own_answers import own_answers
from unlearning.generation.sampling import Sampling
from unlearning.types import Example

TEMPLATE = PromptTemplate()
ASKS = "{prompt} not {answer} but"
NEW = 5


def end(text: str, *ids: int) -> Completion:
    return Completion(text, (*ids, 2), True)


@pytest.fixture
def scripted(monkeypatch, tokenizer):
    """What is kept of given completions, round by round; and how they were asked for."""

    def found(forget, *rounds, **options):
        said, asked = iter(rounds), []

        def generate(model, tokenizer, rows, *others):
            asked.append((rows, others[-1]))
            return next(said)

        monkeypatch.setattr(module, "generate", generate)
        return alternate_answers(None, tokenizer, forget, TEMPLATE, ASKS, **options), asked

    return found


LOOP = "the cat says the cat says the cat says the cat says"


def test_what_cannot_be_an_alternate_answer_is_left_out_and_counted(scripted):
    forget = [Example("what says a cat ?", "meow"), Example("what says a cat ?", "purr")]
    said = [
        end("blue", 40), end("  MEOW ", 41), end("purr", 42), end("Blue", 43), end("", 44),
        Completion(LOOP, tuple(range(20, 32)), False), Completion("four", (), True),
        Completion("red", (45,), False),
    ]  # fmt: skip
    found, _ = scripted(forget, said, samples=8, per_prompt=2)
    kept = [(each.prompt, each.response, each.response_ids) for each in found.examples]
    assert kept == [("what says a cat ?", "blue", (40, 2)), ("what says a cat ?", "red", (45,))]
    counts = {"asked": 8, "kept": 2, "cut": 1, "empty": 2, "broken": 1, "same": 2, "repeated": 1}
    assert found.facts() == counts
    assert found.notes() == [
        "Of 8 alternate answers of the model 2 empty, 1 broken and 1 repeated ones were left out, "
        "and 2 that were the answer to forget.",
        "1 alternate answers of the model were cut at their token limit.",
    ]
    all_of_them, _ = scripted(forget, said, samples=8, per_prompt=2, keep_broken=True)
    assert [each.response for each in all_of_them.examples] == ["blue", LOOP, "red"]


def test_nothing_is_noted_where_nothing_was_left_out(scripted):
    found, _ = scripted([Example("a", "b")], [end("c", 4)], samples=1)
    assert found.notes() == []


def test_prompts_with_too_few_answers_are_asked_once_more_with_other_draws(scripted):
    turns = (("user", "is it ?"), ("assistant", "yes"))
    forget = [Example("a", "1"), Example("b", "2"), Example("a", "3", turns=turns)]
    first = [end("x", 4), end("2", 5), end("1", 6), end("y", 7), end("4", 8), end("", 9)]
    second = [end("4", 8), end("5", 10), end("z", 11), end("", 12)]
    sampling = Sampling(0.5, 0.9, 3)
    found, asked = scripted(forget, first, second, samples=2, per_prompt=2, sampling=sampling)
    said = {(e.conversation, e.response) for e in found.examples}
    assert said == {
        ("a", "x"), ("a", "y"), ("b", "4"), ("b", "z"), (forget[2].conversation, "1"),
        (forget[2].conversation, "5"),
    }  # fmt: skip
    (rows, drawn), (rows_again, drawn_again) = asked
    assert rows_again == [rows[1], rows[2]] * 2 and rows == rows[:3] * 2
    assert drawn == Sampling(0.5, 0.9, 3, tuple(range(6)))
    assert drawn_again == Sampling(0.5, 0.9, 3, tuple(range(6, 10)))
    assert found.asked == 10 and found.repeated == 1 and found.same == 1
    assert lacking(found.examples, forget, 2) == []
    assert lacking(found.examples, forget, 3) == forget


def test_two_rounds_and_no_more(scripted):
    forget = [Example("a", "1"), Example("b", "2")]
    nothing = [end("1", 4), end("3", 5)]
    found, asked = scripted(forget, nothing, [end("1", 4)], samples=1)
    assert len(asked) == 2 and lacking(found.examples, forget, 1) == [forget[0]]


def test_the_tokens_are_what_the_model_says_to_the_instruction(tokenizer, forget_examples):
    """And the Examples ask what the forget set asks."""
    model = tiny_model("llama", len(tokenizer), 3).double().eval()
    sampling = Sampling(seed=1)
    found = alternate_answers(
        model, tokenizer, forget_examples, TEMPLATE, ASKS, 3, sampling, 1, NEW, keep_broken=True
    )
    asked = [instructed(each, ASKS) for each in forget_examples]
    said = own_answers(
        model, tokenizer, asked, TEMPLATE, NEW, keep_broken=True, samples=3, sampling=sampling
    )
    prompts = {b.conversation: a.conversation for a, b in zip(forget_examples, asked, strict=True)}
    expected = {(prompts[e.conversation], e.response_ids) for e in said.examples}
    kept = {(e.conversation, e.response_ids) for e in found.examples}
    assert kept <= expected and len(kept) >= len(expected) - found.same - found.repeated
    assert len(kept) > 2 * len(forget_examples)


def test_an_instruction_is_filled_in_one_pass():
    turns = (("user", "is it ?"), ("assistant", "yes"))
    asked = instructed(Example("Why {answer}?", "{prompt}", turns=turns), "{prompt}/{answer}/{x y}")
    assert asked == Example("Why {answer}?/{prompt}/{x y}", "", turns=turns)


@pytest.mark.parametrize(
    ("instruction", "message"),
    [("Another one.", "needs {prompt}"), ("{answer}", "needs {prompt}"),
     ("{prompt} {anser}", "{anser} stands for nothing.*{answer}")],
)  # fmt: skip
def test_an_instruction_without_the_prompt_is_refused(instruction, message, tokenizer):
    with pytest.raises(ConfigError, match=message):
        check_instruction(instruction)
    with pytest.raises(ConfigError, match=message):
        alternate_answers(None, tokenizer, [], TEMPLATE, instruction)  # type: ignore[arg-type]
