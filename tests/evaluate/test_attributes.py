"""Attribute accuracy of music in files, in lines and from a model: what is right, what is chance, what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from musicbert_plugin.codecs import remi
from musicbert_plugin.codecs.attributes import NA, SLOT_OF, class_vector, command_words_of, extract
from musicbert_plugin.codecs.requests import parse_request, request_words
from musicbert_plugin.codecs.score import Score, write_midi
from musicbert_plugin.evaluate.__main__ import main
from musicbert_plugin.evaluate.attributes import accuracy_by_others, measure


def waltz(bars: int = 4, program: int = 0) -> Score:
    """A scale in C major, three quarter notes to a bar."""
    onset = np.arange(3 * bars) * 480
    pitch = 60 + np.array([0, 2, 4, 5, 7, 9, 11, 12])[np.arange(3 * bars) % 8]
    return Score.of(480, onset, onset + 480, pitch, 80, np.full(3 * bars, program), meters=[(0, 3, 4)])


def march(bars: int = 8, program: int = 40) -> Score:
    """Eighth notes in A minor, on and on, four quarter notes to a bar."""
    onset = np.arange(8 * bars) * 240
    pitch = 57 + np.array([0, 3, 7, 12, 7, 3, 0, 0])[np.arange(8 * bars) % 8]
    return Score.of(480, onset, onset + 240, pitch, 80, np.full(8 * bars, program), meters=[(0, 4, 4)])


def run(capsys: pytest.CaptureFixture[str], *arguments: Any) -> tuple[int, dict[str, Any], str]:
    status = main(["attributes", *map(str, arguments), "--draws", "200"])
    said = capsys.readouterr()
    return status, json.loads(said.out) if said.out else {}, said.err


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """0.mid is a waltz for piano, 1.mid a march for violin."""
    (tmp_path / "midi").mkdir()
    write_midi(waltz(), tmp_path / "midi" / "0.mid")
    write_midi(march(), tmp_path / "midi" / "1.mid")
    return tmp_path


def requests(folder: Path, *lines: str) -> Path:
    path = folder / "requests.txt"
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def test_music_has_its_own_attributes_and_not_those_of_other_music(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = []
    for score in (waltz(), march()):
        values = extract(remi.grid_of(score))
        lines.append(request_words(class_vector(values), values))
    status, values, _ = run(capsys, "--midi", folder / "midi", "--requests", requests(folder, *lines))
    assert status == 0
    assert values["asa"] == 1.0 and values["valid"] == 1.0 and values["asa_interval"] == [1.0, 1.0]
    assert 0 < values["chance"] < 1, "instruments that both leave out agree"
    assert values["above_chance"] == pytest.approx(1 - values["chance"])
    assert all(one["right"] == one["scored"] for one in values["attributes"].values())


def test_each_attribute_is_counted_where_it_is_asked_for(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = requests(folder, "piano no-drum meter=3/4 key=minor genre=Jazz", "piano meter=4/4 bars=8")
    status, values, _ = run(capsys, "--midi", folder / "midi", "--requests", path, "--all-free")
    assert status == 0
    counts = {key: (one["right"], one["scored"]) for key, one in values["attributes"].items()}
    assert counts == {"I1s2": (2, 3), "TS1s1": (2, 2), "K1": (0, 1), "B1s1": (1, 1)}, "no music tells the genre"
    assert values["asa"] == pytest.approx((3 / 4 + 2 / 3) / 2)
    # The waltz is a piano's but has neither 4/4 nor 5 to 8 bars; the march has no drums and is in A minor.
    assert values["chance"] == pytest.approx((1 / 3 + 2 / 4) / 2)


def test_limited_attributes_are_told_apart_and_not_in_the_headline(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = requests(folder, "piano no-drum meter=3/4 key=minor bars=4", "no-flute violin meter=4/4 bars=12 key=minor")
    arguments = ["--midi", folder / "midi", "--requests", path]

    def counts(values: dict[str, Any], name: str) -> dict[str, tuple[int, int]]:
        return {key: (one["right"], one["scored"]) for key, one in values[name].items()}

    _, values, said = run(capsys, *arguments)
    assert counts(values, "attributes") == {"I1s2": (2, 2), "K1": (1, 2)}
    assert counts(values, "limited_attributes") == {"I1s2": (2, 2), "B1s1": (1, 2), "TS1s1": (2, 2)}
    assert values["asa"] == pytest.approx((1 / 2 + 1) / 2)
    assert values["asa_limited"] == pytest.approx((1 + 2 / 3) / 2)
    assert values["asa_all"] == pytest.approx((4 / 5 + 4 / 5) / 2)
    assert values["chance"] == pytest.approx((0 / 2 + 1 / 2) / 2), "free attributes of the other request"
    assert "TS1s1 (limited)" in said and "free attributes" in said
    _, values, _ = run(capsys, *arguments, "--no-limits")
    assert counts(values, "limited_attributes") == {"I1s2": (2, 2)}, "what is excluded never sounds"
    _, values, _ = run(capsys, *arguments, "--no-limits", "--only-instruments")
    assert counts(values, "limited_attributes") == {"I1s2": (4, 4)}
    _, values, _ = run(capsys, *arguments, "--all-free")
    assert not values["limited_attributes"] and values["asa"] == values["asa_all"]


def test_chance_leaves_out_what_is_limited_in_either_request() -> None:
    """A piece whose request excludes the violin is not held to have ignored a request for one."""
    asked = np.stack([parse_request(line) for line in ("no-violin key=major", "violin key=minor")])
    found = np.stack([class_vector(extract(remi.grid_of(score))) for score in (waltz(), march())])
    limits = np.zeros(asked.shape, bool)

    def limited(requests: np.ndarray) -> np.ndarray:
        return limits | (requests == 1) & (np.arange(63) < 28)

    values = measure(asked, found, np.ones(2, bool), limited=limited, draws=10)
    assert values["chance"] == 0.0, "of both pieces the key alone is compared"
    assert values["attributes"]["I1s2"]["scored"] == 1
    asked = np.stack([parse_request(line) for line in ("bars=4", "key=major", "key=minor")])
    found = np.stack([found[0], found[0], found[1]])
    bars = np.arange(63) == SLOT_OF["B1s1"]
    values = measure(asked, found, np.ones(3, bool), limited=lambda requests: (requests != NA) & bars, draws=10)
    assert values["scored_pieces"] == 2 and values["asa"] == 1.0
    assert values["chance"] == 0.0, "of the same pieces: the first request has nothing that is free"


def test_a_piece_without_notes_is_wrong_in_everything_and_a_missing_one_ends_with_status_1(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "midi" / "1.mid").unlink()
    path = requests(folder, "piano", "no-piano no-drum")
    status, values, said = run(capsys, "--midi", folder / "midi", "--requests", path, "--all-free")
    assert status == 1 and "1.mid" in said.splitlines()[0]
    assert values["valid"] == 0.5 and values["asa"] == 0.5, "instruments that nothing plays are not right"
    words = "s-9 t-35 b-1"
    (folder / "generated.txt").write_text(f"H-0\t-1\t{words}\nH-1\t-1\t{words}\n")
    status, values, _ = run(capsys, "--hyp", folder / "generated.txt", "--requests", path, "--all-free")
    assert status == 0 and values["valid"] == 0.0 and values["asa"] == 0.0


def test_the_original_left_out_pieces_that_are_wrong_in_everything(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = requests(folder, "no-piano", "key=minor")
    assert run(capsys, "--midi", folder / "midi", "--requests", path, "--all-free")[1]["asa"] == 0.5
    assert run(capsys, "--midi", folder / "midi", "--requests", path, "--legacy")[1]["asa"] == 1.0


def test_chance_is_the_mean_over_different_requests_only() -> None:
    requested = np.array([[0], [0], [1], [2]])
    found = np.array([0, 1, 1, 1])

    def accuracy_by(asked: np.ndarray) -> np.ndarray:
        return (asked[:, 0] == found[: len(asked)]).astype(float)

    np.testing.assert_array_equal(accuracy_by_others(requested, accuracy_by), [0, 0.5, 0, 0.5])
    assert np.isnan(accuracy_by_others(requested[:2], accuracy_by)).all(), "there is no other request"


def test_music_that_ignores_its_request_is_no_better_than_chance() -> None:
    random = np.random.default_rng(0)
    asked = [parse_request(line) for line in ("key=major bars=4", "key=minor bars=8", "meter=3/4 bars=12")]
    written = [class_vector(extract(remi.grid_of(score))) for score in (waltz(), march())]
    rows = random.integers(0, 3, 400)
    values = measure(
        np.stack([asked[row] for row in rows]),
        np.stack([written[row] for row in random.integers(0, 2, 400)]),
        np.ones(400, bool),
        draws=500,
    )
    low, high = values["above_chance_interval"]
    assert low < 0 < high


def test_what_fairseq_generate_printed_is_read_with_its_own_requests(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = []
    for number, (score, request) in enumerate([(march(), "violin meter=4/4"), (waltz(), "violin meter=3/4")]):
        words = remi.to_words(remi.encode(score))
        lines += [f"S-{number}\t{' '.join(command_words_of(parse_request(request)))} <sep>", f"T-{number}\t{words}"]
        lines += [f"H-{number}\t-0.5\t{words}", f"P-{number}\t-0.1 -0.2"]
    lines += ["H-1\t-0.7\ts-8 t-35 o-0 i-40 p-188 d-12 v-20 b-1 o-1 o-2"]
    path = folder / "generated.txt"
    path.write_text("some log\n" + "\n".join(lines) + "\n")
    status, values, _ = run(capsys, "--hyp", path, "--all-free")
    assert status == 0 and values["pieces"] == 3
    assert values["asa"] == pytest.approx((1 + 0.5 + 1) / 3)
    assert values["without_repairs"] == pytest.approx(2 / 3)
    assert [row["pieces"] for row in values["per_request"]] == [1, 2]


def test_a_model_answers_a_file_of_requests_and_a_split_alike_every_time(
    random_model: Callable[..., Path],
    write_items: Callable[..., None],
    folder: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = requests(folder, "piano bars=4", "violin key=minor", "piano bars=4")
    arguments = ["--path", random_model(remi.dictionary_words()), "--max-length", 60]
    status, first, _ = run(capsys, *arguments, "--requests", path, "--dest", folder / "new", "--batch-size", 2)
    assert status == 0 and first["pieces"] == 3 and first["without_repairs"] == 1.0
    status, again, _ = run(capsys, "--midi", folder / "new", "--requests", path)
    assert status == 0 and again["attributes"] == first["attributes"], "the files are the music that was measured"

    missing = (folder / "new" / "1.mid").read_bytes()
    (folder / "new" / "1.mid").unlink()
    assert run(capsys, *arguments, "--requests", path, "--dest", folder / "new")[1] == first, "of what is there"
    assert (folder / "new" / "1.mid").read_bytes() == missing, "and of what is not"
    fewer = requests(folder, "piano bars=4")
    status, _, _ = run(capsys, *arguments, "--requests", fewer, "--dest", folder / "new", "--seed", 2)
    assert status == 0 and [file.name for file in (folder / "new").glob("*.mid")] == ["0.mid"], "no music of before"

    data = folder / "data"
    data.mkdir()
    (data / "dict.txt").write_text(remi.dictionary_text())
    items = [np.append(remi.encode(score), remi.EOS) for score in (waltz(), march())]
    write_items(data / "test", items)
    classes = [class_vector(extract(remi.grid_of(score))) for score in (waltz(), march())]
    np.save(data / "test.attributes.npy", np.stack(classes))
    status, told, _ = run(capsys, *arguments, data, "--attribute-mask", "none", "--limit", 1)
    assert status == 0 and told["pieces"] == 1
    expected = np.flatnonzero(classes[0] != NA)
    assert sum(one["scored"] for one in told["attributes"].values()) <= len(expected)
    status, masked, _ = run(capsys, *arguments, data)
    assert status == 0 and masked == run(capsys, *arguments, data)[1]


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ([], "--path"),
        (["--midi", "{folder}/midi"], "--requests"),
        (["--midi", "{folder}/nowhere", "--requests", "{folder}/requests.txt"], "nowhere"),
        (["--midi", "{folder}/midi", "--requests", "{folder}/bad.txt"], "bad.txt, line 2"),
        (["--midi", "{folder}/midi", "--requests", "{folder}/nowhere.txt"], "nowhere.txt"),
        (["--hyp", "{folder}/requests.txt"], "S- lines"),
        (["--hyp", "{folder}/generated.txt"], "generated.txt, line S-1: 'PITCH' is not an attribute"),
        (["--hyp", "{folder}/requests.txt", "--meter", "3"], "'3': N/D"),
        (["--path", "nowhere.pt"], "--requests"),
        (["--path", "nowhere.pt", "--all-free"], "--all-free is for music of --midi or --hyp"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_one_sentence(
    folder: Path, arguments: list[str], word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    requests(folder, "piano")
    (folder / "bad.txt").write_text("piano\nkazoo\n")
    (folder / "generated.txt").write_text("S-0\tpiano\nH-0\t-1\tb-1\nS-1\tPITCH o-0\nH-1\t-1\tb-1\n")
    status, values, said = run(capsys, *[argument.format(folder=folder) for argument in arguments])
    assert status == 2 and not values
    assert word in said and len(said.strip().splitlines()) == 1


def test_a_picture_shows_a_piece_of_each_request(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib", reason="pictures are an extra (requirements-quickstart.txt)")
    path = requests(folder, "piano meter=3/4", "violin")
    picture = folder / "pictures" / "rolls.png"
    status, values, _ = run(capsys, "--midi", folder / "midi", "--requests", path, "--picture", picture)
    assert status == 0 and values["picture"] == str(picture)
    assert picture.read_bytes().startswith(b"\x89PNG")
