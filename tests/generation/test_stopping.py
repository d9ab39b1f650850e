"""Where a completion ends: every end token, stop strings, in batches as one at a time."""

from __future__ import annotations

from itertools import pairwise

import pytest
import tokenizer_kinds
import torch

from unlearning.data.template import PromptTemplate
from unlearning.evaluation import EvaluationSettings, evaluate
from unlearning.generation import decoding
from unlearning.generation.generate import generate
from unlearning.generation.likelihood import AnswerScore
from unlearning.generation.stopping import as_tokens, before_stop, stop_tokens
from unlearning.types import Example, PromptSet

TEMPLATE = PromptTemplate("{prompt}")
PROMPTS = ["what is the", "how", "where does the sun rise", "a cat says", "dog", "sky is blue ,"]


def saying(model, script: dict[int, int]):
    """The model, its head changed so that each token is followed by the scripted one."""

    def hook(_, arguments, output):
        ids = arguments["input_ids"][:, -output.logits.shape[1] :]
        following = torch.tensor([script.get(int(i), int(i)) for i in ids.flatten()])
        output.logits = torch.nn.functional.one_hot(
            following.view_as(ids), output.logits.shape[-1]
        ).float()

    model.register_forward_hook(lambda m, _, k, o: hook(m, k, o), with_kwargs=True)
    return model.eval()


def without_special(text: str) -> str:
    """Without special tokens, and the white space between words."""
    for token in tokenizer_kinds.SPECIAL:
        text = text.replace(token, " " if " " in text else "")
    return "".join(text.split())


@pytest.fixture
def scripted(make_model, tokenizer):
    """Says in turn, from any prompt: cat says meow dog four blue, and "blue" for ever."""
    words = tokenizer.convert_tokens_to_ids(["cat", "says", "meow", "dog", "four", "blue"])
    script = dict(pairwise(words))
    return lambda: saying(make_model("llama", len(tokenizer)), script)


@pytest.mark.parametrize("end", ["dog", "four"])
@pytest.mark.parametrize("form", ["list", "one", "more"])
def test_every_end_token_ends_an_answer(scripted, tokenizer, end, form):
    model, token = scripted(), tokenizer.convert_tokens_to_ids(end)
    options = {"end_tokens": [token]} if form == "more" else {}
    if form != "more":
        model.generation_config.eos_token_id = [95, token] if form == "list" else token
    (said,) = generate(model, tokenizer, ["a cat"], 8, **options)
    words = {"dog": "says meow", "four": "says meow dog"}[end]
    assert said.text == words and said.finished
    assert said.ids == tuple(tokenizer.convert_tokens_to_ids([*words.split(), end]))


def test_end_tokens_are_the_models_the_tokenizers_and_the_templates(make_model, tokenizer):
    model = make_model("llama", len(tokenizer))
    model.generation_config.eos_token_id = [9, 7]
    assert stop_tokens(model, tokenizer) == (2, 7, 9)
    assert stop_tokens(model, tokenizer, (5,)) == (2, 5, 7, 9)
    model.generation_config.eos_token_id = None
    assert stop_tokens(model, tokenizer) == (2,)
    model.generation_config = None
    assert stop_tokens(model, tokenizer) == (2,)
    assert (as_tokens(None), as_tokens(0), as_tokens([1, 0])) == (set(), {0}, {0, 1})


def test_options_may_name_other_end_tokens(scripted, tokenizer):
    token = tokenizer.convert_tokens_to_ids("meow")
    (said,) = generate(scripted(), tokenizer, ["a cat"], 8, eos_token_id=token)
    assert (said.text, said.finished, said.ids[-1]) == ("says", True, token)


