from __future__ import annotations

import math
import random
from itertools import combinations

import numpy as np
import pytest
import sacrebleu
from rouge_score.rouge_scorer import RougeScorer
from torchmetrics.functional.text.rouge import rouge_score

from unlearning.errors import ConfigError
from unlearning.metrics.similarity import (
    bleu_from_statistics,
    bleu_of_sums,
    bleu_signature,
    bleu_statistics,
    common_subsequence,
    corpus_bleu,
    rouge_l,
    rouge_l_each,
)
from unlearning.metrics.words import split_words

WORDS = ["the", "cat", "sat", "on", "a", "mat;", "don't", "it", "3.5", "-", "really?", "No", "42"]


def _corpus(n: int, seed: int) -> tuple[list[str], list[str]]:
    draw = random.Random(seed)
    targets = [" ".join(draw.choices(WORDS, k=draw.randrange(0, 14))) for _ in range(n)]
    hypotheses = []
    for target in targets:
        kept = [w if draw.random() < 0.7 else draw.choice(WORDS) for w in target.split()]
        hypotheses.append(" ".join(kept[: draw.randrange(0, 14)]))
    return hypotheses, targets


@pytest.mark.parametrize("seed", range(5))
def test_bleu_equals_sacrebleu(seed: int) -> None:
    hypotheses, targets = _corpus(40, seed)
    expected = sacrebleu.corpus_bleu(hypotheses, [targets]).score
    assert corpus_bleu(hypotheses, targets) == expected


@pytest.mark.parametrize(
    ("hypotheses", "targets"),
    [
        (["one two three"], ["one two four"]),  # no 3-gram matches, no 4-gram exists
        (["a b c d e f"], ["f e d c b a"]),  # unigrams only: smoothing at work
        (["", "a b c d e"], ["x y z", "a b c d e"]),
        ([""], ["a b c d"]),
        (["a b c d"], [""]),
        (["über den wolken da oben ."], ["über den Wolken, da oben."]),
    ],
)
def test_bleu_equals_sacrebleu_at_the_edges(hypotheses: list[str], targets: list[str]) -> None:
    expected = sacrebleu.corpus_bleu(hypotheses, [targets]).score
    assert corpus_bleu(hypotheses, targets) == expected


def test_bleu_by_hand() -> None:
    """4 of 5 words match, 3 of 4 bigrams, 2 of 3 trigrams, 1 of 2 4-grams; equal lengths."""
    rows = bleu_statistics(["a b c d x"], ["a b c d e"])
    assert rows.tolist() == [[4, 3, 2, 1, 5, 4, 3, 2, 5, 5]]
    by_hand = 100 * (4 / 5 * 3 / 4 * 2 / 3 * 1 / 2) ** 0.25
    assert bleu_from_statistics(rows[0]) == pytest.approx(by_hand)


def test_bleu_of_resampled_sums_is_corpus_bleu_of_the_resample() -> None:
    hypotheses, targets = _corpus(30, seed=7)
    rows = bleu_statistics(hypotheses, targets)
    drawn = np.random.default_rng(0).integers(0, 30, size=(4, 30))
    sums = np.stack([rows[picks].sum(axis=0) for picks in drawn]).astype(float)
    expected = [
        sacrebleu.corpus_bleu([hypotheses[i] for i in d], [[targets[i] for i in d]]).score
        for d in drawn
    ]
    assert bleu_of_sums(sums).tolist() == expected
    assert math.isnan(bleu_of_sums(np.full((1, 10), np.nan))[0])


def test_bleu_signature_is_that_of_sacrebleus_default() -> None:
    bleu = sacrebleu.BLEU()
    bleu.corpus_score(["a b"], [["a c"]])
    assert bleu_signature() == str(bleu.get_signature())


@pytest.mark.parametrize("seed", range(3))
def test_rouge_l_equals_rouge_score(seed: int) -> None:
    scorer = RougeScorer(["rougeL"])
    hypotheses, targets = _corpus(40, seed)
    expected = [
        scorer.score(target, hypothesis)["rougeL"].fmeasure
        for hypothesis, target in zip(hypotheses, targets, strict=True)
        if hypothesis or target
    ]
    both = zip(hypotheses, targets, strict=True)
    found = [rouge_l(h, r) for h, r in both if h or r]
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_rouge_l_equals_torchmetrics(seed: int) -> None:
    hypotheses, targets = _corpus(30, seed)
    for hypothesis, target in zip(hypotheses, targets, strict=True):
        if hypothesis and target:
            score = rouge_score(
                hypothesis, target, rouge_keys="rougeL",
                normalizer=lambda text: text, tokenizer=split_words,
            )["rougeL_fmeasure"]  # fmt: skip
            assert rouge_l(hypothesis, target) == pytest.approx(float(score), abs=1e-6)


def test_longest_common_subsequence_is_that_of_all_subsequences() -> None:
    draw = random.Random(0)

    def every(items: list[int]) -> set[tuple[int, ...]]:
        return {kept for k in range(len(items) + 1) for kept in combinations(items, k)}

    for _ in range(100):
        first, second = (draw.choices(range(3), k=draw.randrange(9)) for _ in range(2))
        expected = max(map(len, every(first) & every(second)))
        assert common_subsequence(first, second) == expected
    long = draw.choices(range(50), k=300)  # more than a machine word of them
    assert common_subsequence(long, long) == 300
    assert common_subsequence(long[::2], long) == 150


def test_rouge_l_by_hand() -> None:
    # "the mat sat" and "the cat sat": longest common subsequence "the sat"; P = R = 2/3
    assert rouge_l("The mat sat!", "the cat sat") == pytest.approx(2 / 3, abs=1e-6)
    # P = 2/2, R = 2/4
    assert rouge_l("a c", "a b c d") == pytest.approx(2 / 3, abs=1e-6)


def test_rouge_l_at_a_threshold_is_not_lost_to_fp32() -> None:
    tens = "a b c d e f g h i j"
    assert rouge_l("a b c d e f g x y z", tens) >= 0.7


def test_rouge_l_counts_words_outside_ascii() -> None:
    assert rouge_l("Übung macht", "Übung macht") == 1.0
    assert rouge_l("да нет", "да да") == 0.5


def test_rouge_l_of_texts_without_words() -> None:
    assert rouge_l("", "  ") == 1.0
    assert rouge_l("...", "...\n") == 1.0
    assert rouge_l("...", "!") == 0.0
    assert rouge_l("", "a") == 0.0
    assert rouge_l("a", "") == 0.0


def test_unpaired_texts_are_refused() -> None:
    with pytest.raises(ConfigError, match="2 hypotheses for 1 targets"):
        bleu_statistics(["a", "b"], ["a"])
    with pytest.raises(ConfigError, match="put it in a list"):
        rouge_l_each("abc", "abc")
