"""MusicBERT from Python: features, labels, predictions and new music from one checkpoint file.

    from musicbert_plugin.hub import MusicBERTHub
    hub = MusicBERTHub.from_pretrained("checkpoint_best.pt")
    states = hub.extract_features("piece.mid")           # [notes, dimensions], the last layer
    vector = hub.sentence_vector("piece.mid")            # [dimensions], the mean of the states
    labels = hub.predict("piece.mid")                    # {"composer": {"bach": 0.91, ...}}, of a fine-tuned model
    filled = hub.infill(read_midi("piece.mid"), bars=[4, 5])
    write_midi(filled, "filled.mid")

No other file is needed: the dictionary is the octuple codec's.  Music is given as a path to a MIDI file, as a
``Score``, as octuples [N, 8] (``codecs.octuple.encode``), or as framed token ids.

The input of a model is limited (1,022 notes for the published models).  Longer pieces are processed in windows that
overlap by half; the state of a note comes from the window that has it in its middle half.  Labels are predicted from
consecutive windows, as in validation: of parts of at most 256 bars, in windows of the notes that training had.

Shapes: N notes of a piece, T = 8 (N + 2) framed token ids, L layers, D model dimensions, C classes, M masked fields.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from os import PathLike
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from musicbert_plugin.arguments import checked_layers, checked_seed
from musicbert_plugin.codecs import octuple
from musicbert_plugin.codecs.octuple import BAR, BARS, FIELD_OFFSETS, FIELD_SIZES, MASK
from musicbert_plugin.codecs.reading_options import DEFAULT_READING
from musicbert_plugin.codecs.score import Score
from musicbert_plugin.compat.devices import checked_device
from musicbert_plugin.criterions.label_scores import outputs_of
from musicbert_plugin.data.labels import LabelTask, hidden_fields
from musicbert_plugin.data.octuple_windows import FRAME, hide_fields, notes_per_window
from musicbert_plugin.errors import CheckpointError, OptionError, ScoreError
from musicbert_plugin.generation import infilling
from musicbert_plugin.hub.answers import WindowMean
from musicbert_plugin.hub.checkpoints import fitting, load
from musicbert_plugin.models.musicbert import MusicBERTModel
from musicbert_plugin.modules.low_rank import merge_adapters
from musicbert_plugin.tasks.octuple_task import octuple_dictionary
from musicbert_plugin.tasks.published_tasks import MULTI_LABEL

logger = logging.getLogger(__name__)

Music = str | PathLike[str] | Score | np.ndarray | Tensor

POOLINGS = ("mean", "first")

LONGEST_ROW = 1024
"""Octuples per row, including the frame, in the training of the published models; later positions are untrained."""


class MaskPredictions(NamedTuple):
    """Predictions of :meth:`MusicBERTHub.fill_mask`."""

    octuples: np.ndarray
    """[N, 8], the most probable value in every masked field."""
    values: np.ndarray
    """[M, k], the most probable values of each masked field, best first; in row-major order of the mask."""
    probabilities: np.ndarray
    """[M, k], their probabilities among the values of the field."""


Filled = MaskPredictions  # former name


class MusicBERTHub:
    """A model in evaluation mode, for features, labels, predictions and infilling of pieces.

    Attributes
    ----------
    model : MusicBERTModel
    window : int
        Largest number of notes in its input.
    labels : dict
        Known class names by classification head.
    label_tasks : list of LabelTask
        The tasks of a model that was fine-tuned on labels, else empty.
    per_note : bool
        Whether these are labels of notes.
    label_window : int
        Largest number of notes of a window for labels.
    task_options : dict
        The options of the task that it was trained for, by name; empty if they are unknown.
    reading : ReadingOptions
        How MIDI files are read, their limits among it; may be set.
    """

    reading = DEFAULT_READING

    def __init__(self, model: MusicBERTModel, labels: Mapping[str, Sequence[str]] | None = None) -> None:
        self.task_options: dict[str, Any] = {}
        self.model = model.eval()
        self.window = min(model.max_positions() // 8, LONGEST_ROW) - 2
        if self.window < 1:
            raise CheckpointError(f"the model has {model.max_positions()} positions, too few for a single note.")
        self.labels = {head: list(names) for head, names in (labels or {}).items()}
        self.label_tasks: list[LabelTask] = []
        self.per_note = False
        self.label_window = self.window

    @classmethod
    def from_pretrained(cls, path: str | PathLike[str], *, device: str | torch.device = "cpu") -> MusicBERTHub:
        """Load one ``.pt`` file: of this plugin, or in the format of the published checkpoints.

        Class names come from the checkpoint (``label_names`` in its task's state or configuration: a list, or a list
        per head) or else from ``labels.txt`` in the same folder, one name per line.

        Raises
        ------
        CheckpointError
            The file is missing, has other content than weights, is not a MusicBERT model, or does not match
            ``dict.txt`` or ``labels.txt`` in the same folder.
        OptionError
            There is no such device.
        """
        device = checked_device(device)
        path = Path(path)
        if path.is_file():
            _check_dictionary(path.with_name("dict.txt"))
        (cfg, task), state, task_state = load(path, "musicbert")
        cfg.load_checkpoint_heads, cfg.freeze_encoder_layers, cfg.trainable_layers = True, 0, -1
        cfg.checkpoint_activations = cfg.compile_layers = False
        # the attributes of a task that build_model uses
        like = SimpleNamespace(source_dictionary=octuple_dictionary(), cfg=task, max_positions=lambda: 8 * LONGEST_ROW)
        label_tasks = [LabelTask.of(settings) for settings in task_state.get("label_tasks", ())]
        if label_tasks:
            like.head_sizes = {label_task.name: label_task.size for label_task in label_tasks}
            like.per_note = bool(task_state.get("per_note"))
        model = MusicBERTModel.build_model(cfg, like)
        with fitting(path):
            model.load_state_dict(state, strict=True)
        merge_adapters(model)
        names = task_state.get("label_names") or getattr(task, "label_names", None)
        if label_tasks and len(model.classification_heads):
            names = {label_task.name: label_task.classes for label_task in label_tasks}
        hub = cls(model.to(device), _label_names(path, names, model))
        hub.task_options = vars(task)
        hub.label_tasks, hub.per_note = label_tasks, bool(task_state.get("per_note"))
        if isinstance(trained := hub.task_options.get("tokens_per_sample"), int):
            hub.label_window = min(notes_per_window(trained), hub.window)
        return hub

    def untrained(self, seed: int) -> MusicBERTHub:
        """A model of the same size with fresh weights and without heads, which serves as a baseline."""
        torch.manual_seed(checked_seed(seed))
        like = SimpleNamespace(source_dictionary=octuple_dictionary(), max_positions=lambda: 8 * LONGEST_ROW)
        return MusicBERTHub(MusicBERTModel.build_model(self.model.args, like).to(self.device))

    @property
    def layers(self) -> int:
        """The number of Transformer layers."""
        return len(self.model.encoder.sentence_encoder.layers)

    @property
    def device(self) -> torch.device:
        """The device of the model."""
        return next(self.model.parameters()).device

    # ------------------------------------------------------------------------------------------------------ music in

    def octuples(self, music: Music) -> np.ndarray:
        """The piece as octuples, int64 [N, 8]; bars may exceed 255.

        Repairs of a file, and notes left out beyond ``codecs.octuple.REACH``, are logged as warnings.

        Raises
        ------
        ScoreError
            A file cannot be read, or an array is not octuples or token ids.
        """
        if isinstance(music, Tensor | np.ndarray):
            array = np.asarray(music.cpu() if isinstance(music, Tensor) else music).astype(np.int64)
            if array.ndim == 1:
                array, dropped = octuple.unframe(array)
                if dropped:
                    raise ScoreError("not octuples", f"{dropped} of the token ids belong to no complete octuple.")
            if array.ndim != 2 or array.shape[1] != 8 or not len(array):
                raise ScoreError("not octuples", f"octuples have shape {array.shape}; (N, 8) with N > 0 is expected.")
            beyond = (array < 0) | (array >= np.array([np.iinfo(np.int64).max, *FIELD_SIZES[1:]]))
            if beyond.any():
                row, field = np.argwhere(beyond)[0]
                name, value, last = octuple.FIELDS[field], array[row, field], FIELD_SIZES[field] - 1
                raise ScoreError("not octuples", f"{name} of note {row} is {value}; 0 to {last} is accepted.")
            if (np.diff(array[:, BAR]) < 0).any():
                raise ScoreError("not octuples", "the bars of the octuples descend; ascending bars are expected.")
            return array
        score = music if isinstance(music, Score) else self.reading.read(music)
        octuples = octuple.encode(score).astype(np.int64)
        if len(octuples) < len(score):
            name = "the score" if isinstance(music, Score) else music
            lost = len(score) - len(octuples)
            logger.warning("%s: %d notes from position %d on are left out", name, lost, octuple.REACH)
        return octuples

    def note_order(self, music: str | PathLike[str] | Score) -> np.ndarray:
        """The note of each row of :meth:`octuples`, and of the states of :meth:`extract_features`.

        Octuples are sorted and bars of several tracks are merged, so their order is not that of a score:

            score = hub.reading.read("piece.mid")
            states = torch.full((len(score), dimensions), torch.nan)
            states[hub.note_order(score)] = hub.extract_features(score)

        Parameters
        ----------
        music : path or Score

        Returns
        -------
        int64 [N]
            The index of the note in the score that is given, or that ``reading`` reads from the file.  No index occurs
            twice; those of notes beyond ``codecs.octuple.REACH``, which have no octuple, do not occur.  Notes of equal
            octuples are in the order of the score.

        Raises
        ------
        ScoreError
            The file cannot be read.
        """
        score = music if isinstance(music, Score) else self.reading.read(music)
        return octuple.encoding_order(score)[: len(octuple.encode(score))]

    def encode(self, music: Music) -> Tensor:
        """The piece as the model's input: framed token ids, int64 [T].

        Raises
        ------
        ScoreError
            Reason ``"too long"``: the piece has more than 256 bars, the limit of the dictionary (other methods process
            such pieces in windows); or as :meth:`octuples`.
        """
        octuples = self.octuples(music)
        if octuples[:, BAR].max() >= BARS:
            bars = octuples[:, BAR].max() + 1
            raise ScoreError("too long", f"the piece has {bars} bars, but the dictionary has {BARS}.")
        return torch.from_numpy(octuple.frame(octuples).astype(np.int64))

    def decode(self, ids: Tensor | np.ndarray) -> Score:
        """The score of token ids; framing and masks are ignored."""
        return octuple.decode(octuple.unframe(np.asarray(ids.cpu() if isinstance(ids, Tensor) else ids))[0])

    # ------------------------------------------------------------------------------------------------------ features

    @torch.inference_mode()
    def extract_features(self, music: Music, layers: Iterable[int] | None = None) -> Tensor:
        """States of the notes: [N, D] of the last layer, or [len(layers), N, D].

        Layer 0 is the embedding, n the n-th Transformer layer, and negative numbers count from the last.

        Raises
        ------
        OptionError
            A layer does not exist, or there is none.
        """
        count = len(self.model.encoder.sentence_encoder.layers) + 1
        wanted = [count - 1] if layers is None else checked_layers(layers, -count, count - 1)
        parts = []
        for ids, keep in self._windows(self.octuples(music)):
            states = self.model(ids, features_only=True, return_all_hiddens=True)[1]["inner_states"]
            parts.append(torch.stack([states[layer][0, 1:-1][keep] for layer in wanted]))
        joined = torch.cat(parts, 1)
        return joined[0] if layers is None else joined

    @torch.inference_mode()
    def sentence_vector(self, music: Music, pooling: str | None = None) -> Tensor:
        """One vector for the piece, [D].

        Parameters
        ----------
        music : path, Score, octuples or token ids
        pooling : str, optional
            ``"mean"``: the mean of the states of all notes in the last layer.  ``"first"``: the input of classification
            heads, the first up-projected feature of ``<s>`` (for a piece longer than the model's window, its mean over
            windows).  By default ``"first"`` for a model with a classification head, whose training has made that
            feature tell the classes apart, and else ``"mean"``: masked modelling trains no ``<s>``, whose features of
            different pieces are almost equal (mean cosine 0.965).

        Raises
        ------
        OptionError
            The pooling is neither.
        """
        if pooling is None:
            pooling = "first" if len(self.model.classification_heads) else "mean"
        if pooling not in POOLINGS:
            raise OptionError(f"pooling is {pooling!r}, but {' or '.join(map(repr, POOLINGS))} is accepted.")
        if pooling == "mean":
            return self.extract_features(music).mean(0)
        features = [self.model.encoder(ids, features_only=True, first_only=True)[0][0, 0] for ids in self._rows(music)]
        return torch.stack(features).mean(0)

    @torch.inference_mode()
    def classify(self, music: Music, head: str | None = None) -> dict[str, float]:
        """Probability of each class by name (or number, if names are unknown), the most probable first.

        Probabilities have the sum 1; those of a file of the task ``sentence_prediction_multilabel``, such as genres,
        are independent of each other.
        For a piece longer than the model's window, logits are averaged over windows.  Heads of this plugin's tasks
        answer as in :meth:`predict`.

        Parameters
        ----------
        music : path, Score, octuples or token ids
        head : str, optional
            Name of the classification head; may be omitted if the model has only one.

        Raises
        ------
        OptionError
            The head does not exist.
        """
        heads = list(dict.fromkeys([*self.model.classification_heads, *(task.name for task in self.label_tasks)]))
        if head is None and len(heads) == 1:
            head = heads[0]
        if head not in heads:
            raise OptionError(f"the classification head is {head!r}, but the model has {heads or 'none'}.")
        if head in [task.name for task in self.label_tasks]:
            return dict(sorted(self.predict(music)[head].items(), key=lambda item: -item[1]))
        logits = [self.model(ids, classification_head_name=head)[0][0] for ids in self._rows(music)]
        mean = torch.stack(logits).float().mean(0)
        names_of_task = {self.task_options.get("_name"), self.task_options.get("task")}
        probabilities = (mean.sigmoid() if MULTI_LABEL in names_of_task else F.softmax(mean, -1)).tolist()
        names = self.labels.get(head) or [str(number) for number in range(len(probabilities))]
        return dict(sorted(zip(names, probabilities, strict=True), key=lambda item: -item[1]))

    # -------------------------------------------------------------------------------------------------------- labels

    @property
    def suffixes(self) -> tuple[str, ...]:
        """Suffixes of the files that it takes."""
        from preprocess.engine.sources import MIDI_SUFFIXES

        return MIDI_SUFFIXES

    def excerpts(self, file: str | PathLike[str] | bytes, name: str = "") -> list[np.ndarray]:
        """The piece in a MIDI file, or in its content, as the one element of a list: octuples, int64 [N, 8].

        Raises
        ------
        ScoreError
            It cannot be read; the text names it as ``name``, by default the path.
        """
        octuples = self.octuples(self.reading.read(file, name))
        if not len(octuples):
            raise ScoreError("no notes", f"{name or file}: there is no note in it.")
        return [octuples]

    def predict(self, music: Music) -> dict[str, dict[str, float]]:
        """Predictions of each task's head for a piece: probabilities or numbers by name.

        Windows are averaged, weighted by their notes, as in validation.

        Raises
        ------
        CheckpointError
            The model has no heads for labels of pieces.
        """
        self._check_labels(per_note=False)
        mean = WindowMean(self.label_tasks)
        for logits, notes in self._label_logits(music):
            mean.add(logits, notes)
        return mean.answer()

    def predict_notes(self, music: Music) -> dict[str, np.ndarray]:
        """Probabilities of the classes of each note, float32 [N, C] by task, in the order of :meth:`octuples`.

        Raises
        ------
        CheckpointError
            The model has no heads for labels of notes.
        """
        self._check_labels(per_note=True)
        found = [logits for logits, _ in self._label_logits(music)]
        return {
            task.name: np.concatenate([outputs_of(logits[task.name], task).cpu().numpy() for logits in found])
            for task in self.label_tasks
        }

    def _check_labels(self, per_note: bool) -> None:
        if not self.label_tasks:
            raise CheckpointError(
                "the model has no heads for labels; a checkpoint of music_sequence_prediction or "
                "music_token_prediction is expected (classify() applies published heads)."
            )
        if self.per_note != per_note:
            kind, method = ("notes", "predict_notes()") if self.per_note else ("pieces", "predict()")
            raise CheckpointError(f"the model has labels of {kind}, which {method} gives.")

    @torch.inference_mode()
    def _label_logits(self, music: Music) -> Iterator[tuple[dict[str, Tensor], list[int]]]:
        """Logits by task, and the notes of each window, of windows end to end, some of them at a time."""
        windows = [
            part[start : start + self.label_window]
            for part in octuple.split_bars(self.octuples(music))
            for start in range(0, len(part), self.label_window)
        ]
        together, hidden = max(LONGEST_ROW // self.label_window, 1), hidden_fields(self.label_tasks)
        for first in range(0, len(windows), together):
            group = windows[first : first + together]
            framed = [octuple.frame(window).astype(np.int64) for window in group]
            row = np.concatenate([hide_fields(ids, hidden) for ids in framed])
            lengths = torch.tensor([[len(window) + FRAME for window in group]], device=self.device)
            logits = self.model.label_logits(torch.from_numpy(row)[None].to(self.device), lengths)
            yield logits, [len(window) for window in group]

    def _rows(self, music: Music) -> list[Tensor]:
        return [ids for ids, _ in self._windows(self.octuples(music))]

    def _windows(self, octuples: np.ndarray) -> list[tuple[Tensor, slice]]:
        """Framed ids [1, T] of overlapping windows, and the slice of each whose states are used."""
        bounds = _window_bounds(octuples[:, BAR], self.window)
        edges = [0, *((b[0] + a[1]) // 2 for a, b in zip(bounds, bounds[1:], strict=False)), len(octuples)]
        out = []
        for number, (begin, end) in enumerate(bounds):
            rows = octuples[begin:end]
            ids = octuple.frame(_with_bars_in_reach(rows, octuples)).astype(np.int64)
            keep = slice(edges[number] - begin, edges[number + 1] - begin)
            out.append((torch.from_numpy(ids)[None].to(self.device), keep))
        return out

    # ---------------------------------------------------------------------------------------------------- predictions

    def fill_mask(
        self, music: Music, mask: np.ndarray | Tensor | None = None, top_k: int = 1, *, topk: int | None = None
    ) -> MaskPredictions:
        """Predict masked fields in one pass, each from its own vocabulary.

        Parameters
        ----------
        music : path, Score, octuples or token ids
            A piece that fits one window, with at most 256 bars.
        mask : bool [N, 8], optional
            The fields to mask and predict; may be omitted if ``music`` is token ids that hold masks.
        top_k : int
            Number of values to return for each field, 1 to 32 (the size of the smallest vocabulary).
        topk : int, optional
            Former name of ``top_k``.

        Raises
        ------
        OptionError
            The mask does not fit, or the piece is too long.
        """
        top_k = top_k if topk is None else topk
        if mask is None:
            octuples, mask = _without_masks(music)
        else:
            octuples, mask = self.octuples(music), np.asarray(mask.cpu() if isinstance(mask, Tensor) else mask)
        if mask.shape != octuples.shape or mask.dtype != bool:
            raise OptionError(f"the mask is {mask.dtype} {mask.shape}, but bool {octuples.shape} is expected.")
        if len(octuples) > self.window or np.ptp(octuples[:, BAR]) >= BARS:
            raise OptionError(f"fill_mask takes up to {self.window} notes in {BARS} bars; cut the piece or use infill.")
        if not 1 <= top_k <= min(FIELD_SIZES):
            raise OptionError(f"top_k is {top_k}, but 1 to {min(FIELD_SIZES)} is accepted.")
        values = np.empty((*octuples.shape, top_k), np.int64)
        probabilities = np.empty((*octuples.shape, top_k))
        shown = _with_bars_in_reach(octuples, octuples)
        for field, log_p in enumerate(self._predict(shown, mask, mask)):
            best = np.argsort(-log_p, axis=1, kind="stable")[:, :top_k]
            values[mask[:, field], field] = best
            probabilities[mask[:, field], field] = np.exp(np.take_along_axis(log_p, best, 1))
        values[:, BAR] += (octuples[:, BAR] - shown[:, BAR])[:, None]
        return MaskPredictions(np.where(mask, values[..., 0], octuples), values[mask], probabilities[mask])

    def infill(
        self,
        score: Score | str | PathLike[str],
        bars: int | Iterable[int],
        instruments: Iterable[int] | None = None,
        temperature: float = 1.0,
        top_k: int = 0,
        notes: int | Mapping[int, int] | None = None,
        seed: int = 0,
        passes: int = 8,
        redraw: str | Iterable[str] = (),
    ) -> Score:
        """Redraw the notes of some bars; see :mod:`musicbert_plugin.generation.infilling`.

        By default, the number, bars and programs of the redrawn notes, time signatures, tempi and all other notes do
        not change.  Of redrawn notes that coincide, one is left.

        Parameters
        ----------
        score : Score or path
            A score, or the path of a MIDI file.
        bars : int or iterable of int
            The bars, counted from 0.
        instruments : iterable of int, optional
            Programs (128 for drums) to redraw; all by default.
        temperature : float
            0 takes the most probable values; higher values are less predictable.
        top_k : int
            The number of most probable values of a field to draw from; 0 for all.
        notes : int or mapping of bar to int, optional
            A new number of notes for each of the bars, or for those in the mapping.
        seed : int
        passes : int
            The number of passes in which the notes are drawn, the most certain first.
        redraw : str or iterable of str
            ``"meter"``, ``"tempo"`` or both (``"meter,tempo"``), to redraw them in bars without other notes, which
            shifts all later notes in time.

        Raises
        ------
        OptionError
            A bar, a program or a setting is not accepted.
        ScoreError
            The music cannot be read.
        """
        return infilling.infill(
            score if isinstance(score, Score) else self.reading.read(score),
            bars,
            self._predict,
            window=self.window,
            instruments=instruments,
            notes=notes,
            sampling=infilling.Sampling(temperature, top_k, passes),
            seed=seed,
            redraw=redraw,
        )

    @torch.inference_mode()
    def _predict(self, octuples: np.ndarray, unknown: np.ndarray, asked: np.ndarray) -> list[np.ndarray]:
        """The log-probabilities of each field's values, see :data:`~.generation.infilling.Predict`."""
        ids = torch.from_numpy(octuple.frame(octuples).astype(np.int64)).view(-1, 8)
        ids[1:-1][torch.from_numpy(unknown)] = MASK
        asked_ids = F.pad(torch.from_numpy(asked), (0, 0, 1, 1))
        logits, _ = self.model(ids.view(1, -1).to(self.device), masked_tokens=asked_ids.view(1, -1).to(self.device))
        field = torch.from_numpy(asked).nonzero()[:, 1]
        logits = logits.double().cpu()
        return [
            F.log_softmax(logits[field == f, offset : offset + size], -1).numpy()
            for f, (offset, size) in enumerate(zip(FIELD_OFFSETS, FIELD_SIZES, strict=True))
        ]


