"""The audit of a harm classifier: what is drawn, what is kept, and the figures by hand."""

from __future__ import annotations

import importlib.util
import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest

from unlearning.errors import ConfigError
from unlearning.metrics.generations import write_generations
from unlearning.types import Generation

SCRIPT = Path(__file__).parents[1] / "experiments" / "real" / "audit.py"


@pytest.fixture(scope="module")
def audit():
    spec = importlib.util.spec_from_file_location("real_audit", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["real_audit"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["real_audit"]


class Judge:
    """Calls an answer harmful by a number in it, in percent."""

    threshold = 0.5

    def __init__(self, model):
        assert model == "judge"

    def harm_probability(self, texts):
        return [int(text.split()[0]) / 100 for text in texts]

    def is_harmful(self, texts):
        return [p > self.threshold for p in self.harm_probability(texts)]


@pytest.fixture
def command(audit, monkeypatch, capsys):
    monkeypatch.setattr(audit, "HarmScorer", Judge)

    def run(*words):
        options = audit.arguments().parse_args([str(word) for word in words])
        options.run(options)
        return capsys.readouterr().out

    return run


@pytest.fixture
def generations(tmp_path):
    """Twenty answers that the judge flags and eighty that it passes, of two models; one twice, one
    blank, one of another set."""
    rows = [
        Generation("before" if i % 2 else "after", "harmful_train", i, f"secret prompt {i}", "t",
                   f"{90 if i < 20 else 10} secret answer {i}")
        for i in range(100)
    ]  # fmt: skip
    rows.append(
        Generation("oracle", "harmful_more", 0, *("secret prompt 0", "t", rows[0].completion))
    )
    rows.append(Generation("before", "harmful_train", 200, "secret prompt", "t", " \n"))
    rows.append(Generation("before", "retain", 0, "secret prompt", "t", "90 retain"))
    write_generations(tmp_path / "generations.jsonl", rows)
    return tmp_path / "generations.jsonl"


def test_sample_hash_and_score(command, generations, tmp_path, audit):
    out, labels = tmp_path / "answers.jsonl", tmp_path / "labels.jsonl"
    said = command("sample", generations, "--judge", "judge", "--n", 30, "--out", out)
    assert said.startswith("30 of 100 answers")
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    flagged = [row["completion"].startswith("90") for row in rows]
    assert sum(flagged) == 15 and flagged != sorted(flagged)  # half of them, in mixed order
    assert all(row.keys() == {"prompt", "completion", "harmful"} for row in rows)
    command("sample", generations, "--judge", "judge", "--n", 30, "--out", tmp_path / "again")
    assert (tmp_path / "again").read_text() == out.read_text()

    with pytest.raises(ConfigError, match=r"answers\.jsonl, line 1: harmful is None"):
        command("hash", out, "--labels", labels)
    # The judge is wrong on 5 of the 15 that it flags, and on 3 of the 15 that it passes.
    seen = {True: 0, False: 0}
    for row, flag in zip(rows, flagged, strict=True):
        seen[flag] += 1
        row["harmful"] = seen[flag] > 5 if flag else seen[flag] <= 3
    audit.write_lines(out, rows)
    command("hash", out, "--labels", labels)
    command("hash", out, "--labels", labels)  # adds nothing
    kept = labels.read_text()
    assert "secret" not in kept and len(kept.splitlines()) == 30
    assert all(len(json.loads(line)["sha256"]) == 16 for line in kept.splitlines())

    found = json.loads(command("score", generations, "--judge", "judge", "--labels", labels))
    answers = found["answers"]
    assert found["labels_without_an_answer"] == 0
    assert (answers["n"], answers["of"]) == (30, 100)
    assert (answers["harmful_flagged"], answers["harmless_flagged"]) == (10, 5)
    assert (answers["harmful_passed"], answers["harmless_passed"]) == (3, 12)
    # Each half weighs as much as there are answers of it: 20 and 80.
    assert answers["precision"][0] == pytest.approx(10 / 15)
    assert answers["harmful_among_passed"][0] == pytest.approx(3 / 15)
    assert answers["recall"][0] == pytest.approx((20 * 10 / 15) / (20 * 10 / 15 + 80 * 3 / 15))
    assert answers["agreement"][0] == pytest.approx((20 * 10 / 15 + 80 * 12 / 15) / 100)
    for value, low, high in (answers[n] for n in ("agreement", "precision", "recall", "auc")):
        assert 0 <= low < value < high <= 1


def test_where_one_side_is_short_the_other_fills_up(audit):
    answers = [("p", f"{n}") for n in range(10)]
    found = audit.drawn(answers, [n < 2 for n in range(10)], 8, seed=0)
    assert len(set(found)) == 8 and set(found) >= {("p", "0"), ("p", "1")}
    assert len(audit.drawn(answers, [True] * 10, 50, seed=0)) == 10


def test_the_weighted_area_is_that_of_repeated_answers(audit):
    generator = np.random.default_rng(0)
    harm, harmful = generator.integers(0, 6, 30) / 6, generator.integers(0, 2, 30) > 0
    times = generator.integers(1, 4, 30)
    repeated = audit.roc_auc(
        np.repeat(harm[~harmful], times[~harmful]), np.repeat(harm[harmful], times[harmful])
    )
    assert audit.weighted_auc(harm, harmful, times.astype(float)) == pytest.approx(repeated)


def test_all_of_the_answers_need_no_weights(audit):
    found = audit.audited([0.9, 0.8, 0.2, 0.1], [True, False, True, False], None, 0.5)
    assert found["agreement"][0] == 0.5 and found["auc"][0] == 0.75
    assert (found["n"], found["of"]) == (4, 4)
    nobody = audit.agreement(np.array([0.9]), np.array([True]), np.ones(1), 0.5)
    assert nobody["agreement"] == nobody["recall"] == 1 and math.isnan(nobody["auc"])


def test_the_labels_of_the_repository_hold_no_text(audit):
    file = SCRIPT.parent / "labels.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    assert all(row.keys() == {"sha256", "harmful"} for row in rows)
    assert all(len(row["sha256"]) == audit.DIGITS for row in rows)
