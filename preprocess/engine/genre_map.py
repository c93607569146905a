"""Genres of files by their md5: the labels of MusicBERT's genre (TOPMAGD) and style (MASD) tasks.

The map is a JSON object ``{subset: {md5: [genre, ...]}}``.  The key of a file is its name, without suffixes, if that is
32 hexadecimal digits, as in the Lakh MIDI dataset; of any other file it is the md5 of the content.  Genres are
distinct, sorted, and have hyphens for spaces; they are joined by ``/``.
"""

from __future__ import annotations

import re

from musicbert_plugin.data.labels import SEPARATOR
from musicbert_plugin.errors import OptionError, ScoreError
from musicbert_plugin.parsing import read_json, shortened
from musicbert_plugin.tables import normal_text
from preprocess.engine.cli import say
from preprocess.engine.sources import Collection, content_hash

_MD5 = re.compile("[0-9a-f]{32}")


def read_genre_map(path: str, subset: str) -> dict[str, list[str]]:
    """The genres of each md5 of a subset.

    Raises
    ------
    OptionError
        The map cannot be read, has another form, or lacks the subset.
    """
    try:
        content = read_json(path)
    except ValueError as error:
        raise OptionError(f"--genre-map {path}: cannot be read as JSON ({error}).") from None
    found = content.get(subset) if isinstance(content, dict) else None
    if not isinstance(found, dict):
        known = f"; it has {', '.join(map(shortened, content))}" if isinstance(content, dict) and content else ""
        raise OptionError(f"--genre-map {path}: no object {subset!r} from md5 to genres in it{known}.")
    genres: dict[str, list[str]] = {}
    for key, names in found.items():
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise OptionError(f"--genre-map {path}: {key} has {shortened(names)}; a list of names is accepted.")
        distinct = {normal_text(name).replace(" ", "-") for name in names}
        genres[key.lower()] = sorted(name for name in distinct if name)
    return genres


def genre_cells(
    collection: Collection, genres: dict[str, list[str]], where: str, largest_file: int
) -> tuple[dict[str, str], dict[str, str]]:
    """The genres of the files of a source that the map has.

    Parameters
    ----------
    collection : Collection
    genres : dict
        The result of :func:`read_genre_map`.
    where : str
        The map, for messages.
    largest_file : int
        Bytes; larger files have no genres.

    Returns
    -------
    dict of str to str, dict of str to str
        From file to its cell; and from file to why it has none, if it cannot be read or a genre cannot be stored.

    Raises
    ------
    OptionError
        No file is in the map.
    """
    keys: dict[str, str] = {}
    wrong: dict[str, str] = {}
    names = collection.names
    stems = [name.rpartition("/")[2].partition(".")[0].lower() for name in names]
    by_content = [not _MD5.fullmatch(stem) for stem in stems]
    for name, stem, other in zip(names, stems, by_content, strict=True):
        if not other:
            keys[name] = stem
    for index, number, inner, place in collection.tasks(by_content, largest_file):
        try:
            keys[names[index]] = content_hash(collection.sources[number], inner, place, largest_file, "md5")
        except ScoreError as error:
            wrong[names[index]] = error.sentence.rstrip(".")
    cells = {}
    for name in sorted(keys):
        found = genres.get(keys[name], [])
        if odd := next((genre for genre in found if SEPARATOR in genre), ""):
            wrong[name] = f"the genre {odd!r} has a '{SEPARATOR}', which separates the tags of a dataset"
        elif found:
            cells[name] = SEPARATOR.join(found)
    if not cells:
        raise OptionError(
            f"{where}: none of the {len(names):,} files is in it, by the md5 of its name or of its content."
        )
    say(f"{where}: {len(cells):,} of {len(names):,} files are in it.")
    return cells, wrong
