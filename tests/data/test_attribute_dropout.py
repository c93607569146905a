"""The masks of attributes follow their laws, counted over many draws."""

import numpy as np

from musicbert_plugin.codecs.attributes import KEYS, NA, NO, SLOT_CLASSES, SLOT_KEY, YES
from musicbert_plugin.codecs.remi import COMMANDS
from musicbert_plugin.data.attribute_dropout import drop_attributes, visible_words

MULTIPLE = np.array([COMMANDS[key][1] > 0 for key in SLOT_KEY])
DRAWS = 4000


def known(seed=0):
    """A class vector without NA."""
    return np.random.default_rng(seed).integers(0, SLOT_CLASSES - 1).astype(np.uint8)


def drawn(law, classes, p=0.4):
    generator = np.random.default_rng(5)
    return np.stack([drop_attributes(classes, generator, law, p) for _ in range(DRAWS)])


def test_steps_tell_as_many_attributes_as_the_law_says():
    classes = known()
    told = drawn("steps", classes) != NA
    counts = np.bincount([len({int(key) for key in SLOT_KEY[row]}) for row in told], minlength=16) / DRAWS
    weights = np.array([0, 5, 5, 5, 5, 0, 3, 3, 3, *[2] * 6, 0])
    assert np.abs(counts - weights / weights.sum()).max() < 0.025
    each = np.array([told[:, SLOT_KEY == key].any(1).mean() for key in range(len(KEYS))])
    assert np.abs(each - (weights @ np.arange(16)) / weights.sum() / 15).max() < 0.035, "each as often"


def test_steps_tell_what_is_true_and_some_members_at_least():
    classes = known()
    for row in drawn("steps", classes)[:500]:
        told = row != NA
        assert (row[told] == classes[told]).all()
        for key in (0, 6):
            members = SLOT_KEY == key
            if (told & members).any():
                for answer in (YES, NO):
                    there = (members & (classes == answer)).sum()
                    assert min(1, there) <= (members & told & (row == answer)).sum() <= there


def test_an_unknown_attribute_stays_unknown():
    assert (drawn("steps", NA)[:200] == NA).all()


def test_probability_hides_each_word_on_its_own_and_never_says_no():
    classes = known()
    found = drawn("probability", classes, p=0.3)
    told = (found != NA).mean(0)
    denied = MULTIPLE & (classes == NO)
    assert not told[denied].any() and np.abs(told[~denied] - 0.7).max() < 0.04


def test_none_tells_everything():
    assert (drawn("none", known())[:5] == known()).all()


def test_the_words_that_training_can_show_are_those_of_the_samples():
    classes = np.tile(NA, (3, 1))
    key, piano, drum = (int(np.flatnonzero(SLOT_KEY == KEYS.index(name))[at]) for name, at in WORD_SLOTS)
    classes[0, [key, piano]] = 1, YES
    classes[2, drum] = NO
    assert visible_words(classes, "steps") == visible_words(classes, "none") == ["I1s2_0_0", "I1s2_27_1", "K1_1"]
    assert visible_words(classes, "probability") == ["I1s2_0_0", "K1_1"], "absent members are never visible"
    for law in ("steps", "probability", "none"):
        draws = np.concatenate([drawn(law, row)[:300] for row in classes])
        assert set(visible_words(draws, law)) == set(visible_words(classes, law))


WORD_SLOTS = (("K1", 0), ("I1s2", 0), ("I1s2", 27))
