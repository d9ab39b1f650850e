"""A metric is one function in one file and one line of YAML: no other file knows of it."""

from __future__ import annotations

import importlib
import json
import math
import sys
import zlib
from pathlib import Path
from typing import Any

import naive
import numpy as np
import pytest
from omegaconf import OmegaConf
from scipy import stats
from sklearn.metrics import roc_auc_score

from unlearning.data.template import PromptTemplate
from unlearning.errors import ConfigError
from unlearning.evaluation import EvaluationSettings, evaluate
from unlearning.metrics.aggregate import Aggregate
from unlearning.metrics.comparison import ComparisonSettings, compare
from unlearning.metrics.generations import read_generations, write_generations
from unlearning.metrics.metric import Metric, metric
from unlearning.metrics.prompt_sets import described, metrics_of
from unlearning.metrics.resample import draws
from unlearning.metrics.statistic import Sample, Statistic, Sums
from unlearning.report import model_card, write_report
from unlearning.report.sweep import write_sweep_report
from unlearning.run.config.prompt_sets import build_metric
from unlearning.types import AlternativeScore, Example, Generation, PromptSet

FAST = ComparisonSettings(n_resamples=60)

MODULE = """
from statistics import median

from unlearning.metrics.metric import metric


@metric("Shouted answers", unit="fraction", direction="lower")
def shouted(answers, signs=1):
    return [g.completion.count("!") >= signs for g in answers]


@metric("Median length", unit="characters", direction="higher")
def median_length(answers):
    return median(len(g.completion) for g in answers)


class Spread:
    name = "three sigma of nothing"

    def interval(self, statistic, how):
        return statistic.value - 1, statistic.value + 1

    def interval_of_change(self, first, second, change, how):
        return -7, 7


spread = Spread()
"""


