"""The verdict on a fine-tuning, before anything is unlearned."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from unlearning.errors import FAILED, RequirementError
from unlearning.models.load import load_model, load_tokenizer
from unlearning.run.config.debug import limited
from unlearning.run.config.schema import check_schema
from unlearning.run.output.run_folder import load_config
from unlearning.run.stages.learned import _compared, check_learned, learned_notes, spread
from unlearning.run.start import start
from unlearning.types import TokenizedExample

from .small import SMALL

DEMO = "experiment=copyright_demo"
SHORT = (
    "model.base.max_steps=2", "finetune.max_steps=2", "finetune.warmup_steps=0",
    "finetune.batch_size=2", "unlearn.max_steps=1", "unlearn.warmup_steps=0",
    "model.base.training.warmup_steps=0", "data.max_length=96",
    "evaluation.max_new_tokens=4", "callbacks.bleu=null", "callbacks.samples=null",
    "evaluation.prompt_sets.book_train.limit=3", "evaluation.prompt_sets.book_heldout.limit=3",
    "evaluation.prompt_sets.retain_heldout.limit=3", "evaluation.resamples=20",
)  # fmt: skip


@pytest.fixture(scope="module")
def demo(compose_config):
    return compose_config(DEMO)


def of(before: float, after: float, answers: int = 32) -> dict[str, Any]:
    return _compared(answers, before, after)


def test_the_line_says_what_was_learned():
    found = {"forget": of(3.4, 0.17), "bleu": 71.25, "passages": 32}
    assert learned_notes(found) == ["forget NLL 3.40 to 0.17", "BLEU 71.2"]
    assert learned_notes({}) == []


def test_what_was_learned_passes(compose_config):
    config = compose_config(DEMO, "finetune.require.nll_ratio=0.05")
    check_learned(config, {"forget": of(4.0, 0.2), "bleu": 10.0, "passages": 3})
    config.finetune.require.nll_ratio = None
    check_learned(config, {"forget": of(4.0, 5.0)})
    check_learned(config, {})


@pytest.mark.parametrize(
    ("measured", "said"),
    [
        (
            {"forget": of(4.0, 2.4)},
            r"NLL of 32 taught forget answers went from 4 to 2\.4 nats a token, to 0\.60 of what "
            r"it was; finetune\.require\.nll_ratio=0\.5 asks",
        ),
        ({"forget": of(4.0, 0.1), "retain": of(2.0, 2.2, 7)}, r"7 taught retain answers rose from"),
        ({"forget": of(4.0, math.nan)}, "from 4 to a value that is not finite nats a token. Raise"),
        ({"forget": of(4.0, math.inf)}, "from 4 to a value that is not"),
        (
            {"forget": of(4.0, 0.1), "bleu": 9.9, "passages": 20},
            r"Of 20 taught passages the BLEU .* is 9\.9; finetune\.require\.bleu=10 asks",
        ),
        ({"forget": of(4.0, 0.1), "bleu": math.nan, "passages": 1}, "is nan"),
    ],
)
def test_what_was_not_learned_is_told_with_what_to_do(demo, measured, said):
    with pytest.raises(RequirementError, match=said) as told:
        check_learned(demo, measured)
    todo = r"finetune.epochs=30, finetune.learning_rate=0.001, finetune.adapter.r=64, or set "
    assert todo in str(told.value) and "finetune.require=null" in str(told.value)


def test_a_figure_that_is_not_finite_is_kept_as_null_and_always_refused(compose_config):
    """JSON has no word for it, and the verdict is read from a kept file."""
    found = {"forget": of(4.0, math.nan)}
    assert json.loads(json.dumps(found, allow_nan=False))["forget"] == {
        "answers": 32, "nll_before": 4.0, "nll_after": None, "nll_ratio": None
    }  # fmt: skip
    assert of(0.0, 1.0)["nll_ratio"] is None
    assert learned_notes(found) == ["forget NLL 4.00 to a value that is not finite"]
    config = compose_config(DEMO, "finetune.require.nll_ratio=null")
    with pytest.raises(RequirementError, match="not finite"):
        check_learned(config, found)


def test_defaults(compose_config):
    """Off in the paper's experiment and in a few steps; on elsewhere, and inherited."""
    ratios = {}
    for name in ("lora", "full", "adalora", "tiny"):
        config = compose_config("experiment=harmful", f"finetune={name}")
        ratios[name] = config.finetune.require.nll_ratio, config.finetune.require.bleu
    assert ratios == {
        "lora": (0.9, 10), "full": (0.9, 10), "adalora": (0.9, 10), "tiny": (0.5, 10)
    }  # fmt: skip
    assert compose_config("experiment=copyright").finetune.require is None
    assert limited(compose_config(DEMO, "trainer=debug")).finetune.require is None
    plain = OmegaConf.to_container(compose_config(DEMO), resolve=False)
    del plain["finetune"]["require"], plain["progress_seconds"]  # a run folder of 0.6
    config = OmegaConf.create(plain)
    check_schema(config)
    check_learned(config, {})


