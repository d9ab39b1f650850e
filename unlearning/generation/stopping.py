"""Where a completion ends: the tokens and the texts that end it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase, StoppingCriteria

from unlearning.models.decoder import CausalLM, unwrap


def stop_tokens(
    model: CausalLM, tokenizer: PreTrainedTokenizerBase, more: Sequence[int] = ()
) -> tuple[int, ...]:
    """Returns the tokens that end a completion, in ascending order.

    Those of the model's `generation_config` (a chat model may end a turn with another token than a
    text), the tokenizer's end token, and `more`, such as the end of a turn in a chat template.
    """
    settings = unwrap(model).generation_config
    found = set(more) | as_tokens(None if settings is None else settings.eos_token_id)
    return tuple(sorted(found | as_tokens(tokenizer.eos_token_id)))


def as_tokens(eos_token_id: int | Sequence[int] | None) -> set[int]:
    """Returns end tokens that are given as one, as several or not at all."""
    if eos_token_id is None:
        return set()
    return {eos_token_id} if isinstance(eos_token_id, int) else {int(i) for i in eos_token_id}


@dataclass(frozen=True)
class StopRule:
    """What ends a completion.

    Args:
        tokens: each of them does.
        strings: so does a text that holds one of them.
        tokenizer: of the text.
    """

    tokens: tuple[int, ...]
    strings: tuple[str, ...]
    tokenizer: PreTrainedTokenizerBase

    def now(self, new_BL: Tensor) -> Tensor:
        """Returns [B] which rows end with the last of these new tokens, or did shortly before."""
        ended = torch.isin(new_BL[:, -1], new_BL.new_tensor(self.tokens))
        if not self.strings:
            return ended
        # A token is at least a byte of the text.
        tail = max(len(string.encode()) for string in self.strings) + 4
        texts = [str(self.tokenizer.decode(row)) for row in new_BL[:, -tail:].tolist()]
        said = [any(string in text for string in self.strings) for text in texts]
        return ended | torch.tensor(said, device=ended.device)


class Ended(StoppingCriteria):
    """Stopping criterion: a quarter of the rows have ended, and at least four or all. Records
    which.

    Restarting without them costs about as much as a step of a few rows.

    Args:
        rows: how many there are.
        width: tokens of a prompt, with its padding.
        together: as above; False reports each row for itself, and records nothing.
    """

    def __init__(self, stop: StopRule, rows: int, width: int, together: bool = True) -> None:
        self.stop, self.width, self.together = stop, width, together
        self.rows_B = torch.zeros(rows, dtype=torch.bool)
        self.enough = min(rows, max(4, rows // 4))

    def __call__(self, input_ids: Tensor, scores: Any, **_: Any) -> Tensor:  # type: ignore[override]
        now = self.stop.now(input_ids[:, self.width :])
        if not self.together:
            return now
        self.rows_B = self.rows_B.to(now.device) | now
        # No `if`: on a GPU, the host would have to wait for the step to know.
        return (self.rows_B.sum() >= self.enough).expand(len(input_ids))


def before_stop(
    ids: Sequence[int], tokenizer: PreTrainedTokenizerBase, stop_strings: Sequence[str]
) -> tuple[str, list[int]] | None:
    """Cuts a completion before the first stop string in it; None where there is none.

    Returns:
        The text before it, and the tokens that lie wholly before it.
    """
    whole = str(tokenizer.decode(list(ids)))
    places = [whole.find(string) for string in stop_strings]
    if max(places, default=-1) < 0:
        return None
    end = min(place for place in places if place >= 0)
    number = len(ids)
    while number and len(str(tokenizer.decode(list(ids[:number])))) > end:
        number -= 1
    kept = list(ids[:number])
    # Of a token that the stop string begins in, the text before it stays.
    rest = whole[len(str(tokenizer.decode(kept))) : end]
    return str(tokenizer.decode(kept, skip_special_tokens=True)) + rest, kept
