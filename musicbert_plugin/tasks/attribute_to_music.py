"""Task ``attribute_to_music``: a language model of music conditioned on attributes or on a custom condition.

Lu et al. 2023, "MuseCoco: Generating Symbolic Music from Text" (arXiv 2306.00110), section 3.3.  The data are dataset
folders (see ``data.dataset_folder``) of ``preprocess.remi build`` (music and its attributes) or ``preprocess.remi
pairs`` (condition and music).  ``data.prefix_lm_dataset`` describes a batch, ``data.attribute_dropout`` which
attributes are visible in it.

A split whose name begins with "train" is drawn anew in every epoch; any other is the same in every epoch.

Layout, position mode, the kind of prefix and what the loss is over belong to a model: training takes them from the
dataset folder and the options, the checkpoint keeps them, and later uses of it need no options.  It also keeps the
command words that the training data had, so that requests for others bring a warning.  The published checkpoints name
the task ``language_modeling_control``.

``fairseq-interactive`` reads one request per line, ``fairseq-generate`` takes the prefix of each sample of a split;
both write music with the plugin's own generator (``generation``).
"""

# No "from __future__ import annotations": fairseq reads the types of a dataclass's fields, not their text.
import logging
from argparse import Namespace
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

import torch
from fairseq import utils
from fairseq.data import Dictionary, FairseqDataset
from fairseq.dataclass import ChoiceEnum, FairseqDataclass
from fairseq.tasks import register_task
from omegaconf import II, open_dict
from torch import Tensor

from musicbert_plugin.codecs.channel_programs import CHOICES
from musicbert_plugin.codecs.octuple import DEFAULT_METER
from musicbert_plugin.codecs.reading_options import CHANNEL_PROGRAMS, ReadingOptions
from musicbert_plugin.codecs.remi import FREE, LAYOUTS, NOTES_ALONE, dictionary_words, parse_meter
from musicbert_plugin.codecs.score import midi_bytes
from musicbert_plugin.commands import say
from musicbert_plugin.data.answer_folder import AnswerFolder, midi_name
from musicbert_plugin.data.attribute_dropout import DROPOUTS, visible_words
from musicbert_plugin.data.condition_pairs import ConditionPairs
from musicbert_plugin.data.dataset_folder import check_remi_folder
from musicbert_plugin.data.pair_augmentation import AUGMENTATIONS
from musicbert_plugin.data.prefix_lm_dataset import (
    ENDS,
    LOSS_ON,
    AttributedMusic,
    PrefixLMDataset,
    Prompts,
    read_prefix,
)
from musicbert_plugin.errors import OptionError
from musicbert_plugin.generation.generator import ConditionalGenerator, Constraints, Piece, candidates_of
from musicbert_plugin.generation.prompts import PREFIXES, Ids, make_prompt, request_ids
from musicbert_plugin.generation.sampling import Search
from musicbert_plugin.modules.position_offset import POSITION_MODES
from musicbert_plugin.tasks.music_task import MusicTask

logger = logging.getLogger(__name__)

AUTO = "auto"
LAYOUT_CHOICES = ChoiceEnum((AUTO, *LAYOUTS, FREE))
POSITION_CHOICES = ChoiceEnum((AUTO, *POSITION_MODES))
LOSS_CHOICES = ChoiceEnum((AUTO, *LOSS_ON))
ENDS_CHOICES = ChoiceEnum(ENDS)
DROPOUT_CHOICES = ChoiceEnum(DROPOUTS)
PREFIX_CHOICES = ChoiceEnum((AUTO, *PREFIXES))
CHANNEL_CHOICES = ChoiceEnum(CHOICES)
KEEP_CHOICES = ChoiceEnum((AUTO, "all", "best"))
_OF_THE_MODEL = {
    "layout": (*LAYOUTS, FREE),
    "position_mode": POSITION_MODES,
    "prefix": PREFIXES,
    "loss_on": LOSS_ON,
}
"""Options that the checkpoint of a model keeps, and their choices."""


