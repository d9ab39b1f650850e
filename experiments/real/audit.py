"""Audit of a harm classifier on what it is used for: held-out comments, and answers of a model that
were read and labelled.

    audit.py sample runs/x/generations.jsonl --judge <folder> --out answers.jsonl
    (read answers.jsonl and set "harmful" to true or false in every line)
    audit.py hash answers.jsonl --labels experiments/real/labels.jsonl
    audit.py score runs/x/generations.jsonl --judge <folder> --labels experiments/real/labels.jsonl
        [--comments toxic.csv]

Labels are kept by the hash of (prompt, completion), without a text. A data set's own flags are no
substitute for reading: those of the PKU sample were rebuilt from a ranking, and a classifier on
them reaches .54 only.

The sample holds as many answers that the judge flags as ones that it passes, where there are enough
of either, and not what the judge said. `score` weighs each half by its share of all answers.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from unlearning.classifier import HarmScorer, JigsawDataModule
from unlearning.errors import ConfigError
from unlearning.files.atomic import atomic_write
from unlearning.metrics.generations import read_generations
from unlearning.metrics.membership import roc_auc
from unlearning.metrics.score_intervals import wilson

DIGITS = 16  # of SHA-256, which tells apart more answers than there will ever be
CONFIDENCE, RESAMPLES = 0.95, 2000
Answer = tuple[str, str]
"""Prompt and completion."""


def key_of(answer: Answer) -> str:
    """Returns the hash under which an answer's label is kept."""
    return hashlib.sha256(json.dumps(answer).encode()).hexdigest()[:DIGITS]


def answers_in(files: Iterable[str], sets: Sequence[str], stages: Sequence[str]) -> list[Answer]:
    """Reads the different answers of prompt sets and models that are not blank, in order.

    Args:
        sets: prompt sets whose names begin so.
        stages: models, such as `before`; none: all.
    """
    found = [
        (g.prompt, g.completion)
        for file in files
        for g in read_generations(file)
        if g.prompt_set.startswith(tuple(sets)) and (not stages or g.stage in stages)
    ]
    return [answer for answer in dict.fromkeys(found) if answer[1].strip()]


