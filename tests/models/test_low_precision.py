from __future__ import annotations

import pytest
import torch

from unlearning.models.adapter import add_lora
from unlearning.models.low_precision import computing_in


@pytest.mark.parametrize("adapted", [False, True])
def test_weights_come_back_bit_for_bit_and_frequencies_never_leave(make_model, adapted):
    model = make_model("llama").eval()
    model = add_lora(model, r=2).eval() if adapted else model
    ids = torch.tensor([[5, 9, 3, 7]])
    before = {name: value.clone() for name, value in model.state_dict().items()}
    buffers = {name: value.clone() for name, value in model.named_buffers()}
    exact = model(input_ids=ids).logits
    with pytest.raises(RuntimeError, match="stop"), computing_in(model, torch.bfloat16):
        assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
        coarse = model(input_ids=ids).logits
        assert all(torch.equal(b, buffers[n]) for n, b in model.named_buffers())
        raise RuntimeError("stop")
    assert coarse.dtype == torch.bfloat16 and not torch.equal(coarse.float(), exact)
    assert torch.allclose(coarse.float(), exact, atol=0.05 * exact.abs().max().item())
    after = model.state_dict()
    assert all(torch.equal(after[n], v) and after[n].dtype == v.dtype for n, v in before.items())
    assert torch.equal(model(input_ids=ids).logits, exact)


def test_the_own_precision_changes_nothing(make_model):
    model = make_model("opt")
    kept = {name: p.data_ptr() for name, p in model.named_parameters()}
    with computing_in(model, torch.float32):
        assert {name: p.data_ptr() for name, p in model.named_parameters()} == kept
