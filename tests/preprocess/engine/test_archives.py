"""Archives: whatever their headers say, memory and time are bounded, and only what is damaged is lost."""

from __future__ import annotations

import argparse
import bz2
import gzip
import io
import lzma
import os
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from musicbert_plugin.codecs.score import Budget, midi_bytes, read_midi
from musicbert_plugin.errors import OptionError, ScoreError
from preprocess import audio, octuple, remi, render
from preprocess.engine import archives
from preprocess.engine.archives import HEADER_BYTES, ArchiveLimits
from preprocess.engine.cli import Heartbeat
from preprocess.engine.sources import Collection

FILES = {"a.mid": b"one", "b/c.mid": bytes(range(256)) * 40, "b/é.mid": b"two"}


def outcomes(path: Path, limits: ArchiveLimits | None = None, largest: int = 10**6) -> dict[str, bytes | str]:
    """The content of every file, or the sentence of why there is none; files before the archive's own failure."""
    collection = Collection([str(path)], limits=limits)
    found: dict[str, bytes | str] = {}
    for index, number, inner, place in collection.tasks(np.ones(len(collection), bool), largest):
        try:
            found[collection.names[index]] = collection.sources[number].read(inner, place, largest)
        except ScoreError as error:
            found[collection.names[index]] = str(error).replace(str(path), path.name)
    return {(path.name if name == str(path) else name): value for name, value in found.items()}


def tar(files: dict[str, bytes], headers: dict[str, str] | None = None) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.pax_headers = len(content), headers or {}
            archive.addfile(member, io.BytesIO(content))
    return data.getvalue()


def header(name: bytes, size: bytes, kind: bytes) -> bytes:
    """A header of a tar; ``size`` is its field, 12 bytes."""
    block = name.ljust(100, b"\0") + b"0000644\0" + b"0000000\0" * 2 + size.ljust(12, b"\0") + b"%011o\0" % 1
    block = (block + b" " * 8 + kind + bytes(100) + b"ustar  \0").ljust(512, b"\0")
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz"])
def test_a_tar_is_read_in_every_compression(suffix: str, tmp_path: Path) -> None:
    pack = {"z2": bz2.compress, "xz": lzma.compress, "gz": gzip.compress}.get(suffix[-2:], bytes)
    (tmp_path / f"a{suffix}").write_bytes(pack(tar(FILES)))
    assert outcomes(tmp_path / f"a{suffix}") == FILES


def test_compressed_streams_that_follow_each_other_are_one(tmp_path: Path) -> None:
    data = tar(FILES)
    (tmp_path / "a.tar.bz2").write_bytes(bz2.compress(data[:700]) + bz2.compress(data[700:]))
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(data[:512]) + bytes(9) + gzip.compress(data[512:]) + b"more")
    assert outcomes(tmp_path / "a.tar.bz2") == outcomes(tmp_path / "a.tar.gz") == FILES


