"""`callbacks`: what watches the unlearning, and the user's own callbacks."""

from __future__ import annotations

from typing import Literal

from unlearning.ranges import AboveOne, Count, InnerShare, Positive, Whole
from unlearning.run.config.schema.kinds import Closed, Open, Target, Text


class Prompts(Closed):
    every_n_steps: Count
    prompts: Count


class Bleu(Prompts):
    stop: bool
    patience: Count


class RetainUtility(Closed):
    perplexity: AboveOne | None = None
    prompts: Count


class Guard(Closed):
    """Arguments of `CollapseGuard`."""

    retain_kl: Positive | None = None
    retain_perplexity: Positive | None = None
    forget_nll: Positive | None = None
    action: Literal["stop", "lower"] = "stop"
    factor: InnerShare = 0.5
    every_n_steps: Count = 10
    window: Count = 10
    patience: Whole = 0
    max_lowerings: Whole = 5
    kl_metric: Text | None = None
    retain_nll_metric: Text = ""
    forget_nll_metric: Text = ""
    loss_metric: Text = ""
    retain_utility: RetainUtility | None = None


class Checkpoint(Closed):
    every_n_steps: Count
    keep: Count
    best: Text | None
    mode: Literal["min", "max"]
    finished: Literal["last", "all", "none"] = "last"


class Callbacks(Open):
    harm: Prompts | None
    bleu: Bleu | None
    samples: Prompts | None
    guard: Guard | None
    checkpoint: Checkpoint | None
    __pydantic_extra__: dict[str, Target | None]
