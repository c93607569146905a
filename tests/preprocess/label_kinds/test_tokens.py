"""Every note has the label of its track, of its time or of its own field, in the order of the octuples."""

from __future__ import annotations

import json
import re
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from musicbert_plugin.codecs import octuple
from musicbert_plugin.codecs.score import Score, midi_bytes, write_midi
from musicbert_plugin.data.dataset_folder import read_config
from musicbert_plugin.data.indexed_dataset import IndexedDataset
from musicbert_plugin.data.labelled_octuples import LabelledItems, note_classes, open_note_labels
from musicbert_plugin.errors import OptionError, ScoreError
from preprocess.engine.annotations import CHORDS, AnnotationFiles
from preprocess.label_kinds.tokens import TokenOptions, TokensSpec, classes_of, first_of_shared, octuples_of

Build = Callable[..., tuple[int, str]]
Items = Callable[[Path, str], LabelledItems]
ROLES = ("melody", "bridge", "piano")


def named_midi(tracks: dict[str, list[tuple[int, int]]]) -> bytes:
    """A MIDI file with named tracks of quarter notes: (quarter, pitch) each."""
    chunks = []
    for channel, (name, notes) in enumerate(tracks.items()):
        events = sorted(
            [(quarter * 96, 1, pitch) for quarter, pitch in notes]
            + [(quarter * 96 + 95, 0, pitch) for quarter, pitch in notes]
        )
        chunk, last = b"\x00\xff\x03" + bytes([len(name)]) + name.encode(), 0
        for tick, on, pitch in events:
            delta = tick - last
            chunk += bytes([delta >> 7 | 128, delta & 127, (0x90 if on else 0x80) | channel, pitch, 64])
            last = tick
        chunk += b"\x00\xff\x2f\x00"
        chunks.append(b"MTrk" + struct.pack(">I", len(chunk)) + chunk)
    return b"MThd" + struct.pack(">IHHH", 6, 1, len(chunks), 96) + b"".join(chunks)


def labels_by_note(spec: TokensSpec, data: bytes) -> dict[tuple[int, int], list[int]]:
    """The labels of the notes at each (quarter, pitch)."""
    piece = spec.read_piece(data, "a.mid")
    rows = np.concatenate([octuples_of(item) for item in piece.items])
    labels = piece.sidecars["note_labels"]
    assert labels.dtype == np.uint16 and len(labels) == len(rows) == sum(piece.sidecars["notes"])
    found: dict[tuple[int, int], list[int]] = {}
    for row, label in zip(rows.tolist(), labels.tolist(), strict=True):
        quarter = row[octuple.BAR] * 4 + row[octuple.POSITION] // 16
        found.setdefault((quarter, row[octuple.PITCH]), []).append(label)
    return found


def test_notes_have_the_class_of_their_track() -> None:
    data = named_midi({"PIANO": [(0, 60), (1, 50)], "Melody ": [(0, 72), (1, 60)], "drum loop": [(2, 40)]})
    assert labels_by_note(TokensSpec(classes=ROLES), data) == {
        (0, 60): [3], (0, 72): [1], (1, 50): [3], (1, 60): [1], (2, 40): [0]
    }  # fmt: skip


def test_where_tracks_share_a_note_the_class_that_is_listed_first_wins() -> None:
    data = named_midi({"PIANO": [(0, 60), (4, 50)], "BRIDGE": [(0, 60), (4, 50)], "MELODY": [(0, 60)], "x": [(4, 50)]})
    spec = TokensSpec(classes=ROLES)
    assert labels_by_note(spec, data) == {(0, 60): [1, 1, 1], (4, 50): [2, 2, 0]}
    assert spec.read_piece(data, "a.mid").sidecars["changed"] == 3
    assert labels_by_note(TokensSpec(classes=ROLES[::-1]), data)[0, 60] == [1, 1, 1]


def test_notes_of_different_items_are_never_the_same() -> None:
    rows = [np.zeros((2, 8), np.int64), np.zeros((1, 8), np.int64)]
    merged, changed = first_of_shared(np.array([3, 2, 5]), rows)
    assert merged.tolist() == [2, 2, 5] and changed == 1