@pytest.mark.parametrize(
    "method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA], ids=str
)
def test_a_zip_is_read_in_every_method(method: int, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", method) as archive:
        for name, content in FILES.items():
            archive.writestr(name, content)
        archive.writestr("large.mid", bytes(100_000))
    found = outcomes(tmp_path / "a.zip", largest=20_000)
    assert found.pop("large.mid") == "large.mid: more than 20000 bytes; --max-bytes can be raised."
    assert found == FILES
    # a program that unpacks it may stand before it
    (tmp_path / "b.zip").write_bytes(b"#!program" + (tmp_path / "a.zip").read_bytes())
    assert {**outcomes(tmp_path / "b.zip", largest=20_000), **FILES} == outcomes(tmp_path / "b.zip", largest=20_000)


def test_a_zip_that_lies_about_a_size_costs_that_file(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.mid", bytes(100_000))
        archive.writestr("b.mid", b"fine")
    data = bytearray((tmp_path / "a.zip").read_bytes())
    start = data.index(b"PK\1\2") + 24
    data[start : start + 4] = (10).to_bytes(4, "little")
    (tmp_path / "a.zip").write_bytes(data)
    assert outcomes(tmp_path / "a.zip") == {
        "a.mid": "a.mid: damaged in the archive (its size differs).",
        "b.mid": b"fine",
    }


def test_a_dictionary_of_gigabytes_is_not_made(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("a.mid", b"one")
    data = bytearray((tmp_path / "a.zip").read_bytes())
    start = data.index(b"a.mid") + len("a.mid") + 5
    data[start : start + 4] = b"\0\0\0\xf0"
    (tmp_path / "a.zip").write_bytes(data)
    assert outcomes(tmp_path / "a.zip") == {"a.mid": "a.mid: damaged: memory usage limit exceeded."}


@pytest.mark.parametrize("damage", ["cut", "header", "stream"])
def test_what_stands_before_the_damage_of_a_tar_is_read(damage: str, tmp_path: Path) -> None:
    data = bytearray(tar({"a.mid": b"one", "b.mid": np.random.default_rng(1).bytes(300_000), "c.mid": b"two"}))
    path = tmp_path / ("a.tar.gz" if damage == "stream" else "a.tar")
    if damage == "stream":
        data = bytearray(gzip.compress(data))
        del data[200_000:]
    elif damage == "cut":
        del data[100_000:]
    else:
        data[data.index(b"c.mid") + 3] ^= 1
    path.write_bytes(data)
    found = outcomes(path)
    assert found["a.mid"] == b"one" and "c.mid" not in found
    failure = found[path.name]
    assert isinstance(failure, str) and failure.startswith(f"{path.name}: damaged after 2 entries (")
    assert failure.endswith("). What follows in it is left out.")
    assert isinstance(found["b.mid"], bytes if damage == "header" else str)


def test_a_damaged_archive_and_a_loop_of_links_do_not_stop_a_build(
    corpus: Callable[..., Path],
    build: Callable[..., tuple[int, str]],
    manifest: Callable[[Path], dict[str, dict[str, object]]],
    tmp_path: Path,
) -> None:
    source = corpus(4)
    os.symlink("loop", source / "loop")
    (tmp_path / "a.tar.xz").write_bytes(b"\xfd7zXZ\0 nothing")
    status, said = build(source, tmp_path / "a.tar.xz", tmp_path / "data", "--split-ratios", "1,0,0")
    lines = manifest(tmp_path / "data")
    assert status == 1 and len(lines) == 6 and "Traceback" not in said
    assert lines[f"{source}/loop"]["reason"] == "unreadable" and "2  (failed)" in said
    assert f"unreadable: {source}/loop: a loop of symbolic links; what is in it is left out.\n" in said
    about = lines[str(tmp_path / "a.tar.xz")]
    assert about["reason"] == "unreadable" and "a.tar.xz: not a tar archive that can be read (" in str(about["detail"])
    assert str(about["detail"]) in said


ODD = {
    "long name": header(b"././@LongLink", b"%011o" % (HEADER_BYTES + 1), b"L") + b"a" * 300_000,
    "pax header": header(b"p", b"%011o" % 2**30, b"x") + b"9 path=a\n" * 40_000,
    "recursion": (header(b"././@LongLink", b"%011o" % 5, b"L") + b"a.mid".ljust(512, b"\0")) * 300,
    "back": header(b"x", b"\xff" * 10 + b"\xfc\0", b"0") * 2,
    "below zero": header(b"b.mid", b"\xff" * 12, b"0"),
    "beyond": header(b"x", b"\x80" + b"\x7f" * 11, b"0"),
    "digits": header(b"p", b"%011o" % 100_352, b"x") + b"1" * 100_352,
    "sparse map": header(b"a.mid", b"%011o" % 5, b"S")[:482] + b"\1" + b"\1" * 400_000,
}


@pytest.mark.parametrize("name", ODD)
def test_headers_that_take_memory_or_time_end_an_archive(name: str, tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(tar({"a.mid": b"one"})[:1024] + ODD[name] + tar({"b.mid": b"two"}))
    found = outcomes(tmp_path / "a.tar")
    assert found.pop("a.mid") == b"one"
    assert [*found] == ["a.tar"] and str(found["a.tar"]).startswith("a.tar: damaged after "), found


@pytest.mark.parametrize("time", ["inf", "nan", "-1e400", "x"])
def test_odd_times_of_a_tar_cost_nothing(time: str, tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(tar(FILES, {"mtime": time, "comment": "é"}))
    assert outcomes(tmp_path / "a.tar") == FILES


def test_global_headers_do_not_pile_up(tmp_path: Path) -> None:
    data = b""
    for number in range(3):
        line = b"%d v%d=" % (HEADER_BYTES // 2, number)
        line = line.ljust(HEADER_BYTES // 2 - 1, b"a") + b"\n"
        data += header(b"g", b"%011o" % len(line), b"g") + line + header(b"%d.mid" % number, b"0", b"0")
    (tmp_path / "a.tar").write_bytes(data + bytes(1024))
    assert "its headers take more than" in str(outcomes(tmp_path / "a.tar")["a.tar"])


def packed(tmp_path: Path, kind: str, files: dict[str, bytes]) -> Path:
    path = tmp_path / f"a.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in files.items():
                archive.writestr(name, content)
    else:
        path.write_bytes(gzip.compress(tar(files)))
    return path


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_an_archive_is_read_up_to_its_limits(kind: str, tmp_path: Path) -> None:
    path = packed(tmp_path, kind, {f"{number}.mid": bytes(900) for number in range(9)})
    found = outcomes(path, ArchiveLimits(entries=4))
    assert sorted(found) == ["0.mid", "1.mid", "2.mid", "3.mid", path.name]
    assert found[path.name] == (
        f"{path.name}: more than 4 entries; --max-entries can be raised. What follows in it is left out."
    )
    found = outcomes(path, ArchiveLimits(unpacked_bytes=5000))
    assert 2 <= len(found) - 1 <= 5 and found["0.mid"] == bytes(900)
    assert "more than 5,000 bytes unpacked; --max-unpacked-bytes can be raised." in str(found[path.name])
    path = packed(tmp_path, kind, {f"{number}{'n' * 200}.mid": b"" for number in range(9)})
    assert len(outcomes(path, ArchiveLimits(entries=8))) == 5  # long names count twice


def test_every_command_that_reads_archives_has_the_limits(
    corpus: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def options_of(top: argparse.ArgumentParser, command: str = "") -> set[str]:
        for action in top._actions:
            if command and isinstance(action, argparse._SubParsersAction):
                top = action.choices[command]
        return {option for action in top._actions for option in action.option_strings}

    limits = {"--max-entries", "--max-unpacked-bytes"}
    assert limits <= options_of(octuple.parser(), "build") & options_of(audio.parser(), "build")
    assert limits <= options_of(remi.parser(), "build") & options_of(remi.parser(), "pairs")
    assert limits <= options_of(render.parser())
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for path in corpus(3).iterdir():
            archive.write(path, path.name)
    words = [str(tmp_path / "a.zip"), "--max-entries", "0", "--dest", str(tmp_path / "data")]
    for command, first in ((octuple, ["build"]), (remi, ["build"]), (remi, ["pairs"]), (render, [])):
        with pytest.raises(OptionError, match="--max-entries 0: 1 or more is needed"):
            command.main([*first, *words])  # type: ignore[attr-defined]


def test_a_long_list_is_not_made_in_silence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(archives, "Heartbeat", Impatient)
    path = packed(tmp_path, "tar.gz", {"a.mid": b"one", "b.bin": bytes(3_000_000)})
    outcomes(path)
    said = [line.removeprefix(f"{path}: ") for line in capsys.readouterr().err.splitlines()]
    assert {"1 entries, 512 bytes unpacked", "2 entries, 1,050,112 bytes unpacked"} <= {*said}, said


class Impatient(Heartbeat):
    """Half a minute passes between any two sentences."""

    def say(self, sentence: Callable[[], str]) -> None:
        self._last_line = -100.0
        super().say(sentence)


# ----------------------------------------------------------------------------------------------- MIDI files of gzip


def test_a_midi_file_in_gzip_is_read_within_its_budget(
    make_piece: Callable[..., object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = midi_bytes(make_piece(1))  # type: ignore[arg-type]
    (tmp_path / "a.mid.gz").write_bytes(gzip.compress(data))
    plain, score = read_midi(data), read_midi(tmp_path / "a.mid.gz")
    assert np.array_equal(plain.onset, score.onset) and np.array_equal(plain.pitch, score.pitch)
    for packed, reason, part in (
        (gzip.compress(data + bytes(10**6)), "too large", "more than 10000 bytes unpacked"),
        (gzip.compress(data)[:-20], "unreadable", "a gzip file that cannot be unpacked (damaged: "),
        (gzip.compress(b"text"), "unreadable", "not a MIDI file (it begins with b'text'"),
    ):
        with pytest.raises(ScoreError) as caught:
            read_midi(packed, name="x.mid.gz", budget=Budget(bytes=10_000))
        assert caught.value.reason == reason and f"x.mid.gz: {part}" in str(caught.value)


def test_a_folder_of_midi_files_in_gzip_gives_the_items_of_the_plain_ones(
    corpus: Callable[..., Path],
    build: Callable[..., tuple[int, str]],
    content: Callable[[Path], dict[str, bytes]],
    tmp_path: Path,
) -> None:
    plain, other = corpus(5), tmp_path / "packed"
    other.mkdir()
    for path in plain.iterdir():
        (other / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
    for source in (plain, other):
        assert build(source, tmp_path / f"{source.name}-data", "--split-ratios", "1,0,0")[0] == 0
    one, two = (content(tmp_path / f"{source.name}-data") for source in (plain, other))
    assert one["train.bin"] == two["train.bin"] and b'"000.mid.gz"' in two["manifest.jsonl"]
