"""A wrong value of any key is refused before a run starts, and the message names the key.

In process: each key of each configuration gets each of the values, where `LEGAL` does not say that
such a value makes sense there.
"""

from __future__ import annotations

import re
from fnmatch import fnmatch

from omegaconf import OmegaConf

from unlearning.errors import ConfigError
from unlearning.nested import leaves
from unlearning.run.checks.objective import check_best, check_loss_options
from unlearning.run.checks.targets import check_nodes
from unlearning.run.config.evaluate import evaluation_config
from unlearning.run.config.method import check_method
from unlearning.run.config.schema import faults
from unlearning.run.tracking.config import check_tracking

CONFIGURATIONS = {
    "harmful": ["experiment=harmful"],
    "copyright": ["experiment=copyright", "data.forget.source=book.txt"],
    "demo": ["experiment=demo"],
    "evaluate": ["experiment=demo", "task=evaluate"],
    "finetune": ["experiment=copyright_demo", "trainer=debug"],
    "wandb": ["experiment=demo", "logger=wandb", "logger.wandb.offline=true"],
    "rmu": ["experiment=demo", "method=rmu"],
    "sam": ["experiment=demo", "method=sam"],
    "npo": ["experiment=demo", "method=npo"],
    "altpo": ["experiment=demo", "method=altpo"],
    "task_vector": ["experiment=demo", "method=task_vector"],
    "adalora": ["experiment=demo", "finetune=adalora", "model.lora={kind: adalora}"],
    "fsdp": ["experiment=demo", "trainer=fsdp"],
}
WRONG = {
    "null": None, "true": True, "text": "wrong", "empty": "", "-1": -1, "0": 0, "1.5": 1.5,
    "huge": 10**40, "nan": float("nan"), "inf": float("inf"), "-2.5": -2.5, "[]": [], "{}": {},
    "[text]": ["wrong"], "[-1]": [-1], "{key}": {"wrong": 1}, "[[]]": [[]],
}  # fmt: skip
FREE_TEXT = """
    description sweep.name sweep.job sweep.resume sweep.objectives cache_dir oracle name
    compare_with model.name_or_path model.gguf model.tokenizer model.revision model.base
    *.source data.*template.* data.forget.chapter_pattern data.forget.prompt.tokenizer
    classifier.model classifier.train.data.data_files classifier.train.data.labels* *.load
    method.tuned evaluation.stop evaluation.embedding evaluation.bleurt *.optimizer
    *.target_modules trainer.strategy *.sharding_strategy logger.wandb.project
    logger.wandb.entity objective.*.layer logger.wandb.tags*
"""
NULLABLE = """
    debug model.lora data.alternate data.*.where finetune data.related method.trained method.rule
    data.forget.chapters data.forget.cleaning data.forget.prompt.* finetune.sets.*
    *.tuning.sets.* *.adapter *.retain_batch_size *.gradient_clip_val classifier.tiny
    classifier.train classifier.labels *.batch_size evaluation.aggregates *.split *.kind *.limit
    data.answers.temperature data.answers.top_p data.alternate.top_p *.require *.require.*
    callbacks.guard.* callbacks.checkpoint.best classifier.tiny.tokenizer logger.wandb.tags
    logger.wandb.log_model
"""
FLOATS = """
    objective.*.weight *.learning_rate *.lr *.weight_decay *.gradient_clip_val
    callbacks.guard.* *.alpha objective.*.options.* method.scale method.rule.rho
    data.answers.temperature data.alternate.temperature progress_seconds *.require.bleu
"""
LEGAL = {
    "text": f"{FREE_TEXT} objective.*.role",
    "empty": f"{FREE_TEXT} *.kind",
    "null": f"{FREE_TEXT} {NULLABLE}",
    "true": """
        validate oracle *.append_eos *.keep_dropout *.gradient_checkpointing callbacks.bleu.stop
        trainer.deterministic *.eight_bit *.packing *.streaming logger.wandb.offline
        logger.wandb.log_model data.answers.keep_broken data.alternate.keep_broken
    """,
    "0": """
        *seed *.fractions* objective.*.weight *.warmup_steps *.weight_decay *.dropout
        trainer.log_every_n_steps method.layer objective.*.layer progress_seconds *.require.bleu
    """,
    "-1": "*.max_epochs *.max_steps trainer.devices",
    "1.5": FLOATS,
    "[]": """
        sweep.objectives data.alternate method.trained data.forget.chapters evaluation.stop
        logger.wandb.tags
    """,
    "[text]": "sweep.objectives data.alternate method.trained *.target_modules evaluation.stop "
    "classifier.labels classifier.train.data.labels logger.wandb.tags",
    "{}": "model.lora data.*.where *.optimizer_options evaluation.aggregates *.adapter logger "
    "objective data.forget.cleaning *.require",
    "{key}": "data.*.where *.optimizer_options",
}
"""By value, keys that may have it: what they name is looked for when data and models are."""


def put(values, key, value):
    """Sets what stands at a dotted key."""
    *path, last = re.sub(r"\[(\d+)\]", r".\1", key).split(".")
    for part in path:
        values = values[int(part) if isinstance(values, list) else part]
    values[int(last) if isinstance(values, list) else last] = value


def refusal(values, key):
    """What a run says about the configuration before it starts; None where it says nothing."""
    if found := faults(values):
        return "\n".join(found)
    try:
        check_nodes(values)
        group = key.split(".")[0]
        config = (
            OmegaConf.create(values)
            if group in ("objective", "callbacks", "method", "logger")
            else None
        )
        if group == "logger":
            check_tracking(config)
        elif group == "callbacks":
            check_best(config)
        elif config is not None:
            check_loss_options(config)
            check_method(config)
    except ConfigError as error:
        return str(error)
    return None


def is_legal(key, name):
    return any(fnmatch(key, pattern) for pattern in LEGAL.get(name, "").split())


def keys_of(values, seen):
    """Yields keys with their values, once for each class that they are arguments of."""
    targets = {k.removesuffix("._target_"): v for k, v in leaves(values) if k.endswith("_target_")}
    for key, value in list(leaves(values)):
        owners = [target for node, target in targets.items() if key.startswith(f"{node}.")]
        if (key, *owners) not in seen:
            seen.add((key, *owners))
            yield key, value


def test_every_wrong_value_of_every_key_is_refused_by_name(compose_config, monkeypatch):
    seen, drawn, missed = set(), 0, []
    for words in CONFIGURATIONS.values():
        config = evaluation_config(compose_config(*words))
        values = OmegaConf.to_container(config, resolve=True)
        assert refusal(values, "method" if "method" in values else "logger") is None, words
        for key, value in keys_of(values, seen):
            for name, wrong in WRONG.items():
                if is_legal(key, name):
                    continue
                put(values, key, wrong)
                said, drawn = refusal(values, key), drawn + 1
                if said is None or key.partition("[")[0] not in said:
                    missed.append((key, name, said))
            put(values, key, value)
    assert not missed, "\n".join(map(str, missed))
    assert len(seen) > 300 and drawn > 4000, (len(seen), drawn)
    print(f"{len(seen)} keys, {drawn} wrong values")
