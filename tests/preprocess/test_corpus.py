"""Real scores from music21's corpus: which are taken, and that a second run keeps what is there."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("music21", reason="the corpus is an extra (requirements-quickstart.txt)")

from musicbert_plugin.codecs.score import read_midi
from musicbert_plugin.errors import OptionError
from preprocess.corpus import corpus_pieces, main, write_piece


def test_a_count_takes_pieces_spread_over_a_collection() -> None:
    everything = [path for _, path in corpus_pieces(["bach"])]
    some = [path for _, path in corpus_pieces(["bach:5"])]
    assert len(everything) > 350 and len({path.stem for path in everything}) == len(everything)
    assert len(some) == 5 and set(some) <= set(everything)


def test_unknown_collections_and_counts_are_refused_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(OptionError, match="'nobody'"):
        corpus_pieces(["nobody"])
    with pytest.raises(OptionError, match="bach:none"):
        corpus_pieces(["bach:none"])
    assert main(["--dest", str(tmp_path), "--collections", "nobody"]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_a_chorale_becomes_midi_once(tmp_path: Path) -> None:
    (_, source), *_ = corpus_pieces(["bach:1"])
    target = tmp_path / "chorale.mid"
    assert write_piece((source, target)) == ""
    score = read_midi(target)
    assert len(score) > 50 and len(set(score.track.tolist())) >= 4
    target.write_bytes(b"kept")
    assert write_piece((source, target)) == ""
    assert target.read_bytes() == b"kept"


def test_a_score_that_cannot_be_read_is_named_with_its_reason(tmp_path: Path) -> None:
    source = tmp_path / "broken.krn"
    source.write_text("nonsense")
    reason = write_piece((source, tmp_path / "out.mid"))
    assert reason.startswith("broken.krn: ")
    assert [path.name for path in tmp_path.iterdir()] == ["broken.krn"]
