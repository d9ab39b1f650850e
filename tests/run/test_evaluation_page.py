"""The configuration on the page about evaluation builds what it says."""

from __future__ import annotations

import json
import re
from pathlib import Path

from omegaconf import OmegaConf

from unlearning.run.config.aggregates import aggregates
from unlearning.run.config.build import build_data
from unlearning.run.config.prompt_sets import prompt_sets

PAGE = Path(__file__).parents[2] / "docs" / "evaluation.md"


def test_prompt_sets_of_the_page(compose_config, tmp_path, monkeypatch):
    text = PAGE.read_text(encoding="utf-8")
    (settings,) = re.findall(r"^```yaml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    (code,) = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    (tmp_path / "my_metrics.py").write_text(code)
    row = {"question": "Is 3 a number?", "options": ["yes", "no"], "label": "A"}
    (tmp_path / "facts.jsonl").write_text(json.dumps(row))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    config = compose_config("experiment=demo", f"cache_dir={tmp_path}/cache")
    OmegaConf.set_struct(config, False)
    config = OmegaConf.merge(config, OmegaConf.create(settings))
    sets = {each.name: each for each in prompt_sets(config, build_data(config))}
    assert [metric.name for metric in sets["facts"].metrics] == ["choice_accuracy", "shouted"]
    assert sets["facts"].metrics[1].options == {"signs": 2}
    assert sets["facts"].examples[0].alternative("choices") == ("yes", "no")
    found = aggregates(config, list(sets.values()))
    assert found["utility"].of == ("facts/choice_accuracy", "retain_heldout/rouge_l_to_target")
