"""The metric classes on two processes: uneven ranks, and a rank without any answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import forked  # noqa: F401  (what the server imports)
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor

from unlearning.metrics.accuracy import RougeAccuracy
from unlearning.metrics.degeneracy import DegeneracyRates
from unlearning.metrics.harm import HarmfulRate
from unlearning.metrics.memorisation import Memorisation, VerbatimRun
from unlearning.metrics.perplexity import MeanTokenNLL, Perplexity
from unlearning.metrics.similarity import CorpusBLEU, RougeL

SAID = ["the cat sat on the mat", "", "go " * 8, "a dog ran over the hill"]
TRUE = ["the cat sat on a mat", "yes", "we go", "a dog ran over the hill"]
HARM = [0.9, 0.1, 0.6, 0.2]
NLL, TOKENS = [1.0, 2.0, 30.0, 4.0], [2, 1, 5, 8]
SHARES = {"uneven": [[0], [1, 2, 3]], "empty": [[0, 1, 2, 3], []]}


def _scores(rows: list[int]) -> dict[str, Any]:
    """Every metric over these rows, and over those of the other ranks where there are any."""
    said, true = [SAID[i] for i in rows], [TRUE[i] for i in rows]
    harm = torch.tensor([HARM[i] for i in rows])
    nll = torch.tensor([NLL[i] for i in rows])
    tokens = torch.tensor([TOKENS[i] for i in rows], dtype=torch.int64)
    filled = [
        (HarmfulRate(), (harm,)),
        (DegeneracyRates(), (said,)),
        (CorpusBLEU(), (said, true)),
        (RougeL(), (said, true)),
        (RougeAccuracy(), (said, true)),
        (Perplexity(), (nll, tokens)),
        (MeanTokenNLL(), (nll, tokens)),
        (VerbatimRun(), (said, true)),
        (Memorisation(), (tokens, tokens - 1, tokens)),
    ]
    for metric, arguments in filled:
        metric.update(*arguments)
    return {type(metric).__name__: _plain(metric.compute()) for metric, _ in filled}


def _plain(value: Any) -> Any:
    if isinstance(value, Tensor):
        return round(value.item(), 5)
    return {name: _plain(part) for name, part in value.items()}


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