@pytest.mark.parametrize("devices", [("cpu",), ()], ids=["rows dropped", "rows kept"])
@pytest.mark.parametrize(
    ("kind", "stop"), [("bytes", ("e", "q")), ("prepend", (" t", "no")), ("words", ("was ",))]
)
def test_stop_strings_cut_the_same_in_batches_and_alone(
    make_model, monkeypatch, kind, stop, devices
):
    """Against the uncut text of each prompt alone, cut by hand."""
    monkeypatch.setattr(decoding, "DROPS_ROWS", devices)
    bpe = tokenizer_kinds.make(kind)
    model = make_model("opt", len(bpe))
    prompts = [*PROMPTS, "Then the wind", "Look", "Is it 7?"]
    uncut = [generate(model, bpe, [prompt], 16)[0] for prompt in prompts]
    expected = []
    for said in uncut:
        text = bpe.decode([i for i in said.ids if i != bpe.eos_token_id])
        places = [text.find(string) for string in stop if string in text]
        expected.append(without_special(text[: min(places)] if places else text))
    cut = sum(
        without_special(said.text) != text for text, said in zip(expected, uncut, strict=True)
    )
    assert 0 < cut < len(prompts)
    alone = [generate(model, bpe, [p], 16, stop_strings=stop)[0] for p in prompts]
    together = generate(model, bpe, prompts, 16, len(prompts), stop_strings=stop)
    assert together == alone
    assert [without_special(said.text) for said in together] == expected
    for said, whole in zip(together, uncut, strict=True):
        assert said.ids == whole.ids[: len(said.ids)]
        assert said.finished or said == whole
        assert not any(string in bpe.decode(said.ids) for string in stop)


def test_a_row_that_has_said_it_is_not_gone_on_with(scripted, tokenizer):
    model = scripted()
    steps = []
    model.register_forward_hook(lambda *_: steps.append(1))
    (said,) = generate(model, tokenizer, ["a cat"], 60, stop_strings=["meow dog"])
    assert (said.text, said.finished, len(steps)) == ("says", True, 3)


def test_a_stop_string_from_a_command_line_may_hold_a_newline(make_model):
    bpe = tokenizer_kinds.make("bytes")
    newline = bpe.encode("\n")[0]
    model = saying(make_model("opt", len(bpe)), {bpe.encode("a")[-1]: newline, newline: newline})
    (said,) = generate(model, bpe, ["a"], 5, stop_strings=[r"\n"])
    assert (said.text, said.num_tokens, said.finished) == ("", 0, True)


def test_the_token_that_the_stop_string_begins_in_leaves_its_text_alone():
    """ "house" is one token here: of it "ho" stays as text, and no token."""
    bpe = tokenizer_kinds.make("bytes")
    ids = bpe.encode("the old house")
    cut = before_stop(ids, bpe, ["use", "zzz"])
    assert cut is not None and cut == before_stop(ids, bpe, ["use", "se"])
    assert before_stop(ids, bpe, ["use", "old"])[0] == "the "  # the first in the text
    text, kept = cut
    assert text == "the old ho" and "the old ho".startswith(bpe.decode(kept))
    assert kept == ids[: len(kept)]
    assert before_stop(ids, bpe, ["mouse"]) is None and before_stop(ids, bpe, []) is None
    # Characters of several tokens, before and in the stop string.
    for text in ("naïve — ü", "ü—é"):
        for place in range(len(text)):
            found = before_stop(bpe.encode(text), bpe, [text[place:]])
            assert found is not None and found[0] == text[:place]
            assert text[:place].startswith(bpe.decode(found[1]))
    # A special token is no text of the answer, but can be what ends it.
    ended = bpe.encode("the<|turn|> old<|end|>")
    assert before_stop(ended, bpe, ["<|end|>"])[0] == "the old"


def test_the_evaluation_and_its_memorisation_are_cut_too(scripted, tokenizer, monkeypatch):
    sets = [PromptSet("a", "copyright", [Example("a cat", "says meow dog four")])]
    scores = lambda *_: [AnswerScore(0.0, 4, 0, 0)]  # noqa: E731  # the head is no head
    monkeypatch.setattr("unlearning.evaluation.answer_scores", scores)
    found = []
    for stop in ((), ("dog",)):
        settings = EvaluationSettings(5, stop=stop)
        found += evaluate(scripted(), tokenizer, sets, TEMPLATE, "before", settings=settings)
    texts = [("says meow dog four blue", 4, False, 5), ("says meow", 2, True, 2)]
    assert texts == [(g.completion, g.verbatim_tokens, g.finished, g.num_tokens) for g in found]
