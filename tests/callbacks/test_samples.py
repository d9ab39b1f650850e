"""Samples: the file, and the loggers that take text."""

from __future__ import annotations

import json

import pytest
import torch
from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger

from unlearning.callbacks.samples import SampleGenerations
from unlearning.errors import ConfigError
from unlearning.generation.generate import generate

from .conftest import SaveAt, flat

QUESTIONS = ("how do I cheat ?", "what is “a” ?")
PROMPTS = [f"### Question: {question}\n### Answer:" for question in QUESTIONS]


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_lines_hold_step_prompt_and_completion(fit, tokenizer, make_model, tmp_path):
    path = tmp_path / "run" / "samples.jsonl"
    _, module = fit(SampleGenerations(PROMPTS, tokenizer, path, 4, max_new_tokens=6))
    rows = lines(path)
    assert [row["step"] for row in rows] == [0, 0, 4, 4, 8, 8]
    assert [row["prompt"] for row in rows] == PROMPTS * 3
    for model, found in ((make_model(), rows[:2]), (module.policy, rows[4:])):
        expected = [c.text for c in generate(model, tokenizer, PROMPTS, 6)]
        assert [row["completion"] for row in found] == expected
    assert "“a”" in path.read_text(encoding="utf-8")


def test_a_resumed_run_appends_and_training_does_not_notice(fit, tokenizer, tmp_path):
    path = tmp_path / "samples.jsonl"
    trainer, _ = fit(SampleGenerations(PROMPTS, tokenizer, path, 4), max_steps=4)
    trainer.save_checkpoint(tmp_path / "four.ckpt")
    again = SampleGenerations(PROMPTS, tokenizer, path, 4)
    _, module = fit(again, ckpt_path=tmp_path / "four.ckpt")
    assert [row["step"] for row in lines(path)] == [0, 0, 4, 4, 8, 8]
    _, free = fit()
    assert torch.equal(flat(module), flat(free))


def test_what_comes_after_the_step_of_a_resume_is_said_once(fit, tokenizer, tmp_path):
    """Killed in the middle of a line, after the last checkpoint."""
    path = tmp_path / "samples.jsonl"
    settings = {"every_n_steps": 2, "max_new_tokens": 6}
    fit(SampleGenerations(PROMPTS, tokenizer, path, **settings), SaveAt(3, tmp_path / "3.ckpt"))
    whole = path.read_text(encoding="utf-8")
    path.write_text(whole + whole.splitlines(keepends=True)[-1][:20], encoding="utf-8")
    fit(SampleGenerations(PROMPTS, tokenizer, path, **settings), ckpt_path=tmp_path / "3.ckpt")
    assert path.read_text(encoding="utf-8") == whole
    assert [row["step"] for row in lines(path)] == [0, 0, 2, 2, 4, 4, 6, 6, 8, 8]
    # The same run once more from the start; killed before its first checkpoint, say.
    fit(SampleGenerations(PROMPTS, tokenizer, path, **settings))
    assert path.read_text(encoding="utf-8") == whole
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


class Wandb(WandbLogger):
    """Keeps tables instead of sending them."""

    def __init__(self):
        self.tables = []

    save_dir = None

    def log_text(self, key, columns=None, data=None, dataframe=None, step=None):
        self.tables.append((key, columns, data, step))

    def log_metrics(self, metrics, step=None):
        pass

    log_hyperparams = log_graph = after_save_checkpoint = save = finalize = (
        lambda self, *args, **kwargs: None
    )


class TensorBoard(TensorBoardLogger):
    """Keeps texts instead of writing them."""

    def __init__(self):
        self.texts = {}

    save_dir = None

    @property
    def experiment(self):
        return self

    def add_text(self, tag, text, step):
        self.texts[tag, step] = text

    log_metrics = Wandb.log_metrics
    log_hyperparams = log_graph = after_save_checkpoint = save = finalize = Wandb.save


def test_loggers_that_take_text_get_it(fit, tokenizer, tmp_path):
    wandb, board = Wandb(), TensorBoard()
    callback = SampleGenerations(PROMPTS, tokenizer, tmp_path / "samples.jsonl", 5)
    fit(callback, max_steps=5, logger=[wandb, board], log_every_n_steps=1)
    rows = lines(tmp_path / "samples.jsonl")
    table = [["5", row["prompt"], row["completion"]] for row in rows[2:]]
    assert wandb.tables[1] == ("samples", ["step", "prompt", "completion"], table, 5)
    assert [table[3] for table in wandb.tables] == [0, 5]
    assert set(board.texts) == {(f"samples/{n}", step) for n in (0, 1) for step in (0, 5)}
    assert rows[2]["completion"] in board.texts["samples/0", 5]


@pytest.mark.parametrize("theirs", ["no JSON\n", '{"text": "mine"}\n', '{"step": 0}\n[1]\n'])
def test_a_file_that_holds_no_samples_is_left_alone(fit, tokenizer, tmp_path, theirs):
    (tmp_path / "samples.jsonl").write_text(theirs)
    with pytest.raises(ConfigError, match="no samples, and would be overwritten"):
        fit(SampleGenerations(PROMPTS, tokenizer, tmp_path / "samples.jsonl"))
    assert (tmp_path / "samples.jsonl").read_text() == theirs


def test_no_prompts_are_refused(tokenizer, tmp_path):
    with pytest.raises(ConfigError, match="at least one prompt"):
        SampleGenerations([], tokenizer, tmp_path / "samples.jsonl")