@pytest.fixture
def my_metrics(tmp_path, monkeypatch):
    """The user's module, importable for as long as the test runs."""
    (tmp_path / "my_metrics.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    sys.modules.pop("my_metrics", None)  # of another test
    yield "my_metrics"
    sys.modules.pop("my_metrics", None)


SAID = {
    "before": ["Yes!", "No!!", "Perhaps", "Never!"],
    "after": ["Yes.", "No!!", "Perhaps so", "Not now"],
}


def _answers(stage: str, prompt_set: str = "tone") -> list[Generation]:
    return [
        Generation(stage, prompt_set, n, f"q{n}", "Yes.", text, 3, split="test")
        for n, text in enumerate(SAID[stage])
    ]


def _write_run(folder: Path, sets: list[PromptSet], answers: dict[str, list[Generation]]) -> Any:
    """What a run writes of its evaluation."""
    measured = {each.name: metrics_of(each) for each in sets}
    metrics = {**compare(answers, measured, FAST), "prompt_sets": described(sets, measured)}
    folder.mkdir(parents=True)
    (folder / "metrics.json").write_text(json.dumps(metrics, allow_nan=False))
    (folder / "config.yaml").write_text("name: open\n")
    write_generations(folder / "generations.jsonl", [g for rows in answers.values() for g in rows])
    return metrics


def test_one_file_and_one_line_reach_every_page(my_metrics, tmp_path):
    line = (
        f"[{my_metrics}.shouted, {{path: {my_metrics}.median_length, interval: my_metrics.spread}}]"
    )
    nodes = OmegaConf.to_container(OmegaConf.create(line))
    own = tuple(build_metric(node, "metrics") for node in nodes)
    sets = [PromptSet("tone", "", [], "test", "forget", own)]
    answers = {stage: _answers(stage) for stage in SAID}
    metrics = _write_run(tmp_path / "sweep/0", sets, answers)

    assert metrics["before"]["tone/shouted"]["value"] == 0.75
    assert metrics["change"]["tone/shouted"]["value"] == -0.5
    assert metrics["after"]["tone/shouted"]["method"] == "wilson_cc"
    assert metrics["before"]["tone/median_length"] == {
        "value": 5.0, "low": 4.0, "high": 6.0, "n": 4, "method": "three sigma of nothing",
    }  # fmt: skip
    changed = metrics["change"]["tone/median_length"]
    assert (changed["value"], changed["low"], changed["high"]) == (0.5, -7, 7)
    assert metrics["metrics"]["shouted"] == {
        "label": "Shouted answers", "unit": "fraction", "path": "my_metrics.shouted",
        "direction": "lower",
    }  # fmt: skip
    described_set = metrics["prompt_sets"]["tone"]
    assert described_set["directions"] == {"shouted": "lower", "median_length": "higher"}
    assert (described_set["split"], described_set["source"]) == ("test", "forget")

    page = write_report(tmp_path / "sweep/0").read_text()
    card = model_card(metrics, {})
    for text in (page, card):
        for shown in ("Shouted answers", "lower is better", "Median length", "characters"):
            assert shown in text, shown
        assert "75.0\xa0%" in text and "-50.0\xa0pts".replace("-", "\N{MINUS SIGN}") in text
    assert page.count("<figcaption>Shouted answers") == 1  # drawn, too
    sweep = write_sweep_report(tmp_path / "sweep").read_text()
    assert "Shouted answers, tone" in sweep and "25.0\xa0%" in sweep
    assert "after/tone/median_length.low" in (tmp_path / "sweep/metrics.csv").read_text()


def test_options_and_names_come_from_the_yaml(my_metrics):
    node = {"path": f"{my_metrics}.shouted", "name": "screamed", "options": {"signs": 2}}
    found = compare({"model": _answers("before")}, {"tone": [build_metric(node, "x")]}, FAST)
    assert found["model"]["tone/screamed"]["value"] == 0.25
    with pytest.raises(ConfigError, match=r"takes no 'sign'.*Did you mean 'signs'"):
        build_metric({"path": f"{my_metrics}.shouted", "options": {"sign": 2}}, "x")


def test_two_metrics_of_one_name_are_refused(my_metrics):
    first, other = (build_metric(f"{my_metrics}.{n}", "x") for n in ("shouted", "median_length"))
    renamed = build_metric({"path": f"{my_metrics}.median_length", "name": "shouted"}, "x")
    with pytest.raises(ConfigError, match="two metrics are called 'shouted'"):
        compare({"model": _answers("before")}, {"tone": [first, other, renamed]}, FAST)


# One model, two, three


def test_one_model_has_values_and_nothing_to_compare(tmp_path):
    sets = [PromptSet("tone", "retain", [], "test"), PromptSet("other", "", [], "train")]
    rows = [*_answers("before"), *_answers("before", "other")]
    metrics = _write_run(tmp_path / "run", sets, {"model": rows})
    assert metrics["models"] == ["model"] and "change" not in metrics
    keys = metrics["model"]
    assert keys["tone/exact_match"]["value"] == 0.25 and "other/bleu_to_target" in keys
    assert not [key for key in keys if key.endswith(("_to_original", "kept_right"))]
    page = write_report(tmp_path / "run").read_text()
    assert "What was measured" in page and "Did it work?" not in page
    assert 'value="0.25"' in page and ">model</th>" in page
    assert "BLEU to the original" not in page.split("How to read this</h2>")[0]  # not even a dash


def test_two_models_of_any_names_are_compared(tmp_path):
    sets = [PromptSet("tone", "related", [], "all")]
    metrics = _write_run(
        tmp_path / "run", sets, {"base model": _answers("before"), "o'ther": _answers("after")}
    )
    assert metrics["models"] == ["base model", "o'ther"]
    assert metrics["o'ther"]["tone/exact_match"]["value"] == 0.25
    assert metrics["base model"]["tone/rouge_l_to_original"]["value"] == 1
    assert "tone/kept_right" in metrics["o'ther"] and "tone/kept_right" in metrics["change"]
    page = write_report(tmp_path / "run").read_text()
    assert ">base model</th>" in page and "o&#39;ther" in page
    assert "base model" in model_card(metrics, {})


@pytest.mark.parametrize("name", ["change", "metrics", "prompt_sets"])
def test_a_model_cannot_be_called_like_a_section(name):
    with pytest.raises(ConfigError, match="expected one or more, none of them"):
        compare({name: _answers("before")}, {"tone": []}, FAST)


# Alternatives: TOFU's truth ratio, held against a computation of its own


@metric("Truth ratio", unit="fraction", direction="higher", needs=("alternatives",))
def truth_ratio(answers):
    """TOFU (arXiv 2401.06121): mean probability of wrong answers over that of the paraphrase."""

    def probability(score: AlternativeScore) -> float:
        return math.exp(-score.nll / score.tokens)

    found = []
    for g in answers:
        wrong = np.mean([probability(s) for s in g.alternatives["perturbed"]])
        found.append(wrong / probability(g.alternatives["paraphrased"][0]))
    return [max(0.0, 1 - ratio) for ratio in found]


ASKED = [
    Example("where is the cat ?", "in the box", {
        "paraphrased": ["the cat is in the box"], "perturbed": ["in the house", "on the table now"],
    }),
    Example("what is two ?", "a number", {
        "paraphrased": ["it is a number"], "perturbed": ["a cat", "it is"],
    }),
]  # fmt: skip


def _ids(tokenizer, template: PromptTemplate, prompt: str, answer: str) -> naive.Pair:
    start = tokenizer(template.prompt(prompt))["input_ids"]
    end = tokenizer(template.answer(answer), add_special_tokens=False)["input_ids"]
    return start, [*end, *([tokenizer.eos_token_id] if template.append_eos else [])]


@pytest.mark.parametrize("append_eos", [True, False])
def test_alternatives_score_as_a_naive_loop_says(append_eos, model, tokenizer, tmp_path):
    template = PromptTemplate("Q {prompt} A", append_eos=append_eos)
    sets = [PromptSet("facts", "", ASKED, "test", metrics=(truth_ratio,))]
    settings = EvaluationSettings(max_new_tokens=4, batch_size=3, max_length=60)
    found = evaluate(model, tokenizer, sets, template, "after", None, settings)
    model.eval()
    for generation, example in zip(found, ASKED, strict=True):
        assert generation.completion == "" and generation.num_tokens == 0  # nothing is generated
        assert generation.target_nll is None  # and nothing scored that no metric needs
        for name, texts in example.named_alternatives():
            for score, text in zip(generation.alternatives[name], texts, strict=True):
                pair = _ids(tokenizer, template, example.prompt, text)
                nlls = naive.token_nlls(model, pair).detach()
                assert score.nll == pytest.approx(float(nlls.sum()), rel=1e-4)
                assert score.tokens == len(nlls)
                end = float(nlls[-1]) if append_eos else 0.0
                assert score.end_nll == pytest.approx(end, rel=1e-4)

    def by_hand(example: Example) -> float:
        means = {}
        for name, texts in example.named_alternatives():
            pairs = [_ids(tokenizer, template, example.prompt, text) for text in texts]
            means[name] = [float(naive.token_nlls(model, p).detach().mean()) for p in pairs]
        wrong = sum(math.exp(-m) for m in means["perturbed"]) / len(means["perturbed"])
        return max(0.0, 1 - wrong / math.exp(-means["paraphrased"][0]))

    write_generations(tmp_path / "g.jsonl", found)
    again = compare({"after": read_generations(tmp_path / "g.jsonl")}, {"facts": [truth_ratio]})
    expected = np.mean([by_hand(example) for example in ASKED])
    assert again["after"]["facts/truth_ratio"]["value"] == pytest.approx(expected, rel=1e-4)


def test_a_set_may_have_a_template_of_its_own(model, tokenizer):
    own, common = PromptTemplate("Q {prompt} A", append_eos=False), PromptTemplate("# {prompt}")
    sets = [
        PromptSet("a", "", ASKED, metrics=(truth_ratio,), template={
            "prompt_format": "Q {prompt} A", "append_eos": False,
        }),
        PromptSet("b", "", ASKED, metrics=(truth_ratio,)),
    ]  # fmt: skip
    first, second = (
        evaluate(model, tokenizer, [each], template, "x", None, EvaluationSettings(4, 2, 60))
        for each, template in ((sets[0], common), (sets[1], own))
    )
    for ours, theirs in zip(first, second, strict=True):
        for name in ("paraphrased", "perturbed"):
            assert ours.alternatives[name] == theirs.alternatives[name]


# Statistics that do not add up, and figures of several sets


def _scored(prompt_set: str, nll: np.ndarray, stage: str = "after") -> list[Generation]:
    return [
        Generation(stage, prompt_set, n, f"q{n}", "a", "b", target_nll=float(x), target_tokens=1)
        for n, x in enumerate(nll)
    ]


@metric("NLL by prompt", unit="nats", needs=("target",))
def nll_by_prompt(answers):
    return [g.target_nll for g in answers]


@metric("AUC of membership", unit="AUC (0..1)", direction="lower", needs=("target",))
def membership_auc(members: Statistic, others: Statistic) -> float:
    """That a member's NLL is below another's (Mann-Whitney)."""
    a, b = members.scores[:, None], others.scores[None, :]
    return float(((a < b) + 0.5 * (a == b)).mean())


def test_an_auc_of_two_sets_equals_sklearns_with_its_bootstrap():
    random = np.random.default_rng(0)
    seen, unseen = np.round(random.normal(1, 1, 30), 1), np.round(random.normal(2, 1, 20), 1)
    rows = [*_scored("seen", seen), *_scored("unseen", unseen)]
    aggregates = {"auc": Aggregate(membership_auc, ("seen/nll_by_prompt", "unseen/nll_by_prompt"))}
    sets = {"seen": [nll_by_prompt], "unseen": [nll_by_prompt]}
    found = compare({"after": rows}, sets, ComparisonSettings(n_resamples=200), aggregates)
    entry = found["after"]["aggregates/auc"]

    def sklearn(a: np.ndarray, b: np.ndarray) -> float:
        return float(roc_auc_score([1] * len(a) + [0] * len(b), -np.concatenate([a, b])))

    assert entry["value"] == pytest.approx(sklearn(seen, unseen))
    assert entry["n"] == 50
    picks = [
        np.concatenate(list(draws(len(x), 200, [0, zlib.crc32(name)])))
        for x, name in ((seen, b"seen"), (unseen, b"unseen"))
    ]
    values = [sklearn(seen[p], unseen[q]) for p, q in zip(*picks, strict=True)]
    assert (entry["low"], entry["high"]) == pytest.approx(tuple(np.percentile(values, [2.5, 97.5])))
    assert found["metrics"]["auc"]["label"] == "AUC of membership"


@metric("Forget quality", unit="p-value", direction="higher", needs=("target",))
def forget_quality(ours: Statistic, retrained: Statistic) -> float:
    """TOFU's: the p-value of a Kolmogorov-Smirnov test against a model retrained without."""
    return float(stats.ks_2samp(ours.scores, retrained.scores).pvalue)


def test_a_test_against_another_models_answers():
    random = np.random.default_rng(1)
    nll = {s: random.normal(m, 1, 25) for s, m in (("before", 0.0), ("after", 1.8), ("oracle", 2))}
    answers = {s: _scored("forget", nll[s], s) for s in ("before", "after")}
    other = Aggregate(forget_quality, ("forget/nll_by_prompt",), _scored("forget", nll["oracle"]))
    found = compare(answers, {"forget": [nll_by_prompt]}, FAST, {"quality": other})
    for stage in answers:
        expected = stats.ks_2samp(nll[stage], nll["oracle"]).pvalue
        assert found[stage]["aggregates/quality"]["value"] == pytest.approx(expected)
    assert found["change"]["aggregates/quality"]["low"] is not None


def test_the_harmonic_mean_of_named_figures(tmp_path):
    mean: Metric = build_metric("unlearning.metrics.harmonic_mean.harmonic_mean", "x")
    parts = ("tone/exact_match", "other/share")

    @metric("Share", unit="fraction", direction="higher")
    def share(answers):
        return [g.completion.endswith(".") or len(g.completion) > 4 for g in answers]

    exact = build_metric("unlearning.metrics.accuracy.exact_match", "x")
    sets = {"tone": [exact], "other": [share]}
    rows = {stage: [*_answers(stage), *_answers(stage, "other")] for stage in SAID}
    found = compare(rows, sets, FAST, {"utility": Aggregate(mean, parts)})
    a, b = (found["after"][key]["value"] for key in parts)
    assert (a, b) == (0.25, 0.75)
    assert found["after"]["aggregates/utility"]["value"] == pytest.approx(2 / (1 / a + 1 / b))
    low, high = (found["after"]["aggregates/utility"][bound] for bound in ("low", "high"))
    assert 0 == low < high <= 1  # some resample has no exact match at all
    with pytest.raises(ConfigError, match=r"aggregate utility is of \['tone/nothing'\]"):
        compare(rows, sets, FAST, {"utility": Aggregate(mean, ("tone/nothing",))})


def test_what_a_metric_may_give_back():
    """A score a prompt, sums, a sample and a float say the same of a mean."""
    rows = _answers("before")

    def lengths(answers):
        return [len(g.completion) for g in answers]

    ways = {
        "scores": lengths,
        "sums": lambda answers: Sums(np.array([[n, 1] for n in lengths(answers)])),
        "sample": lambda answers: Sample(np.array(lengths(answers)), np.mean),
        "number": lambda answers: float(np.mean(lengths(answers))),
    }
    declared = [metric(name, name=name)(function) for name, function in ways.items()]
    found = compare({"model": rows}, {"tone": declared}, FAST)["model"]
    first = found["tone/scores"]
    assert first["value"] == 5.25 and first["low"] < 5.25 < first["high"]
    for name in ways:
        assert found[f"tone/{name}"] == pytest.approx(first), name


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"needs": ("logits",)}, r"needs \['logits'\]; expected some of completion"),
        ({"direction": "up"}, "direction is 'up'; expected 'lower'"),
        ({"name": "a/b"}, "cannot be called 'a/b'"),
    ],
)
def test_a_wrong_declaration_is_refused_where_it_stands(how, said):
    with pytest.raises(ConfigError, match=said):
        metric("Label", **how)(lambda answers: [])


def test_a_table_is_no_score():
    with pytest.raises(ConfigError, match=r"gave shape \(4, 2\); expected a score per prompt"):
        metric("x", name="x")(lambda answers: np.zeros((4, 2))).statistic(_answers("before"))


def test_fewer_scores_than_prompts_are_refused():
    few = metric("Few", name="few")(lambda answers: [1.0])
    rows = [Generation("after", "s", n, "p", "t", "c") for n in range(3)]
    with pytest.raises(ConfigError, match="gave 1 scores for 3 prompts"):
        compare({"after": rows}, {"s": [few]}, FAST)
