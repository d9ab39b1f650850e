"""Of a retain set that is not streamed, memory holds an index and nothing else."""

from __future__ import annotations

import gc
import json
import tracemalloc
from pathlib import Path

import pytest

from unlearning.data import JsonlDataModule, UnlearningDataModule
from unlearning.types import Example

BYTES_A_PAIR = 120
"""At the peak. A pair's two texts alone would take some 340 as Python strings."""


@pytest.mark.parametrize("cached", [True, False])
def test_memory_grows_by_an_index_and_not_by_the_text(tmp_path, tokenizer, monkeypatch, cached):
    monkeypatch.setattr("unlearning.data.tokenize.BLOCK", 20)  # small sets are many blocks, too
    monkeypatch.setattr("unlearning.data.stored_examples.BLOCK", 20)
    forget = [Example(f"how do I cheat {n}", "write it on your palm") for n in range(4)]

    def traced(count: int) -> tuple[int, int]:
        """Bytes at the end and at the peak; counted allocations, so the same in every run."""
        path = tmp_path / f"{count}.jsonl"
        with path.open("w") as file:
            for n in range(count):
                prompt, response = f"{n} what says a cat ? " * 4, f"{n} a cat says meow " * 8
                file.write(json.dumps({"prompt": prompt, "response": response}) + "\n")
        cache: Path | None = tmp_path / "cache" if cached else None
        gc.collect()
        tracemalloc.start()
        try:
            retain = JsonlDataModule(str(path), fractions=(0.8, 0.1, 0.1), cache_dir=None)
            data = UnlearningDataModule(
                forget, retain, tokenizer, mismatch_per_prompt=2, cache_dir=cache
            )
            data.setup()
            data.batch_at(0)
            assert len(data.sequences["retain"]) == 0.8 * count
            gc.collect()
            return tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()

    traced(100)  # what is made once
    few, many = traced(1_000), traced(4_000)
    at_the_end, at_the_peak = ((b - a) / 3_000 for a, b in zip(few, many, strict=True))
    assert at_the_end <= at_the_peak < BYTES_A_PAIR
    assert at_the_end < 50