@dataclass
class AttributeToMusicTaskConfig(FairseqDataclass):
    """Options of the task; the defaults are what the published models were trained with."""

    data: Optional[str] = field(  # noqa: UP045 (fairseq reads the annotation)
        default=None,
        metadata={
            "help": "dataset folder made by preprocess.remi; several joined by ':' are one shard per epoch.  For "
            "fairseq-interactive any folder with a dict.txt, and none at all for the published vocabulary",
            # For argparse: may be left out.
            "argparse_const": "",
        },
    )
    layout: LAYOUT_CHOICES = field(
        default=AUTO, metadata={"help": "layout of the music; auto: the checkpoint's, or else the dataset's"}
    )
    position_mode: POSITION_CHOICES = field(
        default=AUTO,
        metadata={"help": "where positions begin; auto: as in the checkpoint, or else at <sep> (zero-prefix)"},
    )
    loss_on: LOSS_CHOICES = field(
        default=AUTO,
        metadata={
            "help": "what loss and perplexity are over: the music alone (target), or prefix and music (all); auto: as "
            "in the checkpoint, or else target"
        },
    )
    ends: ENDS_CHOICES = field(
        default=ENDS[0],
        metadata={
            "help": "which windows of music teach the end </s>: those that end their piece and those whose prefix "
            "shows the number of bars (marked), or all, as in the published recipe and in folders without marks"
        },
    )
    attribute_mask: DROPOUT_CHOICES = field(
        default="steps", metadata={"help": "which attributes are visible: a drawn number, each by chance, or all"}
    )
    attribute_mask_prob: float = field(
        default=0.4, metadata={"help": "probability that --attribute-mask probability hides a command word"}
    )
    prefix: PREFIX_CHOICES = field(
        default=AUTO,
        metadata={"help": "what comes before <sep>; auto: as in the checkpoint, or else in the dataset"},
    )
    augment_inst_slight: bool = field(
        default=False,
        metadata={"help": "training pairs, sometimes: an instrument leaves the content, or the whole pair"},
    )
    augment_drum: bool = field(
        default=False,
        metadata={"help": "training pairs, sometimes: drums leave the content, or the pair; they leave the history"},
    )
    augment_bass: bool = field(
        default=False, metadata={"help": "training pairs, sometimes: basses leave the content, or the pair"}
    )
    augment_hist: bool = field(default=False, metadata={"help": "training pairs, sometimes: the history is empty"})
    augment_inst: bool = field(
        default=False, metadata={"help": "training pairs, sometimes: instruments leave the content, or the pair"}
    )
    augment_denoise: bool = field(
        default=False,
        metadata={"help": "training pairs, sometimes: notes of accompanying instruments leave the content"},
    )
    augment_content: bool = field(
        default=False, metadata={"help": "training pairs, sometimes: pitches leave the content, or are added"}
    )
    no_grammar: bool = field(
        default=False, metadata={"help": "generation: let any token follow any other, as the original does"}
    )
    no_limits: bool = field(
        default=False,
        metadata={
            "help": "generation: bars, time signature and tempo of a request only guide the model; by default they are "
            "limits, which every piece keeps.  Instruments with no- before them never sound"
        },
    )
    steady_tempo: bool = field(
        default=False,
        metadata={"help": "generation: one tempo per piece (the last of a prompt), also if its request names none"},
    )
    exact_bars: Optional[int] = field(  # noqa: UP045
        default=None,
        metadata={
            "help": "generation: exact number of bars of every piece, those of the prompt included, instead of those "
            "that its request names"
        },
    )
    only_instruments: bool = field(
        default=False, metadata={"help": "generation: only instruments that a request asks for"}
    )
    prompt: Optional[str] = field(  # noqa: UP045
        default=None,
        metadata={"help": "generation: music to continue in all pieces, a MIDI file or a line of music words"},
    )
    dest: Optional[str] = field(  # noqa: UP045
        default=None,
        metadata={
            "help": "fairseq-interactive: folder for the music, n.mid for line n, from 0.  The same command goes on "
            "where it was stopped, and another one replaces the music of an earlier run"
        },
    )
    max_bytes: int = field(default=ReadingOptions.max_bytes, metadata={"help": "generation: largest MIDI --prompt"})
    max_notes: int = field(default=ReadingOptions.max_notes, metadata={"help": "generation: most notes of a --prompt"})
    max_events: int = field(
        default=ReadingOptions.max_events, metadata={"help": "generation: most MIDI events of a --prompt"}
    )
    channel_programs: CHANNEL_CHOICES = field(
        default=ReadingOptions.channel_programs,
        metadata={"help": f"generation: in a MIDI --prompt: {CHANNEL_PROGRAMS}"},
    )
    meter: Optional[str] = field(  # noqa: UP045
        default=None,
        metadata={
            "help": "generation: time signature N/D, in layouts without words for it (default: of the prompt, or 4/4)"
        },
    )
    num_candidates: Optional[int] = field(  # noqa: UP045
        default=None,
        metadata={
            "help": "generation: how many pieces are written for a request; see --keep (default: 4 for each piece that "
            "is given, or 1 where nothing can be chosen: for conditions, in greedy and in beam search, which repeat "
            "about a quarter of the bars).  The recipes sample at --temperature 0.8"
        },
    )
    keep: KEEP_CHOICES = field(
        default=AUTO,
        metadata={
            "help": "generation: give all candidates, or the one that has the largest share of the requested "
            "attributes (best; of equal ones the more probable).  auto: best, or all for a model of conditions, which "
            "has no attributes to compare"
        },
    )
    tokens_per_sample: int = field(default=8192, metadata={"help": "longest row, prefix included"})
    persistent_workers: bool = field(
        default=False,
        metadata={"help": "without effect; each epoch of training starts new loader processes"},
    )
    seed: int = II("common.seed")