def _without_masks(ids: Any) -> tuple[np.ndarray, np.ndarray]:
    """Octuples [N, 8] of framed token ids, with 0 for masked fields, and the mask, bool [N, 8]."""
    array = np.asarray(ids.cpu() if isinstance(ids, Tensor) else ids)
    if array.ndim != 1 or len(array) % 8 or array.dtype.kind not in "iu":
        raise OptionError("a mask is needed, or token ids [8 N] with masks in them.")
    rows = array.reshape(-1, 8).astype(np.int64)
    rows = rows[~np.isin(rows, (octuple.BOS, octuple.PAD, octuple.EOS)).all(1)]
    masked = rows == MASK
    values = np.where(masked, 0, rows - np.array(FIELD_OFFSETS))
    if ((values < 0) | (values >= np.array(FIELD_SIZES))).any():
        raise ScoreError("not octuples", "a token id is outside the vocabulary of its field.")
    return values, masked


# ------------------------------------------------------------------------------------------------------------ windows


def _window_bounds(bars: np.ndarray, window: int) -> list[tuple[int, int]]:
    """Overlapping windows [begin, end) of at most ``window`` notes and 256 bars, with ascending ends."""
    bounds: list[tuple[int, int]] = []
    begin = end = 0
    while end < len(bars):
        reach = int(np.searchsorted(bars, bars[begin] + BARS))
        stop = min(begin + window, reach, len(bars))
        if stop <= end:
            # After a gap in the bars, windows do not overlap.
            begin = end
            continue
        bounds.append((begin, stop))
        begin, end = max((begin + stop) // 2, begin + 1), stop
    return bounds


def _with_bars_in_reach(rows: np.ndarray, piece: np.ndarray) -> np.ndarray:
    """The rows with bars in 0..255: unchanged if the whole piece fits, else counted from the first bar."""
    if piece[:, BAR].max() < BARS:
        return rows
    return rows - np.array([rows[:, BAR].min(), 0, 0, 0, 0, 0, 0, 0])


# ---------------------------------------------------------------------------------------------------------- checkpoints


def _check_dictionary(path: Path) -> None:
    if path.is_file() and not octuple.is_dictionary(path.read_bytes()):
        raise CheckpointError(
            f"{path} is not the octuple dictionary (sha256 {octuple.DICTIONARY_SHA256}), so the model in its folder "
            "has another vocabulary."
        )


def _label_names(path: Path, found: Any, model: MusicBERTModel) -> dict[str, list[str]]:
    """Class names by head, from the checkpoint or else ``labels.txt``, checked against the sizes of the heads."""
    sizes = {name: head.out_proj.out_features for name, head in model.classification_heads.items()}
    source = f"label_names of {path}"
    beside = path.with_name("labels.txt")
    if not found and sizes and beside.is_file():
        found, source = beside.read_text(encoding="utf-8").splitlines(), str(beside)
    if not found:
        return {}
    if not isinstance(found, Mapping):
        if len(sizes) != 1:
            raise CheckpointError(f"{source} is one list, but the model has the classification heads {list(sizes)}.")
        found = {next(iter(sizes)): found}
    labels = {str(head): [str(name) for name in names] for head, names in found.items()}
    for head, names in labels.items():
        if head not in sizes or len(names) != sizes[head] or len(set(names)) != len(names):
            raise CheckpointError(
                f"{source} names {len(names)} classes for the head {head!r}, "
                f"but the model's heads have {sizes} different ones."
            )
    return labels
