"""Where music is found, and under which names."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

from musicbert_plugin.errors import OptionError, ScoreError
from musicbert_plugin.files import escaped
from preprocess.engine.sources import Collection


def read(collection: Collection, limit: int = 10**6) -> dict[str, bytes]:
    return {
        collection.names[index]: collection.sources[number].read(inner, place, limit)
        for index, number, inner, place in collection.tasks(np.ones(len(collection), bool), limit)
    }


def outcomes(collection: Collection) -> dict[str, bytes | str]:
    """The content of every file, or the sentence of why there is none."""
    found: dict[str, bytes | str] = {}
    for index, number, inner, place in collection.tasks(np.ones(len(collection), bool), 10**6):
        try:
            found[collection.names[index]] = collection.sources[number].read(inner, place, 10**6)
        except ScoreError as error:
            found[collection.names[index]] = str(error)
    return found


def test_a_folder_is_searched_to_its_depths(tmp_path: Path) -> None:
    for name in ("a.mid", "deep/er/b.MIDI", "c.Rmi", ".hidden.mid", ".git/d.mid", "e.txt", "x.mid/f.mid"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    found = read(Collection([str(tmp_path)]))
    assert list(found) == ["a.mid", "c.Rmi", "deep/er/b.MIDI", "x.mid/f.mid"]
    assert all(data == name.encode() for name, data in found.items())


def test_linked_folders_are_followed_once_and_never_in_circles(tmp_path: Path) -> None:
    (tmp_path / "music").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a.mid").write_bytes(b"a")
    (tmp_path / "music" / "b.mid").write_bytes(b"b")
    os.symlink(tmp_path / "elsewhere", tmp_path / "music" / "link")
    os.symlink(tmp_path / "elsewhere", tmp_path / "music" / "link2")
    os.symlink(tmp_path, tmp_path / "music" / "up")
    assert list(read(Collection([str(tmp_path / "music")]))) == ["b.mid", "link/a.mid"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
def test_a_named_pipe_is_no_music_file_no_list_and_no_table_and_nobody_waits_for_it(tmp_path: Path) -> None:
    from musicbert_plugin.codecs.score import read_midi
    from musicbert_plugin.parsing import read_json, read_npy
    from musicbert_plugin.tables import read_table
    from preprocess.engine.sources import content_hash

    folder = tmp_path / "music"
    folder.mkdir()
    (folder / "a.mid").write_bytes(b"a")
    os.mkfifo(folder / "b.mid")
    os.symlink("b.mid", folder / "link.mid")
    os.symlink("/dev/zero", folder / "zeros.mid")
    collection = Collection([str(folder)])
    sentences = {name: f"{name}: not a regular file." for name in ("b.mid", "link.mid", "zeros.mid")}
    assert outcomes(collection) == {"a.mid": b"a", **sentences}
    (tmp_path / "list.txt").write_text("music/b.mid\nmusic/a.mid\nmusic/\0.mid\n")
    listed = outcomes(Collection([str(tmp_path / "list.txt")]))
    assert listed.pop("music/\\x00.mid") == "music/\\x00.mid: No such file or directory."
    assert listed == {"music/a.mid": b"a", "music/b.mid": "music/b.mid: not a regular file."}
    for read_it in (
        lambda: content_hash(collection.sources[0], "b.mid", b"", 10**6),
        lambda: read_midi(folder / "b.mid"),
        lambda: read_json(folder / "b.mid"),
        lambda: read_npy(folder / "b.mid"),
        lambda: read_table(folder / "b.mid"),
    ):
        with pytest.raises((ScoreError, OptionError, ValueError), match="not a regular file"):
            read_it()
    for name in ("list.txt", "list.tsv", "list.csv", "all.zip", "all.tar.gz"):
        os.mkfifo(folder / name)
        with pytest.raises(OptionError, match="not a regular file"):
            Collection([str(folder / name)])


def test_a_loop_of_links_is_named_and_the_rest_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "music"
    folder.mkdir()
    (folder / "a.mid").write_bytes(b"a")
    for name, other in (("b", "c"), ("c", "b"), ("d.mid", "d.mid"), (".e", ".e")):
        os.symlink(folder / other, folder / name)
    found = outcomes(Collection([str(folder)]))
    assert found.pop("a.mid") == b"a"
    assert found == {
        name: f"{folder}/{name}: a loop of symbolic links; what is in it is left out." for name in ("b", "c", "d.mid")
    }
    (folder / "a.mid").unlink()
    with pytest.raises(OptionError, match="music/b: a loop of symbolic links"):
        Collection([str(folder)])


def test_a_folder_that_cannot_be_listed_is_named_and_the_rest_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.mid", "closed/b.mid"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"a")
    scan = os.scandir

    def scandir(path: str) -> object:
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert outcomes(Collection([str(tmp_path)])) == {
        "a.mid": b"a",
        "closed": f"{tmp_path}/closed: cannot be listed (Permission denied); what is in it is left out.",
    }


def test_several_sources_keep_their_names_apart(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.mid").write_bytes(folder.encode())
    with zipfile.ZipFile(tmp_path / "three.zip", "w") as archive:
        archive.writestr("a.mid", b"three")
    (tmp_path / "four.mid").write_bytes(b"four")
    given = [str(tmp_path / name) for name in ("two", "one", "three.zip", "four.mid")]
    found = read(Collection(given))
    assert {name.removeprefix(str(tmp_path)): data for name, data in found.items()} == {
        "/four.mid": b"four",
        "/one/a.mid": b"one",
        "/three.zip/a.mid": b"three",
        "/two/a.mid": b"two",
    }


def test_names_in_a_zip_are_utf_8_even_where_it_does_not_say_so(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("テスト.mid", b"1")
    data = bytearray((tmp_path / "a.zip").read_bytes())
    for signature, at in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        data[data.index(signature) + at + 1] &= 0xF7  # the flag that says UTF-8
    (tmp_path / "a.zip").write_bytes(bytes(data))
    assert read(Collection([str(tmp_path / "a.zip")])) == {"テスト.mid": b"1"}


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_bomb_in_a_zip_is_not_unpacked(tmp_path: Path, method: int) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", method) as archive:
        archive.writestr("a.mid", bytes(10_000_000))
        archive.writestr("b.mid", b"fine")
    collection = Collection([str(tmp_path / "a.zip")])
    with pytest.raises(ScoreError) as caught:
        read(collection, 1000)
    assert caught.value.reason == "too large"


def test_damage_inside_a_zip_costs_the_damaged_file(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.mid", bytes(range(256)) * 40)
        archive.writestr("b.mid", b"fine")
    data = bytearray((tmp_path / "a.zip").read_bytes())
    data[60:90] = bytes(30)
    (tmp_path / "a.zip").write_bytes(bytes(data))
    collection = Collection([str(tmp_path / "a.zip")])
    outcomes = {}
    for index, number, inner, place in collection.tasks(np.ones(2, bool), 10**6):
        try:
            outcomes[collection.names[index]] = collection.sources[number].read(inner, place, 10**6)
        except ScoreError as error:
            outcomes[collection.names[index]] = error.reason
    assert outcomes == {"a.mid": "unreadable", "b.mid": b"fine"}


def test_a_list_names_files_from_its_own_folder(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.mid").write_bytes(b"a")
    (tmp_path / "list.txt").write_text("# my music\nsub/a.mid\n\nsub/missing.mid\n")
    collection = Collection([str(tmp_path / "list.txt")])
    assert list(collection.names) == ["sub/a.mid", "sub/missing.mid"]
    with pytest.raises(ScoreError) as caught:
        read(collection)
    assert caught.value.reason == "unreadable"


def test_names_of_any_kind_are_kept_and_found(tmp_path: Path) -> None:
    names = sorted(
        ["b.mid", "a.mid", "テスト.mid", "caf\udce9.mid", "a b/c.mid"]
    )  # the last but one: bytes that are no UTF-8
    (tmp_path / "list.txt").write_bytes("\n".join(names).encode("utf-8", "surrogateescape"))
    collection = Collection([str(tmp_path / "list.txt")])
    forms = sorted(map(escaped, names))
    assert list(collection.names) == forms == collection.names[:] and r"caf\xe9.mid" in forms
    assert [collection.find(name) for name in forms] == [0, 1, 2, 3, 4]
    assert [collection.find(name, guess=9) for name in ("c.mid", forms[2])] == [-1, 2]


def test_a_source_that_is_nothing_known_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.pdf").write_bytes(b"")
    with pytest.raises(OptionError, match=r"a\.pdf: not a folder, an archive"):
        Collection([str(tmp_path / "a.pdf")])
