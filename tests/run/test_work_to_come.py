"""What is said before long work: how many answers there are to come, how long the like took."""

from __future__ import annotations

from unlearning.run.checks.work import answers_line
from unlearning.run.output.console import Stages
from unlearning.types import Example, PromptSet


def test_a_long_evaluation_is_announced_by_the_one_before(monkeypatch, tmp_path):
    said = []
    monkeypatch.setattr("unlearning.run.output.console.say", said.append)

    def announced(before: float, unlearn: float) -> str:
        stages = Stages(3)
        stages.seconds = {"evaluate before": before, "unlearn": unlearn}
        said.clear()
        with stages.stage("evaluate after"):
            pass
        return said[0]

    assert announced(20, 5) == "[1/3] evaluate after ..."
    assert announced(362, 500) == "[1/3] evaluate after ... (evaluate before took 6 min 2 s)"
    longer = "(evaluate before took 6 min 2 s, more than unlearn)"
    assert announced(362, 90) == f"[1/3] evaluate after ... {longer}"


def test_the_answers_to_come_are_counted_before_the_run(compose_config):
    config = compose_config("experiment=copyright_demo")
    pairs = [Example("a b", "c")] * 5
    sets = [PromptSet("book_train", "copyright", pairs), PromptSet("kept", "retain", pairs[:2])]
    line = "answers: 7 prompts (book_train 5, kept 2) by 3 models, 64 tokens at most"
    assert answers_line(config, sets) == line
