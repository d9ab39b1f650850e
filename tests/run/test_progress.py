"""Bars on a terminal, none elsewhere."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from unlearning.module import UnlearningModule
from unlearning.run.output import progress


@pytest.fixture
def terminal(monkeypatch):
    console = Console(file=io.StringIO(), force_terminal=True, width=160, highlight=False)
    monkeypatch.setattr(progress, "console", console)
    return console


def shown(console: Console) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", console.file.getvalue())


def test_a_training_shows_losses_rate_and_time_left(terminal, model, make_data, quiet_trainer):
    (bar,) = progress.bar("unlearn")
    bar.refresh_seconds = 0.0
    quiet_trainer(max_steps=6, callbacks=[bar]).fit(UnlearningModule(model), make_data())
    text = shown(terminal)
    assert re.search(r"unlearn .* 6/6 +[\d.]+(/s| s each) +\d:\d\d:\d\d +\d:\d\d:\d\d", text), text
    assert "forget -" in text and "mismatch " in text and "retain " in text


def test_an_evaluation_counts_its_prompts(terminal):
    with progress.counting("evaluate after", 8) as done:
        done(5)
        done(3)
    assert "evaluate after" in shown(terminal) and "8/8" in shown(terminal)


def test_a_log_that_is_no_terminal_gets_no_bar(monkeypatch):
    console = Console(file=io.StringIO())
    monkeypatch.setattr(progress, "console", console)
    assert progress.bar("unlearn") == []
    with progress.counting("evaluate after", 8) as done:
        done(8)
    assert console.file.getvalue() == ""


def test_generation_tells_how_many_prompts_are_done(model, tokenizer):
    from unlearning.generation.generate import generate

    told = []
    generate(model, tokenizer, ["how do I", "what is", "the"], 4, 2, on_answered=told.append)
    assert told == [2, 1]
