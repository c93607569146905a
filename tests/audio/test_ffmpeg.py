"""m4a, aac and wma are read through ffmpeg, here a program that copies the float samples in the file to its output."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from musicbert_plugin.audio import ffmpeg
from musicbert_plugin.audio.decoding import Sound, decode, probe
from musicbert_plugin.errors import RecordingError

RATE = 44100
STAND_IN = r"""#!/bin/sh
printf '%s\n' "$@" > "$(dirname "$0")/arguments"
read -r line && echo "there is input" >&2
while [ "$1" != "-i" ]; do shift; done
path="${2#file:}"
case "${path##*/}" in
    *refused*) echo "[in#0 @ 0x5566778899aa] moov atom not found" >&2; exit 1 ;;
    *partial*) head -c 200000 "$path"; echo "[dec:aac @ 0x55] [a @ 0x5] Invalid data found." >&2; exit 1 ;;
    *stuck*) head -c 200000 "$path"; exec sleep 60 ;;
    *silent*) exec sleep 60 ;;
    *nothing*) exit 0 ;;
    *) cat "$path" ;;
esac
"""


def samples() -> np.ndarray:
    return (0.1 * np.random.default_rng(0).standard_normal((2 * RATE, 2))).astype(np.float32)


@pytest.fixture
def recording(tmp_path, monkeypatch):
    """``recording("x.m4a")``: a file that the stand-in for ffmpeg, which is on PATH, decodes."""
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "ffmpeg"
    program.write_text(STAND_IN)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")

    def write(name: str) -> Path:
        soundfile.write(tmp_path / name, samples(), RATE, format="AU", subtype="FLOAT")
        return tmp_path / name

    return write


def test_samples_are_those_that_ffmpeg_gives_in_whole_and_in_parts(recording, monkeypatch):
    path = recording("-x:y.m4a")
    mean = samples().astype(np.float64).mean(1)
    np.testing.assert_allclose(decode(path, RATE), mean, atol=1e-7)
    assert (probe(path).sample_rate, probe(path).channels) == (RATE, 2)
    whole = decode(path, 22050)
    assert len(whole) == RATE
    np.testing.assert_array_equal(decode(path.read_bytes(), 22050, name="member.WMA"), whole)
    for start, stop in ((0, 1000), (22050, 30000), (RATE - 100, None)):
        np.testing.assert_array_equal(decode(path, 22050, start, stop), whole[start:stop])
    monkeypatch.chdir(path.parent)
    np.testing.assert_array_equal(decode(path.name, 22050), whole)  # a name that begins as an option does


def test_ffmpeg_may_open_nothing_but_the_file(recording):
    path = recording("x.m4a")
    decode(path, RATE)
    arguments = (path.parent / "bin" / "arguments").read_text().split("\n")
    assert arguments[arguments.index("-i") + 1] == f"file:{path}"
    for option, value in (("-protocol_whitelist", "file"), ("-format_whitelist", ffmpeg.CONTAINERS)):
        assert arguments[arguments.index(option) + 1] == value
        assert arguments.index(option) < arguments.index("-i")
    assert not {"concat", "hls"} & set(ffmpeg.CONTAINERS.split(","))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("refused.m4a", r"ffmpeg cannot decode it \(ffmpeg: moov atom not found\)"),
        ("nothing.aac", r"ffmpeg cannot decode it \(it gives no samples\)"),
        ("silent.wma", r"ffmpeg cannot decode it \(ffmpeg has given nothing for 0.2 seconds\)"),
    ],
)
def test_what_ffmpeg_cannot_decode_is_told_in_one_sentence(recording, monkeypatch, name, expected):
    monkeypatch.setattr(ffmpeg, "PATIENCE", 0.2 if name == "silent.wma" else 60.0)
    path = recording(name)
    with pytest.raises(RecordingError, match=expected) as error:
        decode(path, RATE)
    assert error.value.reason == "undecodable" and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("partial.m4a", "ffmpeg: Invalid data found"), ("stuck.m4a", "has given nothing for 0.5 sec")],
)
def test_what_came_before_a_failure_is_kept_and_told(recording, monkeypatch, caplog, name, expected):
    monkeypatch.setattr(ffmpeg, "PATIENCE", 0.5 if name == "stuck.m4a" else 60.0)
    path = recording(name)
    sound = Sound(path, RATE)
    there = (200000 - 24) // 8
    np.testing.assert_allclose(np.concatenate(list(sound)), samples()[:there].mean(1), atol=1e-7)
    assert sound.damage is not None and expected in sound.damage.what
    assert sound.damage.kept == pytest.approx(there / RATE)
    if name == "partial.m4a":
        assert len(decode(path, RATE)) == there and expected in caplog.text


def test_without_ffmpeg_it_is_named(recording, monkeypatch, tmp_path):
    path = recording("x.m4a")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RecordingError, match=r"x.m4a: .m4a needs ffmpeg, which is not installed; install it, or"):
        decode(path, RATE)
