"""Run by `test_retain_utility.py` as each of two ranks."""

from __future__ import annotations

import json
import warnings

import conftest
import torch

from unlearning.callbacks import CollapseGuard

from .conftest import flat
from .test_retain_utility import ASCENT, utility
from .two_ranks import fit


def main() -> None:
    measured = utility(conftest.tokenizer._get_wrapped_function()(), perplexity=1 + 1e-9)
    guard = CollapseGuard(every_n_steps=2, retain_utility=measured)
    _, module = fit(guard, **ASCENT)
    found = {
        "before": measured.nll_before, "events": guard.events, "reason": guard.reason,
        "weights": float(flat(module).double().sum()),
    }  # fmt: skip
    print(json.dumps(found), flush=True)
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