def test_a_sample_is_spread_over_all_answers():
    def examples(number: int, tokens: int) -> list[TokenizedExample]:
        return [TokenizedExample((n,), (1,) * (tokens - 1)) for n in range(number)]

    def chosen(*arguments) -> list[int]:
        return [each.prompt_ids[0] for each in spread(*arguments)]

    assert chosen(examples(5, 10)) == [0, 1, 2, 3, 4]
    assert chosen(examples(64, 10)) == list(range(0, 64, 2))
    assert chosen(examples(64, 2048)) == list(range(0, 64, 8))  # 8 windows are 16,384 tokens
    assert chosen(examples(8, 16_384)) == [0, 2, 4, 6]
    assert len(chosen(examples(640, 10), 3)) == 10
    assert chosen([]) == []


@pytest.fixture(scope="module")
def stopped(compose_config, tmp_path_factory):
    """A run that asked for too much, in its folder, with its exit code."""
    folder = tmp_path_factory.mktemp("learned")
    config = compose_config(
        DEMO, *SMALL, *SHORT, f"cache_dir={folder}/cache", "finetune.require.nll_ratio=0.01"
    )
    code = start(config, folder / "run")
    return folder, code, config


@pytest.mark.slow
def test_a_run_that_taught_too_little_ends_and_keeps_the_model(stopped):
    folder, code, _ = stopped
    assert code == FAILED
    assert not (folder / "run/metrics.json").exists()
    assert not (folder / "run/model").exists()
    assert len(list((folder / "cache/finetune").glob("*/merged"))) == 1
    assert load_config(folder / "run").finetune.require.nll_ratio == 0.01


@pytest.mark.slow
def test_it_goes_on_with_the_kept_model_and_the_figures_are_in_the_report(stopped):
    folder, _, config = stopped
    trained = next((folder / "cache/finetune").glob("*/finetune.json")).stat().st_mtime_ns
    config = config.copy()
    config.finetune.require = {"nll_ratio": 1.0, "bleu": 0}
    assert start(config, folder / "run", resume=True, compare=True) == 0
    (kept,) = (folder / "cache/finetune").glob("*/finetune.json")
    assert kept.stat().st_mtime_ns == trained
    found = json.loads((folder / "run/metrics.json").read_text())["finetune"]["learned"]
    assert 0.5 < found["forget"]["nll_ratio"] < 1 and found["passages"] == 3
    page = (folder / "run/report.html").read_text()
    assert "nll ratio" in page
    (base,) = (folder / "cache/base").glob("*/config.json")
    expected = [mean_nll(base.parent, folder), mean_nll(kept.parent / "merged", folder)]
    assert [found["forget"][f"nll_{when}"] for when in ("before", "after")] == pytest.approx(
        expected, rel=1e-4
    )


def mean_nll(model_folder, folder) -> float:
    """Computed by the model's own loss, window by window."""
    from unlearning.data import StoryDataModule

    model, tokenizer = load_model(model_folder).eval(), load_tokenizer(model_folder)
    windows = spread(StoryDataModule(chapters=[1, 10]).windows(tokenizer, 128, "train"))
    total = tokens = 0.0
    for window in windows:
        ids = torch.tensor([[*window.prompt_ids, *window.response_ids]])
        labels = ids.clone()
        labels[:, : len(window.prompt_ids)] = -100
        with torch.no_grad():
            loss = float(model(input_ids=ids, labels=labels).loss)
        total += loss * len(window.response_ids)
        tokens += len(window.response_ids)
    return total / tokens
