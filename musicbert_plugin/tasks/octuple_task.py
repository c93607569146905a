"""The base of the tasks on rows of octuples: the dictionary, the lengths of rows, and batches without labels."""

from __future__ import annotations

from typing import Any

from fairseq.data import (
    Dictionary,
    FairseqDataset,
    IdDataset,
    ListDataset,
    NestedDictionaryDataset,
    RightPadDataset,
    SortDataset,
)
from fairseq.data.iterators import EpochBatchIterator

from musicbert_plugin.codecs.octuple import MASK, dictionary_lines
from musicbert_plugin.data.octuple_dataset import OctupleRows
from musicbert_plugin.errors import OptionError
from musicbert_plugin.tasks.music_task import MusicTask


def octuple_dictionary() -> Dictionary:
    """The codec's dictionary as fairseq's: 1,236 ids, then ``<mask>``."""
    dictionary = Dictionary()
    for line in dictionary_lines():
        dictionary.add_symbol(line.split(" ")[0], n=0)
    mask = dictionary.add_symbol("<mask>")
    assert mask == MASK
    return dictionary


class OctupleTask(MusicTask):
    """A task of the model ``musicbert``, with rows of at most ``cfg.tokens_per_sample`` sub-tokens."""

    accepted_models = ("musicbert",)
    dictionary: Dictionary

    def __init__(self, cfg: Any) -> None:
        super().__init__(cfg)
        self.dictionary = octuple_dictionary()

    def get_batch_iterator(
        self,
        dataset: FairseqDataset,
        max_tokens: int | None = None,
        max_sentences: int | None = None,
        max_positions: int | None = None,
        **options: Any,
    ) -> EpochBatchIterator:
        """The batches of an epoch, see ``MusicTask``.

        Raises
        ------
        OptionError
            If rows are too long for a batch or for the model: fairseq would leave them out of training.
        """
        longest = int(dataset.sizes.max(initial=0)) if isinstance(dataset, OctupleRows) else 0
        for option, limit in (("--max-tokens", max_tokens), ("the model's --max-positions", max_positions)):
            if limit is not None and longest > limit:
                raise OptionError(
                    f"{option} is {limit}, but rows have up to {longest} sub-tokens; raise it, or lower "
                    f"--tokens-per-sample, which is {self.max_positions()}."
                )
        return super().get_batch_iterator(dataset, max_tokens, max_sentences, max_positions, **options)

    def build_dataset_for_inference(
        self, src_tokens: list[Any], src_lengths: list[int], **unused: Any
    ) -> FairseqDataset:
        """Batches of ``net_input.src_tokens`` alone, longest last: for framed id tensors of any lengths."""
        tokens = ListDataset(src_tokens, src_lengths)
        padded = RightPadDataset(tokens, pad_idx=self.dictionary.pad())
        batches = NestedDictionaryDataset(
            {"id": IdDataset(), "net_input": {"src_tokens": padded}}, sizes=[tokens.sizes]
        )
        return SortDataset(batches, sort_order=[tokens.sizes])

    def max_positions(self) -> int:
        """Longest row, in sub-tokens."""
        return self.cfg.tokens_per_sample
