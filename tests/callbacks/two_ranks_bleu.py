"""Run by `test_bleu.py` as each of two ranks: `two_ranks_bleu.py <JSON of the passages>`."""

from __future__ import annotations

import json
import sys
import warnings

import conftest
import torch

from unlearning.callbacks import BleuEvaluation
from unlearning.types import Example

from .test_bleu import TEXT
from .two_ranks import fit


def main(passages: list[list[str]]) -> None:
    tokenizer = conftest.tokenizer._get_wrapped_function()()
    book = [Example(prompt, response) for prompt, response in passages]
    found = {}
    for count in (1, len(book)):
        # At the start only: the untrained model's value is what one process has.
        bleu = BleuEvaluation(book[:count], tokenizer, TEXT, 10, max_new_tokens=8)
        trainer, _ = fit(bleu)
        found[count] = float(trainer.callback_metrics["bleu/forget"])
    stop = BleuEvaluation(book, tokenizer, TEXT, 1, stop_at=100.0, max_new_tokens=8)
    trainer, _ = fit(stop)
    result = {"bleu": found, "stopped": trainer.global_step, "reason": stop.reason}
    print(json.dumps(result), flush=True)
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main(json.loads(sys.argv[1]))
