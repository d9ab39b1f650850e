"""The harm classifier: trains it on labelled comments, and scores completions with it."""

from unlearning.classifier.jigsaw import JIGSAW_LABELS, JigsawDataModule
from unlearning.classifier.module import HarmClassifierModule, harm_loss
from unlearning.classifier.pretrained import check_model_folder, load_classifier
from unlearning.classifier.scorer import HarmScorer
from unlearning.classifier.scores import HarmScores, harm_scores
from unlearning.classifier.synthetic import SyntheticCommentsDataModule
from unlearning.classifier.tiny import tiny_bert
from unlearning.classifier.train import train_classifier

__all__ = [
    "JIGSAW_LABELS",
    "HarmClassifierModule",
    "HarmScorer",
    "HarmScores",
    "JigsawDataModule",
    "SyntheticCommentsDataModule",
    "check_model_folder",
    "harm_loss",
    "harm_scores",
    "load_classifier",
    "tiny_bert",
    "train_classifier",
]
