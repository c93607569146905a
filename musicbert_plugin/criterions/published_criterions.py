"""Criterions of published files, registered for loading only.

fairseq looks up the criterion of an older file (one with ``args``) when it reads the file, whatever the file is read
for.  The names here are those of MusicBERT's genre and style heads and of Music XAI's files; they compute nothing.  The
tasks are in ``tasks.published_tasks``.
"""

# No "from __future__ import annotations": fairseq reads the types of a dataclass's fields, not their text.
from dataclasses import dataclass
from typing import Any, NoReturn

from fairseq.criterions import FairseqCriterion, register_criterion
from fairseq.dataclass import FairseqDataclass

from musicbert_plugin.compat.checkpoint_configuration import LOADED_ONLY
from musicbert_plugin.errors import OptionError

NAMES = LOADED_ONLY["criterion"]


@dataclass
class PublishedCriterionConfig(FairseqDataclass):
    """No options: nothing is computed."""


class PublishedCriterion(FairseqCriterion):
    """A criterion that is only named in files; see the module."""

    @classmethod
    def build_criterion(cls, cfg: Any, task: Any) -> NoReturn:
        """Raise :class:`OptionError`: the criterion has no loss."""
        raise OptionError(
            f"The criterion {getattr(cfg, '_name', None) or 'of this file'} only loads published files: "
            "musicbert_plugin.hub.MusicBERTHub applies their heads."
        )


for _name in NAMES:
    # fairseq refuses two criterions of one class name
    _class = type(f"PublishedCriterion_{_name}", (PublishedCriterion,), {"__module__": __name__, "__doc__": None})
    register_criterion(_name, dataclass=PublishedCriterionConfig)(_class)
