"""A model trained from scratch, as small as one can be whose size does not matter."""

SMALL = (
    "model.base.architecture.hidden_size=32",
    "model.base.architecture.num_hidden_layers=2",
    "model.base.architecture.num_attention_heads=4",
    "model.base.architecture.ffn_dim=64",
)
