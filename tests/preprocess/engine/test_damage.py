"""Damaged work folders and datasets: one sentence that says which file, and what to remove."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from preprocess.engine.destination import Destination

EVEN = ("--split-ratios", "0.34,0.33,0.33", "--jobs", "1")
Build = Callable[..., tuple[int, str]]


def interrupt(self: Destination) -> None:
    raise KeyboardInterrupt


LINE = "journal.jsonl: the line at byte"
DAMAGE: dict[str, tuple[str, Callable[[bytes], bytes], str]] = {
    "a line of other content": ("run-1/journal.jsonl", lambda data: data + b"[1]\n", LINE),
    "a line that is no JSON": ("run-1/journal.jsonl", lambda data: data + b"{1}\n", LINE),
    "a line without its fields": (
        "run-1/journal.jsonl",
        lambda data: data + b"{}\n",
        LINE,
    ),
    "nested deeply": (
        "run-1/journal.jsonl",
        lambda data: data + b"[" * 10**5 + b"\n",
        LINE,
    ),
    "a fingerprint cut": (
        "run-1/journal.jsonl",
        lambda data: data.replace(b'"sketch":"', b'"sketch":"0'),
        LINE,
    ),
    "options nested deeply": ("options.json", lambda data: b"[" * 10**5, "data: cannot be used"),
    "options of another type": ("options.json", lambda data: b"[]", "whose options are damaged"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_a_damaged_work_folder_is_one_sentence(
    case: str, corpus: Callable[..., Path], build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, dest = corpus(3), tmp_path / "data"
    with monkeypatch.context() as patch:
        patch.setattr(Destination, "publish", interrupt)
        with pytest.raises(KeyboardInterrupt):
            build(source, dest, *EVEN)
    name, damage, sentence = DAMAGE[case]
    path = dest / ".build" / name
    path.write_bytes(damage(path.read_bytes()))
    (dest / ".build" / "run-x").mkdir()  # which is none of ours
    status, said = build(source, dest, *EVEN)
    assert status == 2 and sentence in said.strip().splitlines()[-1] and "Traceback" not in said


@pytest.mark.parametrize("name", ["config.json", "manifest.jsonl"])
def test_a_damaged_dataset_is_one_sentence(
    name: str, corpus: Callable[..., Path], build: Build, tmp_path: Path
) -> None:
    source, dest = corpus(3), tmp_path / "data"
    assert build(source, dest, *EVEN)[0] == 0
    whole = (dest / name).read_bytes()
    damaged = [whole[: len(whole) // 2], b"[" * 10**5, b"", b"\xff"]
    if name == "config.json":
        damaged.append(whole.replace(b'"left_out"', b'"lost"'))
    else:
        damaged.append(whole[: whole.rindex(b"\n", 0, -1) + 1])
    for content in damaged:
        (dest / name).write_bytes(content)
        status, said = build(source, dest, *EVEN)
        assert status == 2 and "damaged" in said or "cannot be read as JSON" in said, content[:80]
        assert "Traceback" not in said and len(said.strip().splitlines()[-1]) < 1000
