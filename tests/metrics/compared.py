"""`compare` of models before and after, with the metrics of each prompt set's kind."""

from collections.abc import Mapping, Sequence
from typing import Any

from unlearning.metrics.comparison import ComparisonSettings, compare
from unlearning.metrics.kinds import metrics_of_kind
from unlearning.metrics.likeness import Similarity, similarity_metrics
from unlearning.metrics.metric import Metric
from unlearning.types import Generation


def compared(
    before: Sequence[Generation],
    after: Sequence[Generation],
    kinds: Mapping[str, str],
    settings: ComparisonSettings | None = None,
    similarities: Mapping[str, Similarity] | None = None,
    original: Sequence[Generation] | None = None,
) -> dict[str, Any]:
    """What `compare` gives, with further similarities by name."""
    sets: dict[str, list[Metric]] = {}
    for prompt_set, kind in kinds.items():
        sets[prompt_set] = list(metrics_of_kind(kind))
        for name, similarity in (similarities or {}).items():
            sets[prompt_set] += similarity_metrics(name, similarity, kind)
    models = {"before": before, "after": after}
    return compare({"original": original, **models} if original else models, sets, settings)
