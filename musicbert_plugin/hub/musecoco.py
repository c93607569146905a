"""MuseCoco from Python: scores from requests in words.

    from musicbert_plugin.hub import MuseCocoHub
    hub = MuseCocoHub.from_pretrained("checkpoint_best.pt")
    score, = hub.generate(["piano violin no-drum key=minor tempo=slow bars=16"], seed=3)
    write_midi(score, "new.mid")

A checkpoint is one ``.pt`` file (of this plugin, or published) or a Hugging Face folder (``compat.model_folder``).  The
dictionary is ``dict.txt`` in the same folder, or else the published one of 1,253 words.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from musicbert_plugin.arguments import check_not_input
from musicbert_plugin.codecs import remi
from musicbert_plugin.codecs.reading_options import DEFAULT_READING, ReadingOptions
from musicbert_plugin.codecs.score import Score
from musicbert_plugin.compat.devices import checked_device
from musicbert_plugin.compat.model_folder import CHOICES, position_mode_is_given
from musicbert_plugin.data.dataset_folder import read_dictionary
from musicbert_plugin.errors import CheckpointError, OptionError
from musicbert_plugin.files import atomic_path
from musicbert_plugin.generation.generator import ConditionalGenerator, Constraints, candidates_of
from musicbert_plugin.generation.prompts import make_prompt, request_ids
from musicbert_plugin.generation.sampling import TEMPERATURE, Search
from musicbert_plugin.hub.checkpoints import fitting, load, write_safetensors
from musicbert_plugin.models.linear_transformer_lm import LinearTransformerLM
from musicbert_plugin.tasks.attribute_to_music import dictionary_of

FOLDER_FILES = ("model.safetensors", "config.json", "dict.txt")
"""Files of a Hugging Face folder that this module writes."""
OUTPUT, HUGGING_FACE_OUTPUT = "decoder.output_projection.weight", "lm_head.weight"


class MuseCocoHub:
    """A model in evaluation mode that generates music from requests.

    Attributes
    ----------
    model : LinearTransformerLM
    words : tuple of str
        Its dictionary, by id.
    task_options : dict
        The options of the task that it was trained for, by name; empty if they are unknown.
    """

    def __init__(self, model: LinearTransformerLM, words: Sequence[str]) -> None:
        self.task_options: dict[str, Any] = {}
        self.model = model.eval()
        self.words = tuple(words)
        self._generator: ConditionalGenerator | None = None
        self._files: tuple[Path, ...] = ()  # that it was loaded from

    @property
    def layout(self) -> str:
        """The token layout of the model's music."""
        return str(self.model.args.layout)

    @property
    def position_mode(self) -> str:
        """Where positions begin, see ``modules.position_offset``."""
        return str(self.model.decoder.position_mode)

    @property
    def prefix(self) -> str:
        """The kind of the model's prefixes, ``attributes`` or ``conditions``."""
        return str(self.model.args.prefix)

    @classmethod
    def from_pretrained(
        cls,
        path: str | PathLike[str],
        *,
        device: str | torch.device = "cpu",
        dtype: torch.dtype | None = torch.float32,
        position_mode: str | None = None,
        layout: str | None = None,
        prefix: str | None = None,
    ) -> MuseCocoHub:
        """Load a ``.pt`` file or a Hugging Face folder; on the CPU, weights stay in the file until they are used.

        Parameters
        ----------
        path : path
        device : str or torch.device
        dtype : torch.dtype, optional
            Type of the weights; None for the stored one.
        position_mode : str, optional
            Overrides the checkpoint's (released samples were made with ``zero-prefix-shifted``).  A folder that does
            not name it has ``all``, as in the fine-tuning fork.
        layout, prefix : str, optional
            Override the checkpoint's, for files and folders that do not have them (they are ``bar-tempo`` and
            ``attributes`` then); models of the fine-tuning fork are of ``notes`` and ``conditions``.

        Raises
        ------
        CheckpointError
            The file is missing, has other content than weights, holds another model, or needs a ``dict.txt``.
        OptionError
            There is no such device, or an override is none of the accepted values.
        """
        device = checked_device(device)
        path = Path(path)
        with position_mode_is_given(position_mode):
            (options, task_options), weights, _ = load(path, "linear_transformer_lm")
        words = _dictionary(path if path.is_dir() else path.parent, path, weights)
        for name, value in (("position_mode", position_mode), ("layout", layout), ("prefix", prefix)):
            if value is not None:
                if value not in CHOICES[name]:
                    raise OptionError(f"{name} is {value!r}, but one of {', '.join(CHOICES[name])} is accepted.")
                setattr(options, name, value)
        task = SimpleNamespace(source_dictionary=dictionary_of(words[4:]), cfg=None)
        with torch.device("meta"):
            model = LinearTransformerLM.build_model(options, task)
        weights = {name: value.to(dtype) if dtype else value for name, value in weights.items()}
        model.upgrade_state_dict(weights)
        with fitting(path):
            torch.nn.Module.load_state_dict(model, weights, strict=True, assign=True)
        model.decoder.embed_positions.make_table()
        model.requires_grad_(False)
        hub = cls(model.to(device), words)
        hub.task_options = vars(task_options)
        hub._files = (*(path / name for name in FOLDER_FILES),) if path.is_dir() else (path, path.with_name("dict.txt"))
        return hub

    def save_hugging_face(self, folder: str | PathLike[str]) -> None:
        """Write ``config.json``, ``model.safetensors`` and ``dict.txt``.

        Raises
        ------
        OptionError
            One of them is a file that the model was loaded from, or the folder cannot be written.
        """
        folder = Path(folder)
        for name in FOLDER_FILES:
            check_not_input(folder / name, *self._files)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OptionError(f"{folder}: the folder cannot be made ({error.strerror}).") from None
        weights = dict(self.model.state_dict())
        weights[HUGGING_FACE_OUTPUT] = weights.pop(OUTPUT)
        weights.pop("decoder.version")
        args = self.model.args
        config = {
            "model_type": "musecoco",
            "vocab_size": len(self.words),
            "n_embd": args.decoder_embed_dim,
            "n_inner": args.decoder_ffn_embed_dim,
            "ffn_dim": args.decoder_ffn_embed_dim,  # by this name the fine-tuning fork reads it
            "n_positions": int(args.max_target_positions),
            "n_layer": args.decoder_layers,
            "n_head": args.decoder_attention_heads,
            "activation_function": "gelu",
            "layer_norm_epsilon": 1e-5,
            "bos_token_id": remi.EOS,
            "eos_token_id": remi.EOS,
            "pad_token_id": remi.PAD,
            "tie_word_embeddings": False,
            "position_mode": str(args.position_mode),
            "layout": str(args.layout),
            "prefix": str(args.prefix),
            "loss_on": str(args.loss_on),
            "seen_attributes": args.seen_attributes,
        }
        write_safetensors(folder / "model.safetensors", weights)
        with atomic_path(folder / "dict.txt") as unfinished:
            unfinished.write_text("".join(f"{word} 1\n" for word in self.words[4:]), encoding="utf-8")
        with atomic_path(folder / "config.json") as unfinished:
            unfinished.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")

    def generate(
        self,
        requests: Sequence[str],
        *,
        prompt: str | PathLike[str] | Score | None = None,
        meter: str | None = None,
        num_candidates: int | None = None,
        seed: int = 1,
        beam: int = 1,
        top_k: int = 15,
        top_p: float = -1.0,
        temperature: float = TEMPERATURE,
        min_length: int = 1,
        max_length: int = 2560,
        exact_bars: int | None = None,
        only_instruments: bool = False,
        grammar: bool = True,
        limited: bool = True,
        steady_tempo: bool = False,
        batch_size: int = 16,
        reading: ReadingOptions = DEFAULT_READING,
    ) -> list[Score]:
        """Generate one score per request, as it is written to files (see :meth:`.ConditionalGenerator.finished`).

        Parameters
        ----------
        requests : sequence of str
            Lines of words (see :func:`~.codecs.requests.parse_request`), or, for a model of custom pairs, conditions in
            words of its dictionary.
        prompt : path or Score, optional
            Music that every piece begins with, note for note; for files see :func:`~.generation.prompts.read_prompt`.
        meter : str, optional
            N/D, time signature of bars without a time-signature token; by default that of the prompt if it is MIDI or a
            score, else 4/4.
        num_candidates : int, optional
            Number of candidates per request, of which the one with the largest share of the requested attributes is
            returned (of equal ones the more probable).  By default 4, or 1 for models of pairs, which have no
            attributes, with ``top_k`` 1 and with beam search.
        seed : int
            The random numbers of a request depend only on the seed, the index of the request and the candidate.
        beam : int
            Above 1, beam search is used instead of sampling.  It repeats about a quarter of the bars.
        top_k, top_p, temperature
            Options of sampling; ``top_k`` 1 is greedy, which repeats about a quarter of the bars.
        min_length, max_length : int
            Number of words after the prompt.
        exact_bars, only_instruments, grammar, limited, steady_tempo
            See :class:`~.generation.generator.Constraints`.  By default every piece keeps the bars, the time signature
            and the tempo that its request names.
        batch_size : int
            Number of rows of a batch, one for each candidate or beam; the result does not depend on it.
        reading : ReadingOptions
            How the MIDI file of a prompt is read.

        Raises
        ------
        OptionError
            A word of a request is unknown, or the constraints cannot be satisfied.
        """
        if isinstance(requests, str):
            raise OptionError("requests is a string, but a list of strings is accepted, one for each piece.")
        search = Search(
            beam=beam,
            sampling=beam == 1,
            top_k=top_k,
            top_p=top_p,
            temperature=temperature,
            min_length=min_length,
            max_length=max_length,
            seed=seed,
        )
        constraints = Constraints(exact_bars, only_instruments, grammar, limited, steady_tempo)
        generator = self.generator(constraints, prompt, meter, reading)
        prefixes = [request_ids(request, self.words, self.prefix) for request in requests]
        count = candidates_of(num_candidates, self.prefix, search)
        pieces = generator.generate_best(prefixes, search, count=count, batch_size=batch_size)
        return [generator.finished(piece, prefix) for piece, prefix in zip(pieces, prefixes, strict=True)]

    def generator(
        self,
        constraints: Constraints,
        prompt: str | PathLike[str] | Score | None = None,
        meter: str | None = None,
        reading: ReadingOptions = DEFAULT_READING,
    ) -> ConditionalGenerator:
        """The model with constraints and a prompt, see :meth:`generate`."""
        if self._generator is None:
            self._generator = ConditionalGenerator(self.model, words=self.words, layout=self.layout)
        generator = copy.copy(self._generator)
        generator.constraints = constraints
        music = prompt if prompt is None or isinstance(prompt, Score) else Path(prompt)
        bars = None if meter is None else remi.parse_meter(meter)
        generator.prompt = make_prompt(music, self.layout, bars, reading)
        return generator


def _dictionary(folder: Path, path: Path, weights: dict[str, Tensor]) -> tuple[str, ...]:
    count = len(weights["decoder.embed_tokens.weight"]) if "decoder.embed_tokens.weight" in weights else 0
    file = folder / "dict.txt"
    words = remi.WORDS
    if file.is_file():
        words = ("<s>", "<pad>", "</s>", "<unk>", *read_dictionary(file))
    if len(words) != count:
        raise CheckpointError(
            f"{path} has {count} words and {file if file.is_file() else 'the published dictionary'} {len(words)}: the "
            f"dict.txt of its training, with {count - 4} rows, is needed in the same folder."
        )
    return words
