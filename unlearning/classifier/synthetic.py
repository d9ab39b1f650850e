"""The labelled comments that come with the package, the demo's training data of the harm
classifier."""

from __future__ import annotations

from typing import Any

from unlearning.classifier.jigsaw import JigsawDataModule, LabelledText
from unlearning.data.synthetic import comments


class SyntheticCommentsDataModule(JigsawDataModule):
    """Harmful and harmless one-line comments with the one label `toxic`; needs no file and no hub.

    Takes the settings of `JigsawDataModule` except those that say where the comments are.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(source="synthetic", labels=("toxic",), **settings)

    def read(self) -> list[LabelledText]:
        return [(text, (float(harmful),)) for text, harmful in comments()]
