"""Generates completions of prompts in batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from lightning.pytorch.utilities.seed import isolate_rng
from transformers import PreTrainedTokenizerBase

from unlearning.data.encode import encode_prompt_texts
from unlearning.data.template import unescaped
from unlearning.errors import ConfigError
from unlearning.generation.batch_size import bytes_a_row, free_memory, in_batches, rows_that_fit
from unlearning.generation.decoding import continuations
from unlearning.generation.sampling import Sampling
from unlearning.generation.stopping import StopRule, as_tokens, before_stop, stop_tokens
from unlearning.models.decoder import CausalLM, context_length, evaluating, unwrap
from unlearning.models.trial import takes_left_pads


@dataclass(frozen=True)
class Completion:
    """A model's completion of a prompt.

    Args:
        text: without the prompt and without special tokens.
        ids: the generated tokens, the end token included.
        finished: whether the model ended it (False: cut at the limit).
    """

    text: str
    ids: tuple[int, ...]
    finished: bool

    @property
    def num_tokens(self) -> int:
        return len(self.ids)


@contextmanager
def inference_mode(model: CausalLM) -> Iterator[None]:
    """Context of eval mode without gradients, which leaves the random number generators
    unchanged."""
    with evaluating(model), isolate_rng(), torch.inference_mode():
        yield


def generate(
    model: CausalLM,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str | Sequence[int]],
    max_new_tokens: int = 64,
    batch_size: int | None = None,
    on_answered: Callable[[int], None] | None = None,
    stop_strings: Sequence[str] = (),
    end_tokens: Sequence[int] = (),
    sampling: Sampling | None = None,
    **options: Any,
) -> list[Completion]:
    """Completes templated prompts in batches, greedily unless `sampling` or `options` (of
    `model.generate`) say otherwise.

    Prompts of like length share a batch and are padded on the left, which leaves the text what it
    would be for each prompt alone. Where pads would change it, only prompts of one length share a
    batch (it is tried). A completion ends with an end token of the tokenizer or of the model's
    `generation_config`, or of `end_tokens`.

    Args:
        prompts: as text in its template, or as tokens, see `encode_prompts`.
        batch_size: prompts at once; None: as many as the free memory holds. Fewer where CUDA runs
            out of memory all the same.
        on_answered: told how many more prompts are answered, as they are.
        stop_strings: a completion also ends before the first of these texts in it.
        end_tokens: more tokens that end a completion, such as a chat template's end of a turn.
        sampling: draws each token; what a prompt is answered depends on its place among the
            prompts and not on the batch size.

    Raises:
        ConfigError: a prompt with its completion would not fit the model's context.
    """
    ends = stop_tokens(model, tokenizer, end_tokens)
    if "eos_token_id" in options:
        ends = tuple(sorted(as_tokens(options.pop("eos_token_id"))))
    stop = StopRule(ends, tuple(map(unescaped, stop_strings)), tokenizer)
    pad = padding_token(tokenizer)
    texts = [prompt for prompt in prompts if isinstance(prompt, str)]
    encoded = iter(encode_prompt_texts(texts, tokenizer))
    ids = [next(encoded) if isinstance(prompt, str) else list(prompt) for prompt in prompts]
    order = sorted(range(len(ids)), key=lambda n: -len(ids[n]))
    if ids:
        _check_context(model, tokenizer, ids[order[0]], max_new_tokens)
    found: dict[int, Completion] = {}

    def answer(numbers: list[int]) -> None:
        width = max(len(ids[n]) for n in numbers)
        rows = torch.tensor([[pad] * (width - len(ids[n])) + ids[n] for n in numbers])
        mask = torch.tensor([[0] * (width - len(ids[n])) + [1] * len(ids[n]) for n in numbers])
        rows, mask = rows.to(model.device), mask.to(model.device)
        draws = None if sampling is None else sampling.draws(numbers, max_new_tokens)
        said = continuations(
            model, rows, mask, max_new_tokens, pad, stop, options, sampling, draws, on_answered
        )  # fmt: skip
        for number, row in zip(numbers, said, strict=True):
            found[number] = _completion(row, stop)

    if ids:
        size = batch_size or rows_at_once(model, len(ids[order[0]]), max_new_tokens)
        with inference_mode(model):
            for numbers in _side_by_side(model, order, ids):
                in_batches(numbers, size, answer)
    return [found[number] for number in range(len(ids))]


def _side_by_side(
    model: CausalLM, order: list[int], ids: Sequence[Sequence[int]]
) -> list[list[int]]:
    """Groups prompts, longest first, into those that may share a batch: all of them, or those of
    one length where a model does not take pads before a prompt."""
    if len({len(ids[n]) for n in order}) == 1 or takes_left_pads(model):
        return [order]
    return [list(group) for _, group in groupby(order, key=lambda n: len(ids[n]))]


def rows_at_once(model: CausalLM, prompt_tokens: int, new_tokens: int) -> int:
    """Returns how many rows the free memory holds; see `bytes_a_row`."""
    base = unwrap(model)
    row = bytes_a_row(base.config, prompt_tokens, new_tokens, base.dtype.itemsize)
    return rows_that_fit(row, free_memory(base.device))  # type: ignore[arg-type]


def _check_context(
    model: CausalLM, tokenizer: PreTrainedTokenizerBase, ids: list[int], max_new_tokens: int
) -> None:
    """Checks prompt lengths before the first batch: past its context, a model fails with an
    IndexError."""
    context = context_length(model)
    if context is not None and len(ids) + max_new_tokens > context:
        prompt = str(tokenizer.decode(ids[:60], skip_special_tokens=True))
        raise ConfigError(
            f"A prompt has {len(ids)} tokens and max_new_tokens={max_new_tokens}, together more "
            f"than the model's context of {context}. Lower max_new_tokens or remove the prompt, "
            f"which begins {prompt[:60]!r}."
        )


def _completion(row: list[int], stop: StopRule) -> Completion:
    place = next((n for n, token in enumerate(row) if token in stop.tokens), None)
    said = row[:place]  # without the end token, which not every tokenizer calls special
    cut = before_stop(said, stop.tokenizer, stop.strings)
    if cut is not None:
        return Completion(cut[0].strip(), tuple(cut[1]), True)
    text = decoded(said, stop.tokenizer)
    return Completion(text, tuple(said if place is None else row[: place + 1]), place is not None)


def decoded(ids: Sequence[int], tokenizer: PreTrainedTokenizerBase) -> str:
    """Decodes the text of a completion."""
    return str(tokenizer.decode(list(ids), skip_special_tokens=True)).strip()


def padding_token(tokenizer: PreTrainedTokenizerBase) -> int:
    """Returns a token to pad with; padding is masked, so that any does."""
    pad = tokenizer.pad_token_id
    return int(pad if pad is not None else tokenizer.eos_token_id or 0)