def test_a_file_in_which_no_note_gets_the_label_says_what_its_tracks_are_called() -> None:
    with pytest.raises(ScoreError) as error:
        TokensSpec(classes=ROLES).read_piece(named_midi({"Gitarre": [(0, 60)]}), "a.mid")
    assert error.value.reason == "no label"
    assert str(error.value) == (
        "a.mid: no note has a label: its tracks are called 'Gitarre', but melody, bridge, piano are accepted."
    )


@pytest.fixture
def annotated(tmp_path: Path) -> Callable[[str], AnnotationFiles]:
    """``annotated("0 1 C:maj")``: the annotation of ``a.mid``."""

    def make(text: str) -> AnnotationFiles:
        (tmp_path / "a.txt").write_text(text)
        return AnnotationFiles.of("--annotations", "{}.txt", "", str(tmp_path))

    return make


def test_annotations_are_read_in_seconds(annotated: Callable[[str], AnnotationFiles]) -> None:
    """At 120 quarter notes per minute, a quarter note takes half a second."""
    data = named_midi({"": [(0, 60), (1, 60), (2, 60), (3, 60), (9, 60)]})
    files = annotated("0 0.5 C:maj\n0.5 1.0 A:min7\n1.0 1.5 B:dim\n1.5 4 N\n")
    found = labels_by_note(TokensSpec(label="chord", classes=CHORDS, annotations=files), data)
    names = {quarter: labels[0] and CHORDS[labels[0] - 1] for (quarter, _), labels in found.items()}
    assert names == {0: "C:maj", 1: "A:min", 2: 0, 3: "N", 9: 0}
    own = TokensSpec(label="part", classes=("verse", "chorus"), annotations=annotated("0 1 chorus\n1 9 coda\n"))
    assert labels_by_note(own, data)[0, 60] == [2] and labels_by_note(own, data)[3, 60] == [0]


def test_keys_of_another_recording_hold_only_where_there_is_one(annotated: Callable[[str], AnnotationFiles]) -> None:
    data = named_midi({"": [(0, 60), (9, 60)]})

    def spec(text: str) -> TokensSpec:
        return TokensSpec(label="key", classes=CHORDS[:24], whole_piece=True, annotations=annotated(text))

    assert labels_by_note(spec("100 200 D:min\n"), data) == {(0, 60): [15], (9, 60): [15]}
    with pytest.raises(ScoreError) as error:
        spec("0 1 C:maj\n1 2 D:maj\n").read_piece(data, "a.mid")
    assert error.value.reason == "several labels" and spec("0 1 C:maj\n").left_out("several labels")
    with pytest.raises(ScoreError, match=r"a.txt has 'B:dim', and C:maj to B:min are accepted"):
        spec("0 9 B:dim\n").read_piece(data, "a.mid")


@pytest.mark.parametrize("seed", range(3))
def test_a_field_of_the_note_is_its_label(seed: int) -> None:
    """Also in a piece of several items, whatever the order of the notes in the file."""
    random = np.random.default_rng(seed)
    onset = random.integers(0, 600, 200) * 960
    score = Score.of(
        480, onset, onset + random.integers(1, 2000, 200), random.integers(30, 90, 200), random.integers(1, 128, 200)
    )
    for field in ("velocity", "duration"):
        piece = TokensSpec(label=field, classes=(), hide=(field,)).read_piece(midi_bytes(score), "a.mid")
        assert len(piece.items) > 1
        column = octuple.FIELDS.index(field)
        expected = np.concatenate([octuples_of(item) for item in piece.items])[:, column] + 1
        np.testing.assert_array_equal(piece.sidecars["note_labels"], expected)


