"""Metrics over batches, and on two processes: uneven ranks, and a rank without any answer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import forked  # noqa: F401  (what the server imports)
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from unlearning.errors import ConfigError
from unlearning.metrics.accuracy import kept_right, rouge_accuracy
from unlearning.metrics.choice import choice_accuracy
from unlearning.metrics.harm import harmful_rate
from unlearning.metrics.likeness import bleu_to_target, rouge_l_to_target
from unlearning.metrics.memorisation import mean_exact_memorisation, mean_verbatim_chars
from unlearning.metrics.metric import Metric, metric
from unlearning.metrics.over_batches import OverBatches
from unlearning.metrics.perplexity import target_perplexity
from unlearning.metrics.statistic import mean
from unlearning.types import AlternativeScore, Generation

SAID = ["the cat sat on the mat", "", "go " * 8, "a dog ran over the hill"]
TRUE = ["the cat sat on a mat", "yes", "we go", "a dog ran over the hill"]
HARM = [0.9, 0.1, 0.6, 0.2]
NLL, TOKENS = [1.0, 2.0, 30.0, 4.0], [2, 1, 5, 8]
SHARES = {"uneven": [[0], [1, 2, 3]], "empty": [[0, 1, 2, 3], []]}
METRICS: tuple[Metric, ...] = (
    harmful_rate, bleu_to_target, rouge_l_to_target, rouge_accuracy, target_perplexity,
    mean_verbatim_chars, mean_exact_memorisation,
)  # fmt: skip


def _answers(rows: list[int]) -> list[Generation]:
    return [
        Generation(
            "s", "x", i, "?", TRUE[i], SAID[i], harm_probability=HARM[i], target_nll=NLL[i],
            target_tokens=TOKENS[i], target_matches=TOKENS[i] - 1,
        )
        for i in rows
    ]  # fmt: skip


def _scores(rows: list[int]) -> dict[str, Any]:
    """Every metric over these rows, and over those of the other ranks where there are any."""
    found = {}
    for each in METRICS:
        over = OverBatches(each)
        for row in rows:
            over.update(_answers([row]))
        found[each.name] = round(over.compute().item(), 5)
    return found


def test_batches_add_up_to_the_metric_of_all() -> None:
    answers = _answers([0, 1, 2, 3])
    expected = {m.name: round(m.statistic(answers).value, 5) for m in METRICS}  # type: ignore[union-attr]
    assert _scores([0, 1, 2, 3]) == expected


def test_what_does_not_add_up_is_refused() -> None:
    @metric("Median length")
    def median(answers: Any) -> float:
        return float(sorted(len(g.completion) for g in answers)[len(answers) // 2])

    for each in (median, kept_right):
        with pytest.raises(ConfigError, match="does not add up over batches"):
            OverBatches(each)


def test_choices_add_up_too() -> None:
    """Though the metric does not apply to answers without choices."""
    over = OverBatches(choice_accuracy)
    for right in (0, 1, 1):
        scores = [AlternativeScore("a", 1.0, 2), AlternativeScore("b", 3.0, 2)]
        row = Generation("s", "x", 0, "?", "", "", alternatives={"choices": scores}, label=right)
        over.update([row])
    over.update(_answers([0]))  # which has no choices
    assert over.compute().item() == pytest.approx(1 / 3)


def test_an_example_says_what_statistic_there_will_be() -> None:
    @metric("Of long answers")
    def of_long(answers: Any) -> Any:
        long = [g for g in answers if len(g.completion) > 20]
        return mean([g.completion.count("a") for g in long]) if long else None

    with pytest.raises(ConfigError, match="does not apply to an answer with target"):
        OverBatches(of_long)
    example = replace(_answers([0])[0], completion="b" * 21 + "aa")
    over = OverBatches(of_long, example=example)
    over.update([example])
    assert over.compute().item() == 2


def _worker(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/rendezvous", rank=rank, world_size=2)
    found = {name: _scores(share[rank]) for name, share in SHARES.items()}
    torch.save(found, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.ddp
def test_two_processes_equal_one(tmp_path: Path) -> None:
    mp.start_processes(_worker, args=(str(tmp_path),), nprocs=2, start_method="forkserver")
    alone = _scores([0, 1, 2, 3])
    for rank in (0, 1):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert found == {"uneven": alone, "empty": alone}
