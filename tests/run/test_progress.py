"""Bars on a terminal, lines elsewhere, nothing for who calls the package as a library."""

from __future__ import annotations

import io
import re
from threading import Event

import pytest
from rich.console import Console

from unlearning.module import UnlearningModule
from unlearning.progress import counting, working
from unlearning.run.output import progress
from unlearning.run.output.console import Stages
from unlearning.run.output.lines import Lines, beating
from unlearning.run.output.progress import StageProgress, showing


@pytest.fixture
def terminal(monkeypatch):
    console = Console(file=io.StringIO(), force_terminal=True, width=160, highlight=False)
    monkeypatch.setattr(progress, "console", console)
    return console


def shown(console: Console) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", console.file.getvalue())


class Clock:
    """Seconds that pass when they are told to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def log():
    """What is printed where there is no terminal, with the clock that decides when."""
    clock, said = Clock(), list[str]()
    lines = Lines(30, said.append, clock)

    def after(seconds: float) -> list[str]:
        clock.now += seconds
        lines.tick()
        new, said[:] = list(said), []
        return new

    with progress.shown_by(lines.show):
        yield after


def test_a_line_every_thirty_seconds_and_no_more(log):
    with counting("unlearn", 150, "step") as done:
        printed = []
        for step in range(1, 61):  # 3.1 s each
            done(1, f"forget -{step}.000")
            printed += log(3.1)
        assert printed == [
            "unlearn: 10 of 150 steps, 3.1 s per step, 7 min 14 s left; forget -10.000",
            "unlearn: 20 of 150 steps, 3.1 s per step, 6 min 43 s left; forget -20.000",
            "unlearn: 30 of 150 steps, 3.1 s per step, 6 min 12 s left; forget -30.000",
            "unlearn: 40 of 150 steps, 3.1 s per step, 5 min 41 s left; forget -40.000",
            "unlearn: 50 of 150 steps, 3.1 s per step, 5 min 10 s left; forget -50.000",
            "unlearn: 60 of 150 steps, 3.1 s per step, 4 min 39 s left; forget -60.000",
        ]
        done(90)
    assert log(0) == ["unlearn: 150 of 150 steps in 3 min 6 s, 1.2 s per step; forget -60.000"]


def test_what_is_soon_over_prints_nothing(log):
    for _ in range(5):
        with counting("retain_heldout", 8, "answer") as done:
            done(8)
            assert log(5.9) == []
    assert log(600) == []  # nothing is under way


def test_a_batch_that_takes_long_is_no_silence(log):
    with counting("harmful_heldout", 512, "answer") as done:
        assert log(30) == ["harmful_heldout: 0 of 512 answers, 30 s so far"]
        done(256)
        assert log(2) == []
        assert log(28) == ["harmful_heldout: 256 of 512 answers, 4.3 answers/s, 1 min 0 s left"]


def test_the_innermost_work_is_told_and_the_stage_has_its_own_last_line(log):
    with working("evaluate before"):
        assert log(31) == ["evaluate before: 31 s so far"]
        with working("loading opt"):
            assert log(30) == ["loading opt: 30 s so far"]
        assert log(0) == ["loading opt: in 30 s"]
        assert log(29) == []
        assert log(1) == ["evaluate before: 1 min 31 s so far"]
    assert log(0) == []


def test_rate_and_time_left_of_a_resumed_training_are_those_of_this_part(log):
    with counting("unlearn", 100, "step", begun=60) as done:
        done(10)
        assert log(40) == ["unlearn: 70 of 100 steps, 4.0 s per step, 2 min 0 s left"]


def test_an_error_ends_a_loop_without_a_last_line(log):
    with pytest.raises(RuntimeError), counting("unlearn", 9, "step"):
        assert len(log(30)) == 1
        raise RuntimeError
    assert log(600) == []


def test_lines_come_from_a_thread_of_their_own():
    said, waited = [], Event()

    def say(text: str) -> None:
        said.append(text)
        waited.set()

    lines = Lines(0.05, say)
    with progress.shown_by(lines.show), beating(lines), counting("unlearn", 5, "step"):
        assert waited.wait(20), "the main thread did nothing, and nothing was said"
    assert said[0].startswith("unlearn: 0 of 5 steps, ")
    assert said[-1].startswith("unlearn: 0 of 5 steps, ")


def test_a_log_gets_lines_below_those_of_the_stages(monkeypatch):
    console = Console(file=io.StringIO(), width=40, highlight=False, soft_wrap=True)
    monkeypatch.setattr(progress, "console", console)
    monkeypatch.setattr("unlearning.run.output.console.console", console)
    waited = Event()
    monkeypatch.setattr(progress, "beating", lambda lines: beating(Told(lines, waited)))
    with showing(0.05), Stages(1).stage("evaluate before"), counting("a [set]", 8, "answer"):
        assert waited.wait(20)
    text = console.file.getvalue().splitlines()
    assert text[0] == "[1/1] evaluate before ..."
    assert re.fullmatch(r"      a \[set\]: 0 of 8 answers, \d+(\.\d)? s so far", text[1]), text
    assert text[-1].startswith("[1/1] evaluate before: ")


class Told:
    """Lines that say when one has been printed."""

    def __init__(self, lines: Lines, told: Event) -> None:
        self.lines, self.seconds, self.told = lines, lines.seconds, told

    def tick(self) -> float:
        wait = self.lines.tick()
        if any(work.told for work in self.lines._works):
            self.told.set()
        return wait


@pytest.mark.parametrize("seconds", [0, 30])
def test_a_log_gets_no_bars(monkeypatch, seconds):
    console = Console(file=io.StringIO())
    monkeypatch.setattr(progress, "console", console)
    with showing(seconds), counting("evaluate after", 8, "prompt") as done:
        done(8)
    assert console.file.getvalue() == ""


def test_other_ranks_and_library_calls_show_nothing(monkeypatch):
    console = Console(file=io.StringIO(), force_terminal=True, quiet=True)
    monkeypatch.setattr(progress, "console", console)
    with showing(0.01), counting("evaluate after", 8, "prompt") as done:
        done(8)
    assert console.file.getvalue() == ""


def test_a_training_shows_losses_rate_and_time_left(terminal, model, make_data, quiet_trainer):
    bar = StageProgress("unlearn", refresh_seconds=0.0)
    with showing(30):
        quiet_trainer(max_steps=6, callbacks=[bar]).fit(UnlearningModule(model), make_data())
    text = shown(terminal)
    assert re.search(r"unlearn .* 6/6 +[\d.]+(/s| s each) +\d:\d\d:\d\d +\d:\d\d:\d\d", text), text
    assert "forget -" in text and "mismatch " in text and "retain " in text


def test_a_training_tells_a_log_its_losses(log, model, make_data, quiet_trainer):
    bar = StageProgress("unlearn", refresh_seconds=0.0)
    said = []

    class Long(progress.Callback):
        def on_train_batch_end(self, trainer, *_):
            said.extend(log(20))

    trainer = quiet_trainer(max_steps=6, accumulate_grad_batches=1, callbacks=[bar, Long()])
    trainer.fit(UnlearningModule(model), make_data())
    said += log(0)
    losses = r"; total -?\d\.\d{3}  forget -\d\.\d{3}  mismatch \d\.\d{3}  retain -?\d\.\d{3}"
    expected = [
        "unlearn: 2 of 6 steps, 20.0 s per step, 1 min 20 s left",
        "unlearn: 4 of 6 steps, 20.0 s per step, 40 s left",
        "unlearn: 6 of 6 steps, 20.0 s per step, 0.0 s left",
        "unlearn: 6 of 6 steps in 2 min 0 s, 20.0 s per step",
    ]
    assert [re.sub(losses + "$", "", text) for text in said] == expected, said
    assert all(re.search(losses, text) for text in said), said


def test_an_evaluation_counts_its_prompts(terminal):
    with showing(30), counting("evaluate after", 8, "prompt") as done:
        with counting("retain_heldout", 5, "answer") as answered:
            done(5)
            answered(5)
        done(3)
    text = shown(terminal)
    assert "evaluate after" in text and "8/8" in text
    assert "retain_heldout" in text and "5/5" in text


def test_generation_and_scores_tell_how_many_are_done(model, tokenizer):
    from unlearning.generation.generate import generate
    from unlearning.generation.likelihood import answer_scores
    from unlearning.types import TokenizedExample

    told = []
    generate(model, tokenizer, ["how do I", "what is", "the"], 4, 2, on_answered=told.append)
    assert told == [2, 1]
    known = [TokenizedExample((5, n), (7, 8)) for n in (6, 7, 8)]
    answer_scores(model, known, 0, batch_size=2, on_scored=told.append)
    assert told == [2, 1, 2, 1]


def test_states_of_the_reference_are_counted(log, model, make_data):
    from unlearning.reference import Cached

    data = make_data()
    data.setup()
    cached = Cached(model, batch_size=2)
    items = data.sequences["retain"]
    said = []
    for _ in cached._states(model, items, data.pad_token_id, "retain"):
        said += log(16)
    said += log(0)
    name, number = "hidden states of the reference, retain", len(items)
    assert said[0].startswith(f"{name}: 0 of {number} answers, 32 s so far")
    assert said[-1].startswith(f"{name}: {number} of {number} answers in ")
