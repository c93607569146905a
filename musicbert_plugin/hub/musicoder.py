"""MusiCoder from Python: features, labels and restored spectrograms of recordings from one checkpoint file.

    from musicbert_plugin.hub import MusiCoderHub
    hub = MusiCoderHub.from_pretrained("checkpoint_best.pt")
    states = hub.extract_features("song.flac")           # [positions, dimensions], the last layer
    vector = hub.clip_vector("song.flac")                # [dimensions], the mean over time
    labels = hub.predict("song.flac")                    # {"composer": {"bach": 0.91, ...}}, of a fine-tuned model

No other file is needed: the checkpoint holds the settings of the front-end, the mean and standard deviation of the
training data and, if fine-tuned, the class names.  A recording is given as a path, as :class:`Samples`, or as a
spectrogram [T, F] of the same front-end; a path that ends in ``.npy`` is a file of such a spectrogram.

Recordings longer than ``window`` frames are processed in windows that overlap by half.  The state of a position comes
from the window that has it in its middle half (at both ends, from the outermost window), so that it has a quarter of a
window of context on either side.  Every window begins at position 0, as in training.  The states of a model with
sinusoidal positions (``--compat musicoder``, ``--positions sinusoids|both``) therefore also depend on the position in
the window; with convolutional positions (the default) they depend on the surrounding frames only.

Labels are predicted from consecutive windows, as in validation (``spectrogram_windows.count_end_to_end``), with
``max_frames`` and ``min_frames`` of the checkpoint, or, for a model that was trained on whole recordings (0), windows
of ``window`` frames.

Shapes: T frames of a recording, F features, r frames per position, S = ceil(T / r) positions, D model dimensions.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from os import PathLike
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from musicbert_plugin.arguments import checked_layers, checked_seed
from musicbert_plugin.compat.devices import checked_device
from musicbert_plugin.data.labels import LabelTask
from musicbert_plugin.data.spectrogram_folder import SpectrogramFolder
from musicbert_plugin.data.spectrogram_windows import MIN_FRAMES, count_end_to_end
from musicbert_plugin.errors import CheckpointError, DatasetError, OptionError, RecordingError
from musicbert_plugin.files import read_regular
from musicbert_plugin.hub.answers import WindowMean
from musicbert_plugin.hub.checkpoints import fitting, load
from musicbert_plugin.models.musicoder import MusiCoderModel
from musicbert_plugin.modules.low_rank import merge_adapters

if TYPE_CHECKING:
    from musicbert_plugin.audio.decoding import Damage

WINDOW = 1292
"""Default number of frames of a window: 30 seconds of 43 frames each."""
MAX_SECONDS = 3600.0
"""Default length in seconds of the longest recording that is decoded."""
_BATCH_SIZE = 8  # windows
logger = logging.getLogger(__name__)


class Samples(NamedTuple):
    """A recording in memory."""

    samples: np.ndarray
    """float32 [N], one channel, full scale -1 to 1."""
    sample_rate: int
    """Hz; must be that of the front-end."""


Recording = str | PathLike[str] | bytes | Samples | np.ndarray
FEATURES_SUFFIX = ".npy"


class MusiCoderHub:
    """A model in evaluation mode, for features, labels and restored spectrograms of recordings.

    Attributes
    ----------
    model : MusiCoderModel
    front_end : dict or None
        Settings of the front-end that made its training data; None if they are unknown.
    feature_names : list of str
        Names of the F features.
    frame_rate : float
        Frames per second.
    label_tasks : list of LabelTask
        The tasks of a fine-tuned model, else empty.
    window : int
        Number of frames of a window.
    max_seconds : float
        Longest recording that is decoded.
    damage : Damage or None
        What is missing of the recording that was read last, if it is damaged (see ``audio.decoding``).
    max_frames, min_frames : int
        Largest length of a window for labels, and smallest length of the last one; 0 for whole recordings.
    task_options : dict
        The options of the task that it was trained for, by name; empty if they are unknown.
    """

    def __init__(
        self,
        model: MusiCoderModel,
        description: dict[str, Any] | None = None,
        window: int = WINDOW,
        *,
        max_frames: int | None = None,
        min_frames: int = MIN_FRAMES,
    ) -> None:
        self.task_options: dict[str, Any] = {}
        description = description or {}
        self.model = model.eval()
        self.front_end: dict[str, Any] | None = description.get("front_end")
        self.feature_names: list[str] = list(description.get("feature_names", ()))
        self.frame_rate = float(description.get("frame_rate", 0.0))
        self.label_tasks = [LabelTask.of(settings) for settings in description.get("label_tasks", ())]
        step = 4 * model.frame_stack
        if window < step:
            raise OptionError(f"the window is {window} frames, but at least {step} are needed.")
        self.window = window // step * step  # quarters of a window are whole positions
        self.max_frames = window if max_frames is None else max_frames
        self.min_frames = min_frames
        self.max_seconds = MAX_SECONDS
        self.damage: Damage | None = None

    @classmethod
    def from_pretrained(
        cls, path: str | PathLike[str], *, device: str | torch.device = "cpu", window: int | None = None
    ) -> MusiCoderHub:
        """Load one ``.pt`` file, pre-trained or fine-tuned.

        Parameters
        ----------
        path : path
        device : str or torch.device
        window : int, optional
            Number of frames of a window (default: 1292, and for labels as in training).

        Raises
        ------
        CheckpointError
            The file is missing, has other content than weights, or is not a MusiCoder model.
        OptionError
            There is no such device.
        """
        device = checked_device(device)
        path = Path(path)
        (cfg, task), state, description = load(path, "musicoder")
        cfg.checkpoint_activations = False
        if "feature_mean" not in state:
            raise CheckpointError(f"{path} holds no model of spectrograms; a musicoder checkpoint is expected.")
        label_tasks = map(LabelTask.of, description.get("label_tasks", ()))
        sizes = {label_task.name: label_task.size for label_task in label_tasks}
        # the attributes of a task that build_model uses
        like = SimpleNamespace(feature_mean=state["feature_mean"], feature_std=state["feature_std"])
        if sizes:
            like.head_sizes = sizes
        model = MusiCoderModel.build_model(cfg, like)
        with fitting(path):
            model.load_state_dict(state, strict=True)
        merge_adapters(model)
        trained = vars(task) if sizes and window is None else {}
        hub = cls(
            model.float().to(device),
            description,
            window or WINDOW,
            max_frames=trained.get("max_frames"),
            min_frames=trained.get("min_frames", MIN_FRAMES),
        )
        hub.task_options = vars(task)
        return hub

    def untrained(self, seed: int) -> MusiCoderHub:
        """A model of the same size and standardisation with fresh weights, which serves as a baseline."""
        torch.manual_seed(checked_seed(seed))
        model = MusiCoderModel(self.model.cfg, self.model.feature_mean.cpu(), self.model.feature_std.cpu())
        return MusiCoderHub(model.to(self.device), None, self.window)

    def check_front_end(self, folder: SpectrogramFolder) -> None:
        """Raise :class:`DatasetError` if a folder holds features of another front-end than the model's."""
        if self.front_end and folder.front_end != self.front_end:
            raise DatasetError(
                f"{folder.path} was made with another front-end than the checkpoint's: {self.front_end}."
            )

    @property
    def layers(self) -> int:
        """The number of layers of the encoder."""
        return len(self.model.encoder.layers)

    @property
    def device(self) -> torch.device:
        """The device of the model."""
        return self.model.feature_mean.device

    @property
    def positions_per_second(self) -> float:
        """Number of states per second of sound."""
        return self.frame_rate / self.model.frame_stack

    # -------------------------------------------------------------------------------------------------- recordings in

    def spectrogram(self, recording: Recording, name: str = "") -> np.ndarray:
        """The features of a recording, float32 [T, F], computed by the model's front-end.

        Parameters
        ----------
        recording : path, content of a file, Samples or float [T, F]
        name : str
            What messages call a file; by default its path.

        Raises
        ------
        RecordingError
            A file cannot be decoded, or is shorter than half a second, longer than :attr:`max_seconds`, silent or not
            finite.  One that is damaged is used up to there, with a warning.
        DatasetError
            An array has another number of features, or samples have another rate.
        CheckpointError
            The checkpoint does not contain the settings of its front-end.
        """
        if isinstance(recording, str | PathLike) and str(recording).lower().endswith(FEATURES_SUFFIX):
            excerpts = self.excerpts(recording)
            if len(excerpts) > 1:
                raise DatasetError(f"{recording} holds {len(excerpts)} excerpts; excerpts() gives them one by one.")
            return excerpts[0]
        if isinstance(recording, np.ndarray):
            if recording.ndim != 2 or recording.shape[1] != self.model.feature_count or not len(recording):
                raise DatasetError(
                    f"a spectrogram of shape {recording.shape}; [T, {self.model.feature_count}] with T > 0 is expected."
                )
            return np.ascontiguousarray(recording, dtype=np.float32)
        from musicbert_plugin.audio.decoding import Sound, require_sound
        from musicbert_plugin.audio.front_end import FrontEnd

        if not self.front_end:
            raise CheckpointError("the checkpoint has no front-end; give spectrograms instead of recordings.")
        if "sample_rate" not in self.front_end:
            raise CheckpointError(
                "the model was trained on .npy features of an unknown front-end; "
                f"give features [T, {self.model.feature_count}] instead of recordings."
            )
        front_end = FrontEnd.of(self.front_end)
        if isinstance(recording, Samples):
            if recording.sample_rate != front_end.sample_rate:
                raise DatasetError(f"samples at {recording.sample_rate} Hz; {front_end.sample_rate} Hz are expected.")
            samples = np.ascontiguousarray(recording.samples, dtype=np.float32)
            require_sound(samples, front_end.sample_rate, "the samples", longest=self.max_seconds)
            return front_end.extract(samples)
        name = name or ("recording" if isinstance(recording, bytes) else str(recording))
        source = recording if isinstance(recording, bytes) else Path(recording)
        sound = Sound(source, front_end.sample_rate, name=name)
        features = list(front_end.feature_blocks(lambda: sound.checked(longest=self.max_seconds)))
        self.damage = sound.damage
        if sound.damage:
            logger.warning("%s", sound.damage.sentence(name))
        return np.concatenate(features)

    @property
    def suffixes(self) -> tuple[str, ...]:
        """Suffixes of the files that it takes: ``.npy`` features, and recordings if its front-end is known."""
        from musicbert_plugin.audio.decoding import SUFFIXES

        return (FEATURES_SUFFIX, *(SUFFIXES if self.front_end and "sample_rate" in self.front_end else ()))

    def excerpts(self, file: str | PathLike[str] | bytes, name: str = "") -> list[np.ndarray]:
        """The spectrograms in a file, float32 [T, F] each: one of a recording, N of ``.npy`` features [N, T, F].

        Parameters
        ----------
        file : path, or the content of a file
        name : str
            For messages; ``.npy`` at its end means features.  By default the path.

        Raises
        ------
        RecordingError
            A recording as in :meth:`spectrogram`, or features that are damaged, have another width, hold NaN, are
            shorter than half a second or have equal frames only.
        CheckpointError
            A recording, and the checkpoint does not contain the settings of its front-end.
        """
        name = name or ("recording" if isinstance(file, bytes) else str(file))
        self.damage = None
        if not name.lower().endswith(FEATURES_SUFFIX):
            return [self.spectrogram(file, name)]
        from musicbert_plugin.audio.decoding import SHORTEST
        from preprocess.audio import read_features, require_music

        try:
            data = file if isinstance(file, bytes) else read_regular(file)
        except OSError as error:
            raise RecordingError("undecodable", f"{name}: cannot be read ({error.strerror or error}).") from None
        found = read_features(data, self.model.feature_count, name)
        require_music(found, name, self.frame_rate or 1.0 / SHORTEST, SHORTEST)
        return found

    # -------------------------------------------------------------------------------------------------- what comes out

    @torch.inference_mode()
    def extract_features(self, recording: Recording, *, layer: int = -1) -> np.ndarray:
        """States of one layer, float32 [S, D].

        Parameters
        ----------
        recording : path, Samples or float [T, F]
        layer : int
            0 is the input, 1 the first layer; -1 (the default) the final states.

        Raises
        ------
        OptionError
            The layer does not exist.
        """
        (number,) = checked_layers([layer], -1, len(self.model.encoder.layers), "layer")
        return self._joined(recording, None if number == -1 else (number,))[0]

    @torch.inference_mode()
    def extract_all_layers(self, recording: Recording) -> np.ndarray:
        """States of the input and of every layer, float32 [layers + 1, S, D]."""
        return np.stack(self._joined(recording, tuple(range(len(self.model.encoder.layers) + 1))))

    def clip_vector(self, recording: Recording, *, layer: int = -1, deviation: bool = False) -> np.ndarray:
        """One vector for a recording: the mean over time, [D], or mean and standard deviation, [2 D]."""
        states = self.extract_features(recording, layer=layer)
        mean = states.mean(axis=0)
        return np.concatenate([mean, states.std(axis=0)]) if deviation else mean

    @torch.inference_mode()
    def predict(self, recording: Recording) -> dict[str, dict[str, float]]:
        """Predictions of each task's head for a recording: probabilities or numbers by name.

        The windows of a long recording are averaged, weighted by their frames, as in validation.

        Raises
        ------
        CheckpointError
            The model has no heads.
        """
        if not self.label_tasks:
            raise CheckpointError("the model has no heads for labels; a checkpoint of audio_multitask is expected.")
        features = torch.from_numpy(self.spectrogram(recording))
        mean = WindowMean(self.label_tasks)
        longest = self.max_frames or self.window
        count = int(count_end_to_end(np.array(len(features)), longest, self.min_frames))
        for start in range(0, count * longest, longest):
            part = features[start : start + longest]
            mean.add(self.model(part[None].to(self.device))[0], [len(part)])
        return mean.answer()

    @torch.inference_mode()
    def restore(self, spectrogram: np.ndarray, hidden: np.ndarray) -> np.ndarray:
        """Restore hidden cells of a spectrogram, in windows of ``window`` frames: float32 [T, F].

        Parameters
        ----------
        spectrogram : float [T, F]
        hidden : bool [T, F]
            The cells to restore; other cells do not change.

        Raises
        ------
        CheckpointError
            The model was fine-tuned and has no head for reconstruction.
        """
        if self.model.reconstruction_head is None:
            raise CheckpointError("the model has no head for reconstruction; a pre-trained checkpoint is expected.")
        source = torch.from_numpy(self.spectrogram(spectrogram))
        input_mask = torch.from_numpy(np.ascontiguousarray(hidden, dtype=bool))
        out = source.clone()
        for window, kept in _windows(len(source), self.window, self.model.frame_stack):
            shown, mask = (x[None, window].to(self.device) for x in (source, input_mask))
            restored = self.model(shown, input_mask=mask)[0]
            local = slice(kept.start - window.start, kept.stop - window.start)
            out[kept] = self.model.restore_units(restored)[0, local].cpu()
        return torch.where(input_mask, out, source).numpy()

    def _joined(self, recording: Recording, layers: tuple[int, ...] | None) -> list[np.ndarray]:
        """States of layers (None for the final states), joined over windows: a list of [S, D]."""
        features = torch.from_numpy(self.spectrogram(recording))
        windows = list(_windows(len(features), self.window, self.model.frame_stack))
        parts: list[list[Tensor]] = []
        for first in range(0, len(windows), _BATCH_SIZE):
            group = windows[first : first + _BATCH_SIZE]
            lengths = [window.stop - window.start for window, _ in group]
            batch = torch.zeros(len(group), max(lengths), features.shape[1])
            for row, (window, _) in enumerate(group):
                batch[row, : lengths[row]] = features[window]
            final, extra = self.model(
                batch.to(self.device), lengths, features_only=True, return_all_hiddens=layers is not None
            )
            states = [final] if layers is None else [extra["inner_states"][layer] for layer in layers]
            for row, (window, kept) in enumerate(group):
                r = self.model.frame_stack
                local = slice((kept.start - window.start) // r, -(-(kept.stop - window.start) // r))
                parts.append([state[row, local].float().cpu() for state in states])
        return [torch.cat(pieces).numpy() for pieces in zip(*parts, strict=True)]


def _windows(frames: int, window: int, r: int) -> Iterator[tuple[slice, slice]]:
    """Windows that overlap by half, and the frames of each that are used; ``window`` is a multiple of 4 r.

    The last window ends with the recording and begins at a multiple of r.
    """
    if frames <= window:
        yield slice(0, frames), slice(0, frames)
        return
    quarter = window // 4
    starts = list(range(0, frames - window, window // 2))
    last = -(-(frames - window) // r) * r  # the last window may lack up to r - 1 frames
    starts.append(last)
    begin = 0
    for number, start in enumerate(starts):
        stop = min(start + window, frames)
        end = frames if number == len(starts) - 1 else start + window - quarter
        yield slice(start, stop), slice(begin, end)
        begin = end
