"""What the numbers of `metrics.json` mean. Free of torch, for the report."""

from __future__ import annotations

FRACTION = "fraction (0..1)"

UNITS: dict[str, str] = {
    "harmful_rate": FRACTION,
    "safe_and_sound_rate": FRACTION,
    "empty_rate": FRACTION,
    "repetitive_rate": FRACTION,
    "non_word_rate": FRACTION,
    "broken_rate": FRACTION,
    "novel_word_share": FRACTION,
    "perplexity": "perplexity (1..)",
    "perplexity_relative": "percent of the value before, or of the original one",
    "target_nll": "nats per token",
    "bleu_to_original": "BLEU (0..100)",
    "rouge_l_to_original": "ROUGE-L F1 (0..1)",
    "bleu_to_target": "BLEU (0..100)",
    "rouge_l_to_target": "ROUGE-L F1 (0..1)",
    "verbatim_tokens": "tokens of the longest shared run",
    "verbatim_chars": "characters of the longest shared run",
    "extraction_strength": FRACTION,
    "exact_memorisation": FRACTION,
    "rouge_accuracy": FRACTION,
    "exact_match": FRACTION,
    "kept_right": "fraction of the prompts answered right before (0..1)",
    "effectiveness": "percent (E of arXiv 2405.15152)",
}
"""Unit by metric name, the part behind the slash of `<prompt_set>/<metric>`. A `change` has its
metric's unit. Further similarities (`<name>_to_original`, `<name>_to_target`) have the unit of
the function given."""