def dictionary_of(words: tuple[str, ...]) -> Dictionary:
    """A fairseq dictionary: its four specials, then these words."""
    dictionary = Dictionary()
    for word in words:
        dictionary.add_symbol(word, n=0)
    return dictionary


@register_task("attribute_to_music", dataclass=AttributeToMusicTaskConfig)
class AttributeToMusicTask(MusicTask):
    """Language modelling of prefixes and music; see the module."""

    cfg: AttributeToMusicTaskConfig
    accepted_models = ("linear_transformer_lm",)

    def __init__(self, cfg: AttributeToMusicTaskConfig) -> None:
        super().__init__(cfg)
        # fairseq keeps hold of persistent processes alone, which is what MusicTask needs to end them.
        cfg.persistent_workers = True
        self.layout: Optional[str] = None if str(cfg.layout) == AUTO else str(cfg.layout)  # noqa: UP045
        self.position_mode = POSITION_MODES[0] if str(cfg.position_mode) == AUTO else str(cfg.position_mode)
        self.prefix = PREFIXES[0] if str(cfg.prefix) == AUTO else str(cfg.prefix)
        self.loss_on = LOSS_ON[0] if str(cfg.loss_on) == AUTO else str(cfg.loss_on)
        self.meter = parse_meter(cfg.meter) if cfg.meter else None
        if not 0 <= cfg.attribute_mask_prob <= 1:
            raise OptionError(f"--attribute-mask-prob is {cfg.attribute_mask_prob:g}, but 0 to 1 is accepted.")
        self.of_folder: dict[str, str] = {}
        self.requests: list[str] = []
        self.lines_answered = 0
        words = tuple(dictionary_words())
        if cfg.data:
            folder = self.shard("valid")
            if (folder / "dict.txt").is_file() or (folder / "config.json").is_file():
                checked = check_remi_folder(folder)
                words = checked.words
                self.of_folder = {"prefix": PREFIXES[checked.pairs("train")]}
                if checked.layout:
                    self.of_folder["layout"] = checked.layout
        self.dictionary = dictionary_of(words)
        self.separator = self.dictionary.index("<sep>")

    def build_model(self, cfg: Any, from_checkpoint: bool = False) -> Any:
        """Make the model, and settle what belongs to it: as asked for, or the checkpoint's, or the dataset's."""
        if not from_checkpoint:
            self._set(cfg, "seen_attributes", self._training_attributes())
        for name, choices in _OF_THE_MODEL.items():
            asked, held = str(getattr(self.cfg, name)), _held(cfg, name)
            otherwise = self.of_folder.get(name, choices[0])
            settled = asked if asked != AUTO else held if held in choices else otherwise
            setattr(self, name, settled)
            self._set(cfg, name, settled)
        return super().build_model(cfg, from_checkpoint)

    @staticmethod
    def _set(cfg: Any, name: str, value: Optional[str]) -> None:  # noqa: UP045
        """Set an option of a model's configuration."""
        if isinstance(cfg, Namespace):
            setattr(cfg, name, value)
        else:
            with open_dict(cfg):
                cfg[name] = value

    def _training_attributes(self) -> Optional[str]:  # noqa: UP045
        """The command words of the training data, joined by spaces; None for conditions and without a dataset."""
        folders = [Path(folder) for folder in utils.split_paths(self.cfg.data or "") if folder]
        files = [folder / "train.attributes.npy" for folder in folders]
        if not files or not all(file.is_file() for file in files):
            return None
        seen: set[str] = set()
        for folder in folders:
            samples = AttributedMusic(folder / "train")
            seen.update(visible_words(samples.classes, str(self.cfg.attribute_mask)))
        return " ".join(sorted(seen))

    def load_dataset(self, split: str, epoch: int = 1, combine: bool = False, **options: Any) -> None:
        """Open one split.

        Raises
        ------
        OptionError
            If there is no dataset folder.
        DatasetError
            If it cannot be read.
        """
        if not self.cfg.data:
            raise OptionError("No dataset folder was given: it is the first argument, as preprocess.remi makes it.")
        train = split.startswith("train")
        folder = check_remi_folder(self.shard(split, epoch))
        if folder.words != tuple(self.dictionary.symbols[self.dictionary.nspecial :]):
            raise OptionError(f"{folder.path} has another dictionary than {self.shard('valid')}: shards share one.")
        if folder.layout and self.layout and folder.layout != self.layout:
            raise OptionError(
                f"{folder.path} holds music in layout {folder.layout}, but the model's is {self.layout}: the same is "
                "needed."
            )
        samples: Any
        if folder.pairs(split):
            samples = ConditionPairs(
                folder.path,
                split,
                words=self.dictionary.symbols,
                augmentations=[name for name in AUGMENTATIONS if train and getattr(self.cfg, f"augment_{name}")],
                seed=self.cfg.seed,
            )
        else:
            samples = AttributedMusic(
                folder.path / split,
                dropout=str(self.cfg.attribute_mask),
                dropout_prob=self.cfg.attribute_mask_prob,
                ends=str(self.cfg.ends),
                seed=self.cfg.seed,
            )
        self.datasets[split] = PrefixLMDataset(
            samples,
            separator=self.separator,
            position_mode=self.position_mode,
            loss_on=self.loss_on,
            train=train,
            seed=self.cfg.seed,
        )
        over = "the music alone" if self.loss_on == LOSS_ON[0] else "prefix and music"
        logger.info(
            "%s: %d samples, %d tokens; loss and perplexity are over %s (--loss-on %s)",
            folder.path / split,
            len(samples.sizes),
            int(samples.sizes.sum()),
            over,
            self.loss_on,
        )

    def eval_lm_dataloader(
        self,
        dataset: FairseqDataset,
        max_tokens: Optional[int] = 36000,  # noqa: UP045
        batch_size: Optional[int] = None,  # noqa: UP045
        max_positions: Optional[int] = None,  # noqa: UP045
        num_shards: int = 1,
        shard_id: int = 0,
        num_workers: int = 1,
        data_buffer_size: int = 10,
        context_window: int = 0,
    ) -> Any:
        """The batches that ``fairseq-eval-lm`` scores: whole samples, each with its prefix."""
        if context_window:
            raise OptionError("--context-window is for running text; here a sample is always seen whole: leave it out.")
        return self.get_batch_iterator(
            dataset=dataset,
            max_tokens=max_tokens,
            max_sentences=batch_size,
            max_positions=max_positions,
            ignore_invalid_inputs=True,
            num_shards=num_shards,
            shard_id=shard_id,
            num_workers=num_workers,
            data_buffer_size=data_buffer_size,
        ).next_epoch_itr(shuffle=False)

    def get_interactive_tokens_and_lengths(self, lines: list[str], encode_fn: Any) -> tuple[list[Tensor], list[int]]:
        """The prefixes of lines of requests.

        Raises
        ------
        OptionError
            With the number of the line, if it means nothing to the model.
        """
        if self.cfg.dest and self.requests:
            raise OptionError(
                f"--dest {self.cfg.dest} needs all requests before the first is answered, but there are more than "
                f"--buffer-size {len(self.requests)}: raise it to their number."
            )
        tokens = []
        for line in lines:
            self.requests.append(line)
            try:
                ids = request_ids(line, self.dictionary.symbols, self.prefix)
            except OptionError as error:
                raise OptionError(f"line {len(self.requests)}: {error}") from error
            tokens.append(torch.from_numpy(read_prefix(ids, self.separator)))
        return tokens, [len(row) for row in tokens]

    def build_generator(
        self, models: list[Any], args: Any, seq_gen_cls: Any = None, extra_gen_cls_kwargs: Any = None, **unused: Any
    ) -> Any:
        """What ``fairseq-interactive`` and ``fairseq-generate`` generate with.

        Raises
        ------
        OptionError
            An option that cannot go with the others.
        """
        if getattr(args, "score_reference", False):
            return super().build_generator(models, args)
        return FairseqMusicGenerator(self, models, args)

    def build_dataset_for_inference(
        self, src_tokens: list[Tensor], src_lengths: list[int], **unused: Any
    ) -> FairseqDataset:
        """Batches of prefixes, in their order."""
        return Prompts(src_tokens)

    def max_positions(self) -> int:
        """Longest row, prefix included."""
        return self.cfg.tokens_per_sample


