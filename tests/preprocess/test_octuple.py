"""The commands ``encode`` and ``decode``, as a user types them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from musicbert_plugin.codecs import octuple as codec
from musicbert_plugin.codecs.score import Score, read_midi, write_midi
from musicbert_plugin.errors import OptionError
from preprocess import octuple
from preprocess.octuple import onset_perplexity, stored_windows

ROOT = Path(__file__).resolve().parents[2]
Corpus = Callable[..., Path]


def command(*arguments: object, text: str = "") -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "preprocess.octuple", *map(str, arguments)]
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, input=text, check=False)


def test_encode_prints_a_line_per_file_that_decode_turns_back_into_music(corpus: Corpus, tmp_path: Path) -> None:
    files = sorted(corpus(3).iterdir())
    encoded = command("encode", *files)
    assert (encoded.returncode, encoded.stderr) == (0, "")
    lines = encoded.stdout.splitlines()
    assert lines == [codec.to_words(codec.encode(read_midi(file))) for file in files]
    (tmp_path / "lines.txt").write_text(encoded.stdout)
    decoded = command("decode", tmp_path / "lines.txt", "--dest", tmp_path / "out")
    assert (decoded.returncode, decoded.stdout, decoded.stderr) == (0, "", "")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["0.mid", "1.mid", "2.mid"]
    assert command("encode", *(tmp_path / "out" / f"{n}.mid" for n in range(3))).stdout.splitlines() == lines


def test_encode_goes_on_after_a_file_that_fails(
    corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = corpus(2)
    (tmp_path / "bad.mid").write_bytes(b"junk")
    files = [source / "000.mid", tmp_path / "bad.mid", tmp_path / "missing.mid", source / "001.mid"]
    assert octuple.main(["encode", *map(str, files)]) == 1
    printed = capsys.readouterr()
    assert len(printed.out.splitlines()) == 2
    assert [line.partition(": ")[0] for line in printed.err.splitlines()] == [str(files[1]), str(files[2])]


def test_encode_prints_bars_beyond_255_and_fails_on_a_meter_outside_the_vocabulary(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_midi(Score.of(480, [1920 * 700], [1920 * 701], [60]), tmp_path / "long.mid")
    write_midi(Score.of(480, [0], [480], [60], meters=[(0, 3, 128)]), tmp_path / "odd.mid")
    assert octuple.main(["encode", str(tmp_path / "odd.mid"), str(tmp_path / "long.mid")]) == 1
    printed = capsys.readouterr()
    assert printed.out.startswith("<0-700> ") and printed.out.count("\n") == 1
    assert "3/128" in printed.err


def test_encode_warns_of_notes_beyond_the_published_end_and_of_repaired_bytes(tmp_path: Path) -> None:
    """The published form ends at position 65,536; what stands on stdout is that form and nothing else."""
    onset = np.array([0, 1023, 1024, 1025]) * 1920
    write_midi(Score.of(480, onset, onset + 480, [60, 61, 62, 63]), tmp_path / "long.mid")
    data = bytearray((tmp_path / "long.mid").read_bytes())
    data[data.index(b"\x90") + 2] |= 0x80
    (tmp_path / "high.mid").write_bytes(data)
    encoded = command("encode", tmp_path / "long.mid", tmp_path / "high.mid")
    assert encoded.returncode == 0
    assert [line.split()[::8] for line in encoded.stdout.splitlines()] == [["<0-0>", "<0-1023>"]] * 2
    ending = "lost: 2 of 4 notes, since the published encoding ends at position 65,536"
    assert encoded.stderr.splitlines() == [
        f"{tmp_path / 'long.mid'}: {ending}",
        f"{tmp_path / 'high.mid'}: repaired: data byte above 127, read as 127 (1)",
        f"{tmp_path / 'high.mid'}: {ending}",
    ]
    (tmp_path / "lines").write_text("<0-1024> <1-0> <2-0> <3-60> <4-8> <5-16> <6-9> <7-35>\n")
    decoded = command("decode", tmp_path / "lines", "--dest", tmp_path / "out")
    assert (decoded.returncode, decoded.stderr) == (0, "")
    assert read_midi(tmp_path / "out" / "0.mid").onset.tolist() == [1024 * 1920]


def test_decode_takes_what_fairseq_prints_and_names_pieces_by_its_ids(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = "<0-0> <1-0> <2-0> <3-60> <4-8> <5-16> <6-9> <7-35>"
    lines = [f"S-12\t{words}", f"H-12\t-0.5\t<s> <s> {words} </s>", f"D-12\t-0.5\t{words}", f"H-3\t-1.0\t{words}"]
    (tmp_path / "lines").write_text("\n".join([*lines, f"H-3\t-2.0\t{words} {words}"]) + "\n")
    assert octuple.main(["decode", str(tmp_path / "lines"), "--dest", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().err == ""
    found = {path.name: len(read_midi(path)) for path in (tmp_path / "out").iterdir()}
    assert found == {"12.mid": 1, "3.mid": 1, "3.1.mid": 2}


def test_decode_repairs_and_says_what(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rest = "<3-60> <4-8> <5-16> <6-9> <7-35>"
    (tmp_path / "lines").write_text(f"<0-0> <1-0> <2-0> {rest} hello\n\n<0-0> <1-0> <2-999> {rest}\n")
    assert octuple.main(["decode", str(tmp_path / "lines"), "--dest", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2 and said[0].startswith("0.mid: repaired") and said[1].startswith("2.mid: repaired")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["0.mid", "1.mid", "2.mid"]


def test_what_cannot_be_begun_is_one_sentence_and_status_2(tmp_path: Path) -> None:
    (tmp_path / "lines").write_text("<0-0>\n")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    for lines, dest in (("missing", "out"), ("binary", "out"), ("lines", "lines/out")):
        outcome = command("decode", tmp_path / lines, "--dest", tmp_path / dest)
        assert (outcome.returncode, outcome.stderr.count("\n"), outcome.stdout) == (2, 1, ""), outcome.stderr


def test_commands_start_without_torch_fairseq_or_progress_bars() -> None:
    program = (
        "import sys, preprocess.octuple as o; o.main(['encode', 'missing.mid'])\n"
        "import preprocess.engine.pipeline, preprocess.engine.workers\n"
        "print([m for m in ('torch', 'fairseq', 'tqdm', 'matplotlib') if m in sys.modules])"
    )
    outcome = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert outcome.stdout == "[]\n"


@pytest.mark.parametrize(("counts", "perplexity"), [([9], 1.0), ([5] * 16, 16.0), ([1, 1, 0, 2], 2**1.5)])
def test_onset_perplexity_is_two_to_the_entropy(counts: list[int], perplexity: float) -> None:
    assert onset_perplexity(np.array(counts)) == pytest.approx(perplexity)


def test_windows_begin_every_250_notes_and_keep_bars_in_the_vocabulary() -> None:
    octuples = np.zeros((3000, 8), np.int32)
    octuples[:, 0] = np.arange(3000) // 6  # 500 bars
    octuples[:, 3] = np.arange(3000) % 256
    windows = stored_windows(octuples, 1, b"x")
    assert [w.tolist() for w in windows] == [w.tolist() for w in stored_windows(octuples, 1, b"x")]
    assert all(0 <= window[0, 0] and window[-1, 0] <= 255 for window in windows)
    whole = [window for window in windows if len(window) == 1000]
    assert 7 <= len(whole) <= 9 and 12 <= len(windows) <= 16
    # a window that spans more than 256 bars begins in bar 0 and ends where bar 256 would come
    octuples[:, 0] = np.arange(3000)
    for window in stored_windows(octuples, 1, b"x"):
        assert len(window) <= 256 and (len(window) < 256 or window[0, 0] == 0)


def test_decode_counts_lines_that_are_no_music(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    note = "<0-0> <1-0> <2-0> <3-60> <4-8> <5-16> <6-9> <7-35>"
    (tmp_path / "lines").write_text(f"{note}\nonce upon a time\n{note}\n<0-0> <1-0>\n")
    assert octuple.main(["decode", str(tmp_path / "lines"), "--dest", str(tmp_path / "out")]) == 1
    said = capsys.readouterr().err.splitlines()
    assert said == [
        "1.mid: not written: no note in 4 words: word that is part of no octuple (4)",
        "3.mid: not written: no note in 2 words: word that is part of no octuple (2)",
        "2 of 4 lines are no music.",
    ]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["0.mid", "2.mid"]


def test_decode_refuses_nothing_and_its_own_input(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    with pytest.raises(OptionError, match="empty: holds no lines of music"):
        octuple.main(["decode", str(tmp_path / "empty"), "--dest", str(tmp_path / "out")])
    lines = tmp_path / "0.mid"
    lines.write_text("<0-0> <1-0> <2-0> <3-60> <4-8> <5-16> <6-9> <7-35>\n")
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(OptionError, match="0.mid cannot be written, since it is .*0.mid, which is read"):
        octuple.main(["decode", str(lines), "--dest", str(tmp_path / "link")])
    assert lines.read_text().startswith("<0-0>")
