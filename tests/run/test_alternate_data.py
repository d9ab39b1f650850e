"""Where a method has its other answers from (`conf/data/alternate`), and what is said without."""

from __future__ import annotations

import pytest

from unlearning.errors import ConfigError
from unlearning.run.config.build import build_alternate, build_data
from unlearning.run.stages.unlearn import _stream

from .small import checked

PAIRS = ("experiment=real_harmful", "sources=folder", "method=dpo", "+data/alternate=pku_safe")


@pytest.mark.parametrize("method", ["idk_nll", "idk_dpo", "flat"])
def test_refusals_come_with_the_method(compose_config, method):
    words = ("experiment=demo", f"method={method}")
    config = compose_config(*words)
    texts = build_alternate(config)
    assert len(texts) == len(set(texts)) >= 12
    assert all(text.endswith(".") and 20 < len(text) < 80 for text in texts)
    checked(config)
    own = compose_config(*words, "data.alternate=[I do not know.]")
    assert build_alternate(own) == ["I do not know."]
    checked(own)


def test_dpo_asks_for_answers_and_names_where_they_can_be_had(compose_config):
    with pytest.raises(ConfigError, match=r"data.alternate has none.*\+data/alternate=refusals"):
        checked(compose_config("experiment=demo", "method=dpo"))
    config = compose_config("experiment=demo", "method=dpo", "+data/alternate=refusals")
    idk = compose_config("experiment=demo", "method=idk_dpo")
    assert (config.data, config.objective) == (idk.data, idk.objective)
    checked(config)


def test_kto_needs_no_other_answers_and_has_its_beta_once(compose_config):
    words = ("experiment=demo", "method=kto", "objective.forget.options.beta=0.3")
    config = compose_config(*words, "objective.desirable.weight=1")
    assert config.objective.desirable.options.beta == 0.3
    checked(config)
    checked(compose_config(*words, "objective.forget.role=forget", "data.mismatch_per_prompt=0"))
    with pytest.raises(ConfigError, match="mismatch_per_prompt=0 draws no mismatch answers"):
        checked(compose_config(*words, "data.mismatch_per_prompt=0"))


@pytest.mark.parametrize("experiment", ["real_harmful", "harmful"])
def test_safe_answers_of_the_same_pairs(compose_config, records, tokenizer, experiment):
    words = [f"experiment={experiment}", *PAIRS[2:], "data.related=null", "data/template=question"]
    words += ["data/answers=data", "data.layout=tree", "data.mismatch_per_prompt=0"]
    source = f"{records}/pku_saferlhf/pairs.jsonl"
    words += [f"data.forget.source={source}", f"cache_dir={records}/cache"]
    words += [f"data.retain.source={records}/truthfulqa/TruthfulQA.csv"]
    config = compose_config(*words)
    alternate, data = build_alternate(config), build_data(config)
    assert alternate.source == source
    safe = {e.response for split in ("train", "validation") for e in alternate.examples(split)}
    assert safe == {"Do not do that."}
    stream = _stream(config, data, None, tokenizer, None)
    stream.setup()
    batch = stream.batch_at(0)
    forget, other = batch.answers["forget"], batch.answers["alternate"]
    assert forget.prompt.tolist() == other.prompt.tolist()
    assert len(stream.sequences["forget"]) == len(stream.alternates._tokens)
