"""Every causal language model of transformers: it works, or is refused with a sentence.

Tiny random models, on answers beyond any window. `docs/models.md` is the table of what is found
here; `python tests/models/write_table.py` writes it.
"""

from __future__ import annotations

import pytest
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from models.architectures import NOT_TRIED, class_name, model_types, tiny_model
from models.measuring import (
    check_bf16,
    check_generation,
    check_lora,
    check_saving,
    check_scores,
    check_training,
    check_uneven,
    facts,
    naive_nlls,
    reason,
)
from models.write_table import documented
from unlearning import UnlearningModule
from unlearning.errors import ConfigError

TABLE = documented()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # transformers' own, of old code
@pytest.mark.parametrize("model_type", model_types())
def test_an_architecture_is_right_or_refused(model_type, tokenizer, tmp_path):
    model, plain = tiny_model(model_type), tiny_model(model_type)
    row = TABLE[class_name(model_type)]
    try:
        module = UnlearningModule(model, reference="copy")
    except ConfigError as error:
        assert row == {"rows": "refused", "notes": reason(str(error))}
        return
    assert row == facts(model)
    check_uneven(plain)
    layouts = ["padded", "tree"] if row["rows"] == "tree" else ["padded"]
    check_training(module, plain, layouts)  # type: ignore[arg-type]
    model.eval()
    wanted = naive_nlls(plain)
    check_scores(model, wanted)
    if "no bf16-mixed" not in row["notes"]:
        check_bf16(model, plain, wanted)
    check_generation(model, tokenizer)
    check_saving(model, tmp_path / "model")
    adapted = UnlearningModule(model, lora={}, reference="adapter_off")
    check_lora(adapted, layouts[-1], wanted)  # type: ignore[arg-type]


def test_the_table_has_every_class():
    left_out = {class_name(each) for types in NOT_TRIED.values() for each in types}
    tried = {class_name(model_type) for model_type in model_types()}
    assert tried | left_out == set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values())
    assert set(TABLE) == tried
