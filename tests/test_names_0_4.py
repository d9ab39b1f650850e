"""Run folders of version 0.4 are still read."""

import json
from pathlib import Path

from omegaconf import OmegaConf

from unlearning.metrics.generations import read_generations
from unlearning.names_0_4 import current_config, current_metric
from unlearning.report import write_report
from unlearning.report.run_folder import read_run_folder
from unlearning.report.sweep import write_sweep_report
from unlearning.run.output.run_folder import load_config
from unlearning.types import Generation

# As `Generation.to_dict` of 0.4 wrote it.
LINE = (
    '{"stage": "%s", "prompt_set": "book", "index": 0, "prompt": "Hear", "reference": " the bell", '
    '"completion": " the gate", "num_tokens": 2, "finished": false, "harm_probability": null, '
    '"reference_nll": 3.5, "reference_tokens": 2, "reference_matches": 1, "reference_suffix": 0, '
    '"verbatim_tokens": 1}'
)
ESTIMATE = {"value": 12.25, "low": 10.0, "high": 14.0, "n": 1}
NAMES = (
    "bleu_to_reference", "rouge_l_to_reference", "mine_to_reference", "reference_nll", "right_rate",
    "perplexity",
)  # fmt: skip
TODAY = (
    "bleu_to_target", "rouge_l_to_target", "mine_to_target", "target_nll", "rouge_accuracy",
    "perplexity",
)  # fmt: skip
PARTS = ("original", "before", "after", "change", "change_from_original")
METRICS = {
    **{part: {f"book/{name}": ESTIMATE for name in NAMES} for part in PARTS},
    "units": {"reference_nll": "nats per token", "right_rate": "fraction (0..1)"},
    "signatures": {"bleu_to_original": "a", "bleu_to_reference": "b"},
    "settings": {"harm_threshold": 0.5, "right_threshold": 0.7},
    "prompt_sets": {"book": "copyright", "harm_heldout": "harmful"},
    "effectiveness": {"harm_heldout": {"value": 75.5, "low": 60.0, "high": 80.0, "n": 9}},
    "reference": "Cached",
}
CONFIG = """\
name: old
evaluation: {right_threshold: 0.6, resamples: 10}
reference: {of: base, mode: auto}
sweep:
  objectives:
    - after.book/bleu_to_reference
    - after.book/right_rate.low
    - effectiveness.harm_heldout.value
    - steps
"""


def _folder(tmp_path: Path) -> Path:
    folder = tmp_path / "0"
    folder.mkdir()
    (folder / "metrics.json").write_text(json.dumps(METRICS))
    (folder / "config.yaml").write_text(CONFIG)
    lines = [LINE % stage for stage in ("original", "before", "after")]
    (folder / "generations.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def test_generations(tmp_path: Path) -> None:
    expected = Generation(
        "before", "book", 0, "Hear", " the bell", " the gate", 2, False, None,
        target_nll=3.5, target_tokens=2, target_matches=1, target_suffix=0, verbatim_tokens=1,
    )  # fmt: skip
    assert read_generations(_folder(tmp_path) / "generations.jsonl")[1] == expected


def test_metrics_and_settings(tmp_path: Path) -> None:
    found = read_run_folder(_folder(tmp_path))
    moved = {"harm_heldout/effectiveness": METRICS["effectiveness"]["harm_heldout"]}
    for part in PARTS:
        expected = {f"book/{name}": ESTIMATE for name in TODAY}
        assert found.metrics[part] == expected | (moved if part == "after" else {})
    assert "effectiveness" not in found.metrics
    assert set(found.metrics["units"]) == {"target_nll", "rouge_accuracy"}
    assert set(found.metrics["signatures"]) == {"bleu_to_original", "bleu_to_target"}
    assert found.metrics["settings"] == {"harm_threshold": 0.5, "rouge_threshold": 0.7}
    assert found.metrics["reference"] == "Cached"  # the frozen model
    assert found.config["evaluation"]["rouge_threshold"] == 0.6
    assert found.config["reference"] == {"of": "base", "mode": "auto"}


def test_configuration_of_a_run_to_resume(tmp_path: Path) -> None:
    config = load_config(_folder(tmp_path))
    assert config.evaluation == {"rouge_threshold": 0.6, "resamples": 10}
    objectives = [
        "after.book/bleu_to_target", "after.book/rouge_accuracy.low",
        "after.harm_heldout/effectiveness.value", "steps",
    ]  # fmt: skip
    assert config.sweep.objectives == objectives
    plain = OmegaConf.to_container(config)
    assert current_config(plain) == plain  # today's names stay


NEW = {"task": "unlearn", "compare_with": None, "oracle": False}


def test_a_book_that_was_fine_tuned_on() -> None:
    saved = {"data": {"forget": {"teach": "passages"}}, "finetune": {"epochs": 3}}
    assert current_config(saved) == {
        "data": {"forget": {"finetune_on": "passages"}},
        "finetune": {"sets": {"forget": "train"}, "epochs": 3},
        **NEW,
    }
    assert current_config({"finetune": None}) == {"finetune": None, **NEW}


def test_report_and_sweep_page_show_the_figures(tmp_path: Path) -> None:
    page = write_report(_folder(tmp_path)).read_text()
    assert 'value="12.25"' in page and "the bell" in page
    assert 'value="75.5"' in page and "Effectiveness E" in page
    assert "BLEU to the true text" in page and "higher is better" in page and "test split" in page
    assert "12.25" in write_sweep_report(tmp_path).read_text()


def test_names_of_today_are_left_alone() -> None:
    assert [current_metric(name) for name in TODAY] == list(TODAY)
