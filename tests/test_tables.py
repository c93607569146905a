"""Tables are read alike whichever program wrote them, and what cannot be read is told in a sentence."""

from __future__ import annotations

import codecs
from pathlib import Path

import pytest

from musicbert_plugin.errors import OptionError
from musicbert_plugin.tables import Table, check_columns, read_table

EXPECTED = Table(["file", "mood of it"], [(2, ["a, b.wav", "calm"]), (3, ["Café.wav", ""])])
TEXT = 'file,mood of it\n"a, b.wav",calm\nCafé.wav,\n'


@pytest.mark.parametrize(
    "data",
    [
        TEXT.encode(),
        codecs.BOM_UTF8 + TEXT.replace("\n", "\r\n").encode(),
        TEXT.encode("utf-16"),
        TEXT.replace("\n", "\r\n").replace(",c", ";c").replace("e,m", "e;m").replace("v,", "v;").encode(),
        TEXT.replace("wav,", "wav;").replace("e,m", "e;m").replace('",c', '";c').encode(),
        TEXT.replace("wav,", "wav\t").replace("e,m", "e\tm").replace('",c', '"\tc').encode("utf-16"),
        'file , mood of it \n "a, b.wav" , calm\nCafé.wav, \n,,\n \n'.encode(),
    ],
    ids=["plain", "byte order mark, Windows", "UTF-16", "semicolons, Windows", "semicolons", "Excel's text", "spaces"],
)
@pytest.mark.parametrize("delimiter", [",", "\t"])
def test_a_table_is_the_same_in_every_program_s_form(data: bytes, delimiter: str, tmp_path: Path) -> None:
    (tmp_path / "table").write_bytes(data)
    assert read_table(tmp_path / "table", delimiter) == EXPECTED


def test_the_line_by_which_excel_names_its_separator_is_obeyed(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("sep=|\r\nfile|a,b\r\nx|1\r\n")
    assert read_table(tmp_path / "table.csv") == Table(["file", "a,b"], [(3, ["x", "1"])])


def test_the_expected_delimiter_is_kept_if_the_header_has_it(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("file,a;b;c\nx,1\n")
    assert read_table(tmp_path / "table.csv").header == ["file", "a;b;c"]
    (tmp_path / "table.csv").write_text("file\nx;y\n")
    assert read_table(tmp_path / "table.csv").rows == [(2, ["x;y"])]


def test_names_of_columns_are_in_normal_form_and_cells_stay_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("file,e\u0301\n x ,e\u0301\n", encoding="utf-8")
    assert read_table(tmp_path / "table.csv") == Table(["file", "é"], [(2, ["x", "e\u0301"])])
    assert read_table(tmp_path / "table.csv", strip=False).rows == [(2, [" x ", "e\u0301"])]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"file,mood\nx,Caf\xe9\n", "byte 0xe9 in line 2 is no UTF-8; UTF-8 is accepted, in Excel 'CSV UTF-8'"),
        (b'file,mood\nx,"calm\ny,dark\n', "a quotation mark at the beginning of a cell is never closed"),
        ("file,mood\n".encode("utf-16-le"), "it holds null bytes"),
        (None, "No such file"),
    ],
)
def test_what_cannot_be_read_is_told(data: bytes | None, words: str, tmp_path: Path) -> None:
    if data is not None:
        (tmp_path / "table.csv").write_bytes(data)
    with pytest.raises(OptionError, match=f"table.csv: cannot be read as CSV .*{words}"):
        read_table(tmp_path / "table.csv")


def test_two_columns_of_one_name_are_refused() -> None:
    check_columns("t.csv", ["file", "a", "a"], ["file"])
    with pytest.raises(OptionError, match=r"t.csv: 2 columns are named a; one is needed"):
        check_columns("t.csv", ["file", "a", "a"], ["file", "a"])
