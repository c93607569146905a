"""Write smaller checkpoints, single heads, or Hugging Face folders.

python -m musicbert_plugin.hub strip IN.pt OUT.pt [--dtype bf16]           # weights and configuration only
python -m musicbert_plugin.hub export-head IN.pt OUT.pt --head composer    # one head of labels
python -m musicbert_plugin.hub hugging-face IN.pt FOLDER                   # for a MuseCoco model
"""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path

import torch

from musicbert_plugin.commands import DONE, run_command
from musicbert_plugin.compat.error_messages import one_sentence
from musicbert_plugin.hub import MuseCocoHub
from musicbert_plugin.hub.checkpoints import export_head, strip_checkpoint

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def main(arguments: Sequence[str] | None = None) -> int:
    """The command ``python -m musicbert_plugin.hub``; returns its status, or ends with 2 and a sentence."""
    parser = ArgumentParser(prog="python -m musicbert_plugin.hub", description="Convert checkpoints.")
    commands = parser.add_subparsers(dest="command", required=True)
    strip = commands.add_parser("strip", help="write only the weights and configuration of a checkpoint")
    strip.add_argument("source", type=Path)
    strip.add_argument("target", type=Path)
    strip.add_argument("--dtype", choices=DTYPES, help="type of the weights (default: unchanged)")
    head = commands.add_parser("export-head", help="write the encoder and one head of a checkpoint with labels")
    head.add_argument("source", type=Path)
    head.add_argument("target", type=Path)
    head.add_argument("--head", required=True, metavar="NAME", help="task of the head to keep")
    folder = commands.add_parser("hugging-face", help="write a MuseCoco checkpoint as a Hugging Face folder")
    folder.add_argument("source", type=Path)
    folder.add_argument("target", type=Path)
    options = parser.parse_args(arguments)
    with one_sentence():
        if options.command == "strip":
            strip_checkpoint(options.source, options.target, DTYPES.get(options.dtype))
        elif options.command == "export-head":
            export_head(options.source, options.target, options.head)
        else:
            MuseCocoHub.from_pretrained(options.source, dtype=None).save_hugging_face(options.target)
    return DONE


if __name__ == "__main__":
    run_command(main)
