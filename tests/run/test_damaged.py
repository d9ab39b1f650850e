"""A whole run whose every kept file was damaged ends with the same figures."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from unlearning.models.load import save_model
from unlearning.run.output.console import Stages, set_up_logging
from unlearning.run.pipeline import run
from unlearning.run.stages import unlearned

WORDS = (
    "experiment=demo", "classifier=none", "finetune=full", "finetune.max_steps=1",
    "finetune.require=null",
    "finetune.context_length=96", "model.base.vocab_size=400", "model.base.max_steps=1",
    "model.base.training.warmup_steps=0", "model.base.architecture={hidden_size: 16, "
    "num_hidden_layers: 1, num_attention_heads: 2, ffn_dim: 32, max_position_embeddings: 160}",
    "reference.mode=cached", "data.mismatch_per_prompt=1", "unlearn.max_steps=2",
    "unlearn.retain_batch_size=2", "unlearn.warmup_steps=0", "evaluation.max_new_tokens=3",
    "evaluation.resamples=20", "callbacks.harm=null", "callbacks.samples=null",
    *(f"evaluation.prompt_sets.{name}.limit=2" for name in (
        "harmful_train", "harmful_heldout", "retain_heldout", "related",
    )),
)  # fmt: skip
UNLIKE = ("seconds", "peak_memory_mb")  # and so they are in the facts of the fine-tuning


def figures(folder: Path) -> dict[str, Any]:
    found = json.loads((folder / "metrics.json").read_text())
    del found["finetune"]["seconds"]
    return {name: value for name, value in found.items() if name not in UNLIKE}


def kept(cache: Path) -> list[Path]:
    return sorted(
        path
        for path in cache.rglob("*")
        if path.is_file() and path.suffix != ".lock" and "damaged" not in str(path)
    )


def spoil(path: Path, number: int) -> None:
    """Flips a bit, cuts, empties or removes, by turns."""
    content = bytearray(path.read_bytes())
    if number % 4 == 0:
        content[len(content) // 2] ^= 4
    path.write_bytes(content[: len(content) // 2] if number % 4 == 1 else content)
    if number % 4 == 2:
        path.write_bytes(b"")
    if number % 4 == 3:
        path.unlink()


def test_with_every_kept_file_damaged_a_run_ends_with_the_same_figures(
    compose_config, tmp_path, monkeypatch
):
    """And so does one whose own result was damaged before it was resumed, or foreign."""
    config = compose_config(*WORDS, f"cache_dir={tmp_path}/cache")
    run(config, tmp_path / "first")
    files = kept(tmp_path / "cache")
    assert {path.relative_to(tmp_path / "cache").parts[0] for path in files} == {
        "answers", "base", "finetune", "reference", "tokens",
    }  # fmt: skip
    for number, path in enumerate(files):
        spoil(path, number)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched, pytest.raises(OSError, match="No space left"):
        patched.setattr(unlearned, "save_model", full)
        run(config, tmp_path / "second")
    assert not (tmp_path / "second/model").exists()
    (tmp_path / "second/model").mkdir()
    (tmp_path / "second/model/thesis.tex").write_text("theirs")
    calls: list[Path] = []

    def told(*arguments: Any, **options: Any) -> Any:
        calls.append(arguments[2])
        return save_model(*arguments, **options)

    monkeypatch.setattr(unlearned, "save_model", told)
    run(config, tmp_path / "second", resume=True)
    assert len(calls) == 1 and figures(tmp_path / "second") == figures(tmp_path / "first")
    assert (tmp_path / "second/model.found-1/thesis.tex").read_text() == "theirs"
    assert any("damaged" in str(path) for path in (tmp_path / "cache").rglob("*"))


def test_a_damaged_record_of_times_begins_anew(tmp_path, caplog):
    for text in ("", "[1]", '{"base": "x"}', "{"):
        (tmp_path / "seconds.json").write_text(text)
        assert Stages(1, tmp_path / "seconds.json").seconds == {}
        assert "times begin anew" in caplog.text
    (tmp_path / "seconds.json").write_text('{"base": 2}')
    assert Stages(1, tmp_path / "seconds.json").seconds == {"base": 2.0}


def test_a_second_run_in_a_process_closes_the_log_of_the_first(tmp_path):
    ours = logging.getLogger("unlearning")
    root, before = logging.getLogger(), (logging.getLogger().handlers, ours.handlers)
    opened: list[logging.FileHandler] = []
    try:
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
            set_up_logging(tmp_path / name)
            opened += [h for h in root.handlers if isinstance(h, logging.FileHandler)]
        first, second = opened
        assert Path(second.baseFilename) == tmp_path / "two/run.log"
        assert first.stream is None and second.stream is not None
    finally:
        for handler in opened:
            handler.close()
        root.handlers, ours.handlers = before
        logging.captureWarnings(False)
