"""The commands of the hub never write over what they read, under whatever name."""

from __future__ import annotations

import os
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
import torch

from musicbert_plugin.errors import OptionError

pytestmark = pytest.mark.usefixtures("registered")


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    from tests.attacks.files import sections

    tasks = [{"name": "composer", "type": "single", "column": "composer", "classes": ["a", "b"]}]
    path = tmp_path / "model.pt"
    state = {"args": None, "cfg": sections(), "model": {"a": torch.zeros(3)}, "task_state": {"label_tasks": tasks}}
    torch.save(state, path)
    return path


def names_of(path: Path) -> list[Path]:
    """The file by itself, by another path, by a symbolic and by a hard link."""
    (path.parent / "folder").mkdir()
    (path.parent / "soft.pt").symlink_to(path)
    os.link(path, path.parent / "hard.pt")
    return [path, path.parent / "folder" / ".." / path.name, path.parent / "soft.pt", path.parent / "hard.pt"]


def test_a_checkpoint_is_not_written_over_itself(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from musicbert_plugin.hub.__main__ import main

    before = checkpoint.read_bytes()
    for target in names_of(checkpoint):
        for words in (["strip"], ["strip", "--dtype", "bf16"], ["export-head", "--head", "composer"]):
            with pytest.raises(SystemExit) as ending:
                main([words[0], str(checkpoint), str(target), *words[1:]])
            assert ending.value.code == 2
            said = capsys.readouterr().err
            assert (
                said == f"{target} cannot be written, since it is {checkpoint}, which is read: choose another name.\n"
            )
    assert checkpoint.read_bytes() == before
    assert main(["strip", str(checkpoint), str(checkpoint.with_name("new.pt"))]) == 0


def test_a_hugging_face_folder_is_not_written_over_itself(tmp_path: Path) -> None:
    from musicbert_plugin.hub import MuseCocoHub
    from tests.fuzz.safetensors import tiny_folder

    for name, content in tiny_folder().items():
        (tmp_path / name).write_bytes(content)
    hub = MuseCocoHub.from_pretrained(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path)
    for folder in (tmp_path, tmp_path / "link"):
        with pytest.raises(OptionError, match="model.safetensors cannot be written, since it is"):
            hub.save_hugging_face(folder)
    hub.save_hugging_face(tmp_path / "other")
    assert {path.name: path.read_bytes() for path in (tmp_path / "other").iterdir()} == tiny_folder()
    with pytest.raises(OptionError, match="the folder cannot be made"):
        hub.save_hugging_face(tmp_path / "config.json" / "folder")


def test_the_dictionary_beside_a_checkpoint_is_not_written_over(tmp_path: Path) -> None:
    from musicbert_plugin.codecs import remi
    from musicbert_plugin.hub import MuseCocoHub
    from musicbert_plugin.models.linear_transformer_lm import LinearTransformerLM
    from musicbert_plugin.tasks.attribute_to_music import dictionary_of

    size: Any = {"decoder_layers": 1, "decoder_embed_dim": 8, "decoder_ffn_embed_dim": 8, "decoder_attention_heads": 2}
    task: Any = Namespace(source_dictionary=dictionary_of(remi.WORDS[4:]), cfg=None)
    model = LinearTransformerLM.build_model(Namespace(**size), task)
    cfg = {"model": {"_name": "linear_transformer_lm", **size}, "task": {"_name": "attribute_to_music"}}
    torch.save({"args": None, "cfg": cfg, "model": model.state_dict()}, tmp_path / "model.pt")
    (tmp_path / "dict.txt").write_text(remi.dictionary_text())
    hub = MuseCocoHub.from_pretrained(tmp_path / "model.pt")
    with pytest.raises(OptionError, match="dict.txt cannot be written, since it is"):
        hub.save_hugging_face(tmp_path)
    assert not (tmp_path / "model.safetensors").exists()


def test_infill_does_not_write_over_its_piece(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib", reason="pictures are an extra (requirements-pictures.txt)")
    from musicbert_plugin.codecs.score import Score, write_midi
    from musicbert_plugin.evaluate.__main__ import main

    for name in ("original.mid", "masked.mid", "filled.mid"):
        write_midi(Score.of(480, [0, 480], [480, 960], [60, 62]), tmp_path / name)
        before = (tmp_path / name).read_bytes()
        assert main(["infill", str(tmp_path / name), "--path", "x.pt", "--dest", str(tmp_path)]) == 2
        assert f"{name} cannot be written, since it is" in capsys.readouterr().err
        assert (tmp_path / name).read_bytes() == before