def drawn(answers: Sequence[Answer], flagged: Sequence[bool], n: int, seed: int) -> list[Answer]:
    """Draws n answers in mixed order, half of them flagged; where one side is short, more of the
    other."""
    rng = random.Random(seed)
    sides: list[list[Answer]] = [
        [a for a, f in zip(answers, flagged, strict=True) if f is side] for side in (True, False)
    ]
    takes = [min(len(sides[0]), n // 2), min(len(sides[1]), n - n // 2)]
    for number in (0, 1):
        takes[number] = min(len(sides[number]), n - takes[1 - number])
    found = [a for side, take in zip(sides, takes, strict=True) for a in rng.sample(side, take)]
    rng.shuffle(found)
    return found


def agreement(harm: Any, labels: Any, weights: Any, threshold: float) -> dict[str, float]:
    """Computes weighted agreement, precision, recall and AUC; NaN where one has no denominator.

    Args:
        harm: [n] probabilities of the judge.
        labels: [n] whether a person calls it harmful.
        weights: [n] how many answers each stands for.
    """
    flagged, harmful = np.asarray(harm) > threshold, np.asarray(labels, dtype=bool)

    def share(part: Any, whole: Any) -> float:
        total = float(np.sum(weights * whole))
        return float(np.sum(weights * (part & whole))) / total if total else float("nan")

    everything = np.ones(len(flagged), dtype=bool)
    return {
        "agreement": share(flagged == harmful, everything),
        "precision": share(harmful, flagged),
        "recall": share(flagged, harmful),
        "harmful_among_passed": share(harmful, ~flagged),
        "auc": weighted_auc(np.asarray(harm), harmful, np.asarray(weights, dtype=float)),
    }


def weighted_auc(harm: Any, harmful: Any, weights: Any) -> float:
    """Computes the AUC over pairs of a harmful and a harmless answer, weighted by both."""
    if len(set(weights.tolist())) == 1:
        return roc_auc(harm[~harmful], harm[harmful])
    pairs = np.outer(weights[harmful], weights[~harmful])
    gaps = np.subtract.outer(harm[harmful], harm[~harmful])
    total = float(pairs.sum())
    return float((pairs * ((gaps > 0) + 0.5 * (gaps == 0))).sum()) / total if total else np.nan


def audited(harm: Any, labels: Any, sizes: Any, threshold: float) -> dict[str, Any]:
    """Computes the figures of `agreement` with 95 % intervals.

    Rates within the flagged or the passed answers have Wilson's interval, others the percentile
    bootstrap, drawn from the flagged and the passed answers apart.

    Args:
        sizes: how many answers there are that the judge flags, and that it passes; None: `harm`
            are all of them.
    """
    harm, labels = np.asarray(harm, dtype=float), np.asarray(labels, dtype=bool)
    strata = [np.flatnonzero((harm > threshold) == side) for side in (True, False)]
    weights = np.ones(len(harm))
    for rows, size in zip(strata, sizes or map(len, strata), strict=True):
        weights[rows] = size / max(len(rows), 1)
    values = agreement(harm, labels, weights, threshold)
    rng, draws = np.random.default_rng(0), []
    for _ in range(RESAMPLES):
        rows = np.concatenate([rng.choice(r, len(r)) for r in strata if len(r)])
        draws.append([*agreement(harm[rows], labels[rows], weights[rows], threshold).values()])
    bounds = np.nanquantile(draws, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], axis=0).T.tolist()
    found = {name: [values[name], *b] for name, b in zip(values, bounds, strict=True)}
    for name, rows in zip(("precision", "harmful_among_passed"), strata, strict=True):
        if len(rows):
            found[name][1:] = wilson(float(labels[rows].sum()), len(rows), CONFIDENCE)
    counts = {
        f"{'harmful' if true else 'harmless'}_{'flagged' if n == 0 else 'passed'}": int(
            (labels[rows] == true).sum()
        )
        for n, rows in enumerate(strata)
        for true in (True, False)
    }
    return {"n": len(harm), "of": int(weights.sum().round()), **counts, **found}


def read_labels(path: Path) -> dict[str, bool]:
    """Reads labels by hash; none where there is no file."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    rows = [json.loads(line) for line in lines]
    return {row["sha256"]: row["harmful"] for row in rows}


def sample(options: argparse.Namespace) -> None:
    """Writes answers to be read and labelled."""
    answers = answers_in(options.generations, options.sets, options.stages)
    judge = HarmScorer(options.judge)
    chosen = drawn(answers, judge.is_harmful([a[1] for a in answers]), options.n, options.seed)
    rows = [{"prompt": p, "completion": c, "harmful": None} for p, c in chosen]
    write_lines(options.out, rows)
    print(f"{len(rows)} of {len(answers)} answers in {options.out}, to be labelled.")


def keep(options: argparse.Namespace) -> None:
    """Adds labels by hash, without a text."""
    labels = read_labels(options.labels)
    for number, line in enumerate(options.answers.read_text(encoding="utf-8").splitlines(), 1):
        row = json.loads(line)
        if not isinstance(row["harmful"], bool):
            raise ConfigError(
                f"{options.answers}, line {number}: harmful is {row['harmful']!r}; read the answer "
                "and set it to true or false."
            )
        labels[key_of((row["prompt"], row["completion"]))] = row["harmful"]
    write_lines(options.labels, [{"sha256": k, "harmful": labels[k]} for k in sorted(labels)])
    print(f"{len(labels)} labels in {options.labels}")


def score(options: argparse.Namespace) -> None:
    """Prints the audit as JSON."""
    judge, found = HarmScorer(options.judge), dict[str, Any]()
    labels = read_labels(options.labels)
    answers = answers_in(options.generations, options.sets, options.stages)
    harm = np.array(judge.harm_probability([a[1] for a in answers]))
    known = [n for n, answer in enumerate(answers) if key_of(answer) in labels]
    if known:
        sizes = (int((harm > judge.threshold).sum()), int((harm <= judge.threshold).sum()))
        said = [labels[key_of(answers[n])] for n in known]
        found["answers"] = audited(harm[known], said, sizes, judge.threshold)
    found["labels_without_an_answer"] = len(labels) - len(known)
    if options.comments:
        found["comments"] = on_comments(judge, options)
    print(json.dumps(found, indent=2))


def on_comments(judge: HarmScorer, options: argparse.Namespace) -> dict[str, Any]:
    """Audits the judge on the test part of the comments that it was trained on."""
    data = JigsawDataModule(options.comments, labels=options.comment_labels, seed=options.seed)
    scores = json.loads((Path(options.judge) / "scores.json").read_text(encoding="utf-8"))
    comments = data.comments("test")
    harm = judge.harm_probability([comment.text for comment in comments])
    found = audited(harm, [comment.harmful for comment in comments], None, judge.threshold)
    same = scores.get("data_fingerprint") == data.fingerprint()
    return {"held_out_from_its_training": same, **found}


def write_lines(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    with atomic_write(path) as aside:
        text = "".join(json.dumps(row, ensure_ascii=True) + "\n" for row in rows)
        aside.write_text(text, encoding="utf-8")


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    for name, run in (("sample", sample), ("score", score)):
        command = commands.add_parser(name)
        command.set_defaults(run=run)
        command.add_argument("generations", nargs="+", help="generations.jsonl of runs")
        command.add_argument("--judge", required=True, help="folder of the classifier")
        command.add_argument("--sets", nargs="+", default=["harmful"], help="names begin so")
        command.add_argument("--stages", nargs="*", default=[], help="before, after ...; all")
        command.add_argument("--seed", type=int, default=0)
        if name == "sample":
            command.add_argument("--n", type=int, default=50)
            command.add_argument("--out", type=Path, required=True)
        else:
            command.add_argument("--labels", type=Path, required=True)
            command.add_argument("--comments", help="local file that the judge was trained on")
            command.add_argument("--comment-labels", nargs="+", default=["toxic"])
    command = commands.add_parser("hash")
    command.set_defaults(run=keep)
    command.add_argument("answers", type=Path, help="what `sample` wrote, labelled")
    command.add_argument("--labels", type=Path, required=True)
    return parser


if __name__ == "__main__":
    options = arguments().parse_args()
    options.run(options)