def test_a_dataset_of_roles_holds_a_label_for_every_note(
    label_build: Build, labelled_items: Items, content: Callable[[Path], dict[str, bytes]], tmp_path: Path
) -> None:
    source, dest = tmp_path / "midi", tmp_path / "dest"
    source.mkdir()
    random = np.random.default_rng(1)
    for number in range(4):
        low = {"MELODY": 70, "PIANO": 40}
        tracks = {name: [(quarter, int(random.integers(20)) + low[name]) for quarter in range(30)] for name in low}
        (source / f"{number}.mid").write_bytes(named_midi(tracks))
    (source / "plain.mid").write_bytes(named_midi({"": [(0, 60)]}))
    status, said = label_build("tokens", source, dest, "--label", "track", "--folds", 2, "--jobs", 2)
    assert status == 1 and "no label: plain.mid: no note has a label" in said
    assert label_build("tokens", source, tmp_path / "again", "--label", "track", "--folds", 2)[0] == 1
    assert content(tmp_path / "again") == content(dest), "the number of workers changes nothing"
    other = label_build("tokens", source, dest, "--label", "track", "--folds", 2, "--classes", "piano,melody")
    assert other[0] == 2 and "made with another classes" in other[1]
    config = read_config(dest / "config.json")
    assert note_classes(config) == {"track": ROLES} and config["hide"] == []
    items = labelled_items(dest, "train")
    assert len(items) == 4 and sorted(items.folds.tolist()) == [0, 0, 1, 1]
    labels = open_note_labels(dest, "train", "track", items.notes)
    pitch = octuples_of(IndexedDataset(dest / "train").raw(0))[:, octuple.PITCH]
    np.testing.assert_array_equal(labels.read(0), np.where(pitch >= 70, 1, 3))
    assert len(open_note_labels(dest, "test", "track", labelled_items(dest, "test").notes)) == 0


def test_the_velocity_is_hidden_where_it_is_the_label(
    label_build: Build, labelled_items: Items, corpus: Callable[..., Path], tmp_path: Path
) -> None:
    dest = tmp_path / "dest"
    status, said = label_build(
        "tokens", corpus(3), dest, "--label", "velocity", "--hide", "velocity", "duration", "--split-ratios", "1,1,1"
    )
    assert status == 0, said
    config = read_config(dest / "config.json")
    assert config["hide"] == ["duration", "velocity"] and len(note_classes(config)["velocity"]) == 32
    items = labelled_items(dest, "valid")
    labels = open_note_labels(dest, "valid", "velocity", items.notes)
    rows = octuples_of(IndexedDataset(dest / "valid").raw(0))
    np.testing.assert_array_equal(labels.read(0), rows[:, octuple.VELOCITY] + 1)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"label": "chord"}, "--label chord: needs --annotations"),
        ({"label": "bar"}, "--label bar: of the fields, program"),
        ({"label": "velocity", "annotations": "{}.txt"}, "--label velocity needs none"),
        ({"label": "part", "annotations": "{}.txt"}, "--label part: needs --classes"),
        ({"label": "key", "annotations": "{}.txt", "classes": "a"}, "--label key has its own classes"),
        ({"label": "track", "classes": "a,B,b"}, "a name stands there twice"),
        ({"label": "track", "whole_piece": True}, "--whole-piece"),
    ],
)
def test_options_that_contradict_each_other_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(OptionError, match=re.escape(said)):
        classes_of(TokenOptions(**options))


def test_what_cannot_start_is_told_in_a_sentence(label_build: Build, tmp_path: Path) -> None:
    write_midi(Score.of(480, [0], [480], [60]), tmp_path / "a.mid")
    for options, said in (
        (["--label", "../x"], "--label ../x: letters, digits"),
        (["--label", "track", "--channel-programs", "use"], "takes tracks apart"),
        (["--label", "velocity", "--hide", "pitch"], "velocity is the label, so it must be hidden too"),
        (["--label", "track", "--beats", "{}.txt"], "holds no such files"),
    ):
        status, text = label_build("tokens", tmp_path, tmp_path / "dest", *options)
        assert status == 2 and said in text


def test_the_roles_of_pop909_are_in_its_track_names(music_data: Path) -> None:
    files = AnnotationFiles.of(
        *("--beats", "annotations/{}/beat_midi.txt", r"POP909_(\d+)", str(music_data / "midi" / "melody.zip"))
    )
    spec = TokensSpec(classes=ROLES, beats=files)
    counts, changed = np.zeros(4, np.int64), 0
    with zipfile.ZipFile(music_data / "midi" / "melody.zip") as archive:
        for name in sorted(name for name in archive.namelist() if name.endswith(".mid"))[::40]:
            sidecars = spec.read_piece(archive.read(name), name).sidecars
            counts += np.bincount(sidecars["note_labels"], minlength=4)
            changed += sidecars["changed"]
    shares = counts / counts.sum()
    assert counts[0] == 0 and 0 < changed < 0.1 * counts.sum()
    np.testing.assert_allclose(shares[1:], [0.22, 0.16, 0.62], atol=0.06)
    assert json.dumps(spec.settings())