class FairseqMusicGenerator:
    """The conditional generator, called as fairseq calls a sequence generator."""

    def __init__(self, task: AttributeToMusicTask, models: list[Any], args: Any) -> None:
        cfg = task.cfg
        if len(models) != 1:
            raise OptionError(f"--path names {len(models)} checkpoints: music is generated with one.")
        beam = args.beam if not args.sampling else 1
        self.search = Search(
            beam=beam,
            sampling=args.sampling,
            top_k=max(args.sampling_topk, 0),
            top_p=args.sampling_topp,
            temperature=args.temperature,
            length_penalty=0.0 if args.unnormalized else args.lenpen,
            min_length=args.min_len,
            max_length=args.max_len_b,
            seed=cfg.seed,
        )
        given = args.beam if args.sampling else min(args.nbest, beam)
        keep = str(cfg.keep)
        best = keep == "best" or (keep == AUTO and task.prefix == PREFIXES[0])
        candidates = candidates_of(cfg.num_candidates, task.prefix, self.search)
        if best and cfg.num_candidates is not None:
            self.count = max(candidates, given)
        else:
            self.count = candidates * given
        if beam > 1:
            self.count = min(self.count, beam)
        self.keep = given if best else None
        # fairseq prints so many of a request's pieces.
        args.nbest = self.keep or self.count
        layout = task.layout or LAYOUTS[0]
        self.folder: Optional[AnswerFolder] = None  # noqa: UP045
        self.task, self.pad = task, task.dictionary.pad()
        self.eos = task.dictionary.eos()
        self.symbols_to_strip_from_output = {self.eos, task.dictionary.bos(), self.pad}
        self.generator = ConditionalGenerator(
            models[0],
            words=task.dictionary.symbols,
            layout=layout,
            constraints=Constraints(
                cfg.exact_bars, cfg.only_instruments, not cfg.no_grammar, not cfg.no_limits, cfg.steady_tempo
            ),
            prompt=make_prompt(
                cfg.prompt or None,
                layout,
                task.meter,
                ReadingOptions(
                    cfg.max_bytes, cfg.max_notes, cfg.max_events, channel_programs=str(cfg.channel_programs)
                ),
            ),
        )
        meter = self.generator.prompt.meter
        if layout in NOTES_ALONE and meter != DEFAULT_METER and not cfg.dest:
            logger.warning(
                "this layout has no words for the time signature: preprocess.remi decode --meter %d/%d", *meter
            )

    def generate(
        self,
        models: list[Any],
        sample: dict[str, Any],
        prefix_tokens: Any = None,
        constraints: Any = None,
        **unused: Any,
    ) -> list[list[dict[str, Any]]]:
        """Hypotheses of every row: dicts with ``tokens``, ``score`` (natural logarithm, per token) and the like.

        Tokens after ``<sep>`` are ignored.  They are removed from the batch, as the prefix is from the target, so that
        fairseq-generate prints the prefix as S- and the music as T-.
        """
        if prefix_tokens is not None or constraints is not None:
            raise OptionError("--prefix-size and --constraints are not for music: use --prompt FILE.")
        prefixes = []
        rows, targets = sample["net_input"]["src_tokens"], sample.get("target")
        for number, row in enumerate(rows.cpu().numpy()):
            (separators,) = (row == self.task.separator).nonzero()
            if not len(separators):
                raise OptionError(f"row {number} of the batch has no <sep>, which ends a prefix.")
            separator = int(separators[0])
            prefixes.append(row[1:separator])
            rows[number, separator + 1 :] = self.pad
            if targets is not None:
                targets[number, :separator] = self.pad
        if "id" in sample:
            lines = sample["id"].tolist()
        else:
            # fairseq-interactive passes nothing but tokens, in the order of its lines.
            lines = [self.task.lines_answered + row for row in range(len(prefixes))]
            self.task.lines_answered += len(prefixes)
            self.generator.name_of = self._line_name
        found = self._answers(prefixes, lines, "id" in sample)
        return [[self._hypothesis(piece) for piece in pieces] for pieces in found]

    def _line_name(self, number: int) -> str:
        """A line of requests in warnings: its number from 1, as editors and errors count, and what answers it."""
        return f"line {number + 1} ({midi_name(number) if self.task.cfg.dest else f'H-{number}'})"

    def _answers(self, prefixes: list[Ids], lines: list[int], of_split: bool) -> list[list[Piece]]:
        """The pieces of each prefix; with ``--dest``, they are kept, and those of an earlier run are taken from it."""
        dest = self.task.cfg.dest
        if not dest:
            return self.generator.generate(prefixes, self.search, lines=lines, count=self.count, keep=self.keep)
        if of_split:
            raise OptionError(
                "--dest is for fairseq-interactive; 'python -m musicbert_plugin.evaluate attributes --path CKPT DATA "
                "--dest DIR' (or pairs) writes music for a split."
            )
        if self.folder is None:
            description = self.generator.description(self.search, count=self.count, keep=self.keep)
            self.folder = AnswerFolder(dest, "music", description, self.task.requests)
            if self.folder.answers:
                self._say_how_many()
        known = self.folder.answers
        missing = [row for row, line in enumerate(lines) if line not in known]
        if missing:
            found = self.generator.generate(
                [prefixes[row] for row in missing],
                self.search,
                lines=[lines[row] for row in missing],
                count=self.count,
                keep=self.keep,
            )
            for row, pieces in zip(missing, found, strict=True):
                names = [midi_name(lines[row], number) for number in range(len(pieces))]
                music = [midi_bytes(self.generator.finished(piece, prefixes[row])) for piece in pieces]
                self.folder.add(lines[row], dict(zip(names, music, strict=True)), [piece.stored() for piece in pieces])
                for name, piece in zip(names, pieces, strict=True):
                    repairs = self.generator.repairs(piece)
                    if repairs:
                        listed = ", ".join(f"{reason} ({number})" for reason, number in sorted(repairs.items()))
                        logger.warning("%s: repaired: %s", name, listed)
            self._say_how_many()
        return [[Piece.of(piece) for piece in known[line]["pieces"]] for line in lines]

    def _say_how_many(self) -> None:
        """Say on stderr, whatever the log level, how many requests have their music."""
        assert self.folder is not None
        say(f"{self.folder.path}: {len(self.folder.answers)} of {len(self.task.requests)} requests are answered")

    def _hypothesis(self, piece: Piece) -> dict[str, Any]:
        scores = torch.from_numpy(piece.scores)
        return {
            "tokens": torch.from_numpy(piece.ids),
            "score": float(scores.sum()) / max(1, len(scores) - len(self.generator.prompt.ids)),
            "attention": None,
            "alignment": None,
            "positional_scores": scores,
        }


@register_task("language_modeling_control", dataclass=AttributeToMusicTaskConfig)
class LanguageModelingControlTask(AttributeToMusicTask):
    """The name under which the published checkpoints were saved; the same task."""


def _held(cfg: Any, name: str) -> Optional[str]:  # noqa: UP045
    """A model configuration's value of a field, if it has one."""
    try:
        value = getattr(cfg, name, None)
    except Exception:  # an interpolation that leads nowhere: omegaconf has several errors for it
        return None
    return None if value is None else str(value)
