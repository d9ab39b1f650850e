"""The public names, for editors and type checkers: at run time they are imported when used."""

from unlearning.data.book.datamodule import LOTRDataModule as LOTRDataModule
from unlearning.data.bookcorpus import BookCorpusDataModule as BookCorpusDataModule
from unlearning.data.chat_template import ChatTemplate as ChatTemplate
from unlearning.data.datamodule import UnlearningDataModule as UnlearningDataModule
from unlearning.data.examples import ExampleDataModule as ExampleDataModule
from unlearning.data.finetuning import FinetuningDataModule as FinetuningDataModule
from unlearning.data.hellaswag import HellaSwagDataModule as HellaSwagDataModule
from unlearning.data.joined import JoinedDataModule as JoinedDataModule
from unlearning.data.jsonl import JsonlDataModule as JsonlDataModule
from unlearning.data.mmlu import MMLUDataModule as MMLUDataModule
from unlearning.data.overlap import check_disjoint as check_disjoint
from unlearning.data.pku import PKUDataModule as PKUDataModule
from unlearning.data.pretraining import PretrainingDataModule as PretrainingDataModule
from unlearning.data.prompts import PromptsDataModule as PromptsDataModule
from unlearning.data.prompts import XSTestDataModule as XSTestDataModule
from unlearning.data.split import split_by_prompt as split_by_prompt
from unlearning.data.synthetic.books import ProseDataModule as ProseDataModule
from unlearning.data.synthetic.books import StoryDataModule as StoryDataModule
from unlearning.data.synthetic.datamodule import SyntheticDataModule as SyntheticDataModule
from unlearning.data.template import PromptTemplate as PromptTemplate
from unlearning.data.truthfulqa import TruthfulQADataModule as TruthfulQADataModule
