"""One file in; features, labels, guesses and valid music out."""

from argparse import Namespace
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from musicbert_plugin.codecs.octuple import (
    BAR,
    BAR_LENGTHS,
    DRUMS,
    FIELD_SIZES,
    PITCH,
    POSITION,
    PROGRAM,
    TEMPO,
    TIME_SIGNATURE,
    VELOCITY,
    dictionary_text,
    encode,
    frame,
)
from musicbert_plugin.codecs.score import Score, read_midi, write_midi
from musicbert_plugin.errors import CheckpointError, OptionError, ScoreError

LITTLE = {
    "encoder_layers": 2,
    "encoder_embed_dim": 16,
    "encoder_ffn_embed_dim": 24,
    "encoder_attention_heads": 2,
    "max_positions": 256,
}
WINDOW = 30


@pytest.fixture(scope="module")
def hub_class(registered):
    from musicbert_plugin.hub import MusicBERTHub

    return MusicBERTHub


@pytest.fixture(scope="module")
def model(registered):
    from types import SimpleNamespace

    from musicbert_plugin.models.musicbert import MusicBERTModel
    from musicbert_plugin.tasks.octuple_task import octuple_dictionary

    torch.manual_seed(0)
    model = MusicBERTModel.build_model(Namespace(**LITTLE), SimpleNamespace(source_dictionary=octuple_dictionary()))
    for parameter in model.parameters():
        parameter.data.normal_(std=0.3)
    return model


@pytest.fixture(scope="module")
def hub(hub_class, model):
    return hub_class(model)


@pytest.fixture
def saved(tmp_path, model):
    """Write a checkpoint of the model, as ``fairseq-train`` saves it, with changes."""

    def save(state=None, model_options=(), **entries):
        path = tmp_path / "checkpoint_best.pt"
        cfg = {"model": {"_name": "musicbert", **LITTLE, **dict(model_options)}, "task": {"_name": "octuple_masked_lm"}}
        torch.save({"args": None, "cfg": cfg, "model": state or model.state_dict(), **entries}, path)
        return path

    return save


def waltz(bars=6, notes_per_bar=9, tempi=((0, 90.0),)):
    """Bars of 3/4 with a piano, a bass and drums."""
    rng = np.random.default_rng(0)
    n = bars * notes_per_bar
    onset = np.arange(n) // notes_per_bar * 1440 + rng.integers(0, 48, n) * 30
    program = np.tile([0, 0, 32, 0, 128, 128, 0, 32, 0], bars)[:n]
    return Score.of(
        480, onset, onset + rng.integers(60, 960, n), rng.integers(30, 90, n), rng.integers(1, 128, n), program,
        np.searchsorted([0, 32, 128], program), tempi=tempi, meters=[(0, 3, 4)],
    )  # fmt: skip


def rows(octuples):
    return Counter(map(tuple, octuples.tolist()))


# ---------------------------------------------------------------------------------------------------------- checkpoints


def test_a_checkpoint_file_is_all_that_is_needed(hub_class, saved, model):
    hub = hub_class.from_pretrained(saved())
    ids = hub.encode(waltz())
    assert torch.equal(hub.model(ids[None])[0], model.eval()(ids[None])[0])
    assert not hub.model.training


def test_files_that_fairseq_train_writes_and_older_ones_load(hub_class, tmp_path, model):
    path = tmp_path / "old.pt"
    args = Namespace(arch="musicbert_small", task="masked_lm", **LITTLE)
    torch.save({"args": args, "model": model.state_dict()}, path)
    assert hub_class.from_pretrained(path).model.args.encoder_embed_dim == 16


def test_the_dictionary_beside_a_file_must_be_the_codecs(hub_class, saved):
    path = saved()
    path.with_name("dict.txt").write_text(dictionary_text())
    hub_class.from_pretrained(path)
    path.with_name("dict.txt").write_text(dictionary_text().replace("<0-0> 0\n", ""))
    with pytest.raises(CheckpointError, match=r"dict\.txt is not the octuple dictionary"):
        hub_class.from_pretrained(path)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"_name": "roberta_base"}, "'roberta_base'"),
        ({"encoder_embed_dim": 32}, "size mismatch"),
        ({"encoder_layers": 3}, "Missing key"),
    ],
)
def test_other_architectures_are_refused(hub_class, saved, options, words):
    with pytest.raises(CheckpointError, match=words):
        hub_class.from_pretrained(saved(model_options=options))


def test_no_file_and_no_description_are_refused(hub_class, saved, tmp_path):
    with pytest.raises(CheckpointError, match="is not a file"):
        hub_class.from_pretrained(tmp_path / "nothing.pt")
    with pytest.raises(CheckpointError, match="so its model is unknown"):
        hub_class.from_pretrained(saved(cfg=None))


@pytest.mark.parametrize("source", ["state", "task", "file", "nowhere"])
def test_class_names_come_from_the_checkpoint_or_from_labels_txt(hub_class, saved, model, source):
    state = {
        **model.state_dict(),
        "classification_heads.mood.dense.weight": torch.randn(16, 16),
        "classification_heads.mood.dense.bias": torch.zeros(16),
        "classification_heads.mood.out_proj.weight": torch.randn(3, 16),
        "classification_heads.mood.out_proj.bias": torch.zeros(3),
    }
    names = ["happy", "sad", "calm"]
    if source == "state":
        path = saved(state, task_state={"label_names": {"mood": names}})
    elif source == "task":
        path = saved(
            state, cfg={"model": {"_name": "musicbert", **LITTLE}, "task": {"_name": "xai", "label_names": names}}
        )
    else:
        path = saved(state)
    if source == "file":
        path.with_name("labels.txt").write_text("happy\nsad\ncalm\n")
    hub = hub_class.from_pretrained(path)
    classes = hub.classify(waltz())
    assert set(classes) == set(names if source != "nowhere" else "012")
    assert sum(classes.values()) == pytest.approx(1)
    assert list(classes.values()) == sorted(classes.values(), reverse=True)
    path.with_name("labels.txt").write_text("happy\nsad\n")
    if source in ("file", "nowhere"):
        with pytest.raises(CheckpointError, match="names 2 classes"):
            hub_class.from_pretrained(path)


def test_a_head_that_the_model_lacks_is_named(hub):
    with pytest.raises(OptionError, match="'mood', but the model has none"):
        hub.classify(waltz(), "mood")


# ------------------------------------------------------------------------------------------------ music in, states out


def test_music_may_be_a_file_a_score_octuples_or_ids(hub, tmp_path):
    score = waltz(2)
    write_midi(score, tmp_path / "waltz.mid")
    octuples = encode(score)
    ids = hub.encode(score)
    assert np.array_equal(ids.numpy(), frame(octuples))
    for music in (tmp_path / "waltz.mid", str(tmp_path / "waltz.mid"), octuples, ids, ids.numpy()):
        assert torch.equal(hub.encode(music), ids)
    assert rows(encode(hub.decode(ids))) == rows(octuples)


@pytest.mark.parametrize(
    ("music", "words"),
    [
        (np.zeros((3, 7), int), r"shape \(3, 7\)"),
        (np.zeros((0, 8), int), "N > 0"),
        (np.full((2, 8), 200), "position of note 0 is 200; 0 to 127"),
        (np.array([[1, *[0] * 7], [0] * 8]), "descend"),
        (torch.tensor([4, 260, 388]), "3 of the token ids"),
    ],
)
def test_what_is_no_piece_is_refused(hub, music, words):
    with pytest.raises(ScoreError, match=words):
        hub.encode(music)


def test_states_of_every_layer_are_those_of_the_model(hub):
    score = waltz(3)
    n = len(score)
    states = hub.extract_features(score, layers=[0, 1, 2])
    inner = hub.model(hub.encode(score)[None], return_all_hiddens=True)[1]["inner_states"]
    assert states.shape == (3, n, 16)
    for ours, theirs in zip(states, inner, strict=True):
        assert torch.equal(ours, theirs[0, 1:-1])
    assert torch.equal(hub.extract_features(score), states[2])
    assert torch.equal(hub.extract_features(score, layers=[-1])[0], states[2])
    for layer in (3, -4, 0.5):
        with pytest.raises(OptionError, match="layer"):
            hub.extract_features(score, layers=[layer])


def test_long_pieces_go_through_the_model_in_windows(hub):
    """Each note's state is that of the window in whose middle it lies; every note has one."""
    octuples = encode(waltz(40))
    states = hub.extract_features(octuples)
    assert states.shape == (len(octuples), 16)
    first = hub.extract_features(octuples[:WINDOW])
    edge = (WINDOW // 2 + WINDOW) // 2
    assert torch.equal(states[:edge], first[:edge])
    second = hub.extract_features(octuples[WINDOW // 2 : WINDOW // 2 + WINDOW])
    assert torch.equal(states[edge:WINDOW], second[edge - WINDOW // 2 : WINDOW // 2])


@given(gaps=st.lists(st.integers(0, 400), min_size=1, max_size=40), window=st.integers(1, 12))
def test_windows_cover_every_note_and_span_no_more_than_the_bars_there_are(hub_class, gaps, window):
    from musicbert_plugin.hub.musicbert import _window_bounds

    bars = np.cumsum(gaps)
    bounds = _window_bounds(bars, window)
    assert bounds[0][0] == 0 and bounds[-1][1] == len(bars)
    for begin, end in bounds:
        assert 0 < end - begin <= window and bars[end - 1] - bars[begin] < 256
    for (begin, end), (next_begin, next_end) in zip(bounds, bounds[1:], strict=False):
        assert begin < next_begin <= end < next_end


def test_pieces_of_any_number_of_bars_have_states_but_no_ids(hub):
    octuples = encode(waltz(4))
    far = octuples.copy()
    far[18:, BAR] += 1000
    assert hub.extract_features(far).shape == (36, 16)
    assert hub.sentence_vector(far).shape == (16,)
    with pytest.raises(ScoreError, match="1004 bars"):
        hub.encode(far)


def test_the_first_feature_is_what_classification_heads_see(hub):
    ids = hub.encode(waltz(3))
    features = hub.model(ids[None], features_only=True)[0]
    assert torch.allclose(hub.sentence_vector(ids, "first"), features[0, 0], atol=1e-6)


def test_a_sentence_vector_is_the_mean_of_the_states_unless_a_head_was_trained(hub, hub_class, saved, model):
    piece = waltz(12)  # of more than one window
    mean = hub.extract_features(piece).mean(0)
    assert torch.allclose(hub.sentence_vector(piece), mean, atol=1e-6)
    with pytest.raises(OptionError, match="'mean' or 'first'"):
        hub.sentence_vector(piece, "last")
    state = dict(model.state_dict())
    for name, shape in {"dense.weight": (16, 16), "dense.bias": (16,), "out_proj.weight": (3, 16)}.items():
        state[f"classification_heads.genre.{name}"] = torch.randn(shape)
    state["classification_heads.genre.out_proj.bias"] = torch.zeros(3)
    trained = hub_class.from_pretrained(saved(state))
    assert torch.equal(trained.sentence_vector(piece), trained.sentence_vector(piece, "first"))
    assert torch.allclose(trained.sentence_vector(piece, "mean"), mean, atol=1e-5)


def test_states_are_laid_on_the_notes_of_the_file(hub, tmp_path):
    """Against encoding every note alone, with doubled notes, notes of one position, and one out of reach."""
    rng = np.random.default_rng(0)
    onset = rng.integers(0, 20, 120) * 60 + rng.integers(0, 3, 120)
    onset[-1] = 300 * 2**20
    program, pitch, velocity = rng.integers(0, 3, 120), rng.integers(60, 64, 120), rng.integers(1, 9, 120)
    score = Score.of(480, onset, onset + 60, pitch, velocity, program, program, [(480, 90)], [(0, 3, 4), (1440, 2, 4)])
    octuples, order = hub.octuples(score), hub.note_order(score)
    assert sorted(order.tolist()) == list(range(119))
    for row, note in zip(octuples, order.tolist(), strict=True):
        np.testing.assert_array_equal(row, encode(score.select(np.array([note])))[0])
    write_midi(score.select(np.arange(119)), tmp_path / "a.mid")
    read = hub.reading.read(tmp_path / "a.mid")
    by_note = encode(read)[np.argsort(hub.note_order(tmp_path / "a.mid"))]
    np.testing.assert_array_equal(by_note[:, PITCH], read.pitch + 128 * (read.program == 128))
    np.testing.assert_array_equal(by_note[:, VELOCITY], read.velocity // 4)


# ------------------------------------------------------------------------------------------------------------ fill_mask


def test_masked_fields_are_guessed_from_their_own_vocabulary(hub):
    octuples = encode(waltz(3)).astype(np.int64)
    mask = np.random.default_rng(0).random(octuples.shape) < 0.4
    filled = hub.fill_mask(octuples, mask, topk=5)
    assert np.array_equal(filled.octuples[~mask], octuples[~mask])
    assert np.array_equal(filled.octuples[mask], filled.values[:, 0])
    assert filled.values.shape == filled.probabilities.shape == (mask.sum(), 5)
    sizes = np.array(FIELD_SIZES)[mask.nonzero()[1]]
    assert (filled.values >= 0).all() and (filled.values < sizes[:, None]).all()
    assert (np.diff(filled.probabilities, axis=1) <= 0).all() and (filled.probabilities.sum(1) <= 1).all()
    everything = hub.fill_mask(octuples, mask, top_k=32).probabilities[mask.nonzero()[1] == VELOCITY]
    assert everything.sum(1) == pytest.approx(np.ones(len(everything)))


def test_guesses_do_not_depend_on_what_is_masked_away(hub):
    octuples = encode(waltz(3)).astype(np.int64)
    mask = np.zeros(octuples.shape, bool)
    mask[4:8, PITCH] = True
    other = octuples.copy()
    other[4:8, PITCH] = 0
    assert np.array_equal(hub.fill_mask(octuples, mask).values, hub.fill_mask(other, mask).values)


def test_token_ids_may_carry_their_masks(hub):
    octuples = encode(waltz(3)).astype(np.int64)
    mask = np.random.default_rng(0).random(octuples.shape) < 0.2
    ids = hub.encode(octuples)
    ids[8:-8][torch.from_numpy(mask).flatten()] = 1236
    filled, expected = hub.fill_mask(ids), hub.fill_mask(octuples, mask)
    for ours, theirs in zip(filled, expected, strict=True):
        assert np.array_equal(ours, theirs)
    for wrong in (octuples, torch.zeros(7, dtype=torch.long)):
        with pytest.raises(OptionError, match="a mask is needed"):
            hub.fill_mask(wrong)
    with pytest.raises(ScoreError, match="outside the vocabulary"):
        hub.fill_mask(ids.roll(1))


def test_masks_that_cannot_be_are_refused(hub):
    octuples = encode(waltz(2))
    with pytest.raises(OptionError, match="mask is"):
        hub.fill_mask(octuples, np.zeros((3, 8), bool))
    with pytest.raises(OptionError, match="top_k is 33"):
        hub.fill_mask(octuples, np.zeros(octuples.shape, bool), top_k=33)
    with pytest.raises(OptionError, match="up to 30 notes"):
        hub.fill_mask(encode(waltz(8)), np.zeros((72, 8), bool))


def test_a_piece_beyond_the_published_encodings_end_gives_a_row_for_every_note(hub, model, caplog):
    """1,024 bars of 4/4 are where the published form ends; features, vectors and infilling go on."""
    onset = np.arange(0, 1100, 4) * 1920
    score = Score.of(480, onset, onset + 480, 60 + np.arange(len(onset)) % 12)
    assert hub.extract_features(score).shape == (len(score), 16)
    assert hub.sentence_vector(score).shape == (16,)
    filled = hub.infill(score, [1096])
    assert len(filled) == len(score) and np.array_equal(np.sort(filled.onset)[:-1], onset[:-1])
    assert encode(filled)[-1, BAR] == 1096
    assert not caplog.messages
    far = Score.of(480, [0, 2**31 - 1], [480, 2**31 - 1], [60, 61])
    assert len(hub.extract_features(far)) == 1
    assert caplog.messages == ["the score: 1 notes from position 4194304 on are left out"]


def test_a_file_that_had_to_be_repaired_is_named(hub, tmp_path, caplog):
    write_midi(waltz(), tmp_path / "high.mid")
    data = bytearray((tmp_path / "high.mid").read_bytes())
    data[data.index(b"\x90") + 2] |= 0x80
    (tmp_path / "high.mid").write_bytes(data)
    assert len(hub.extract_features(tmp_path / "high.mid")) == len(waltz())
    assert len(hub.infill(tmp_path / "high.mid", [1])) == len(waltz())
    assert caplog.messages == [f"{tmp_path / 'high.mid'}: repaired: data byte above 127, read as 127 (1)"] * 2


# --------------------------------------------------------------------------------------------------------------- infill


def check_infilled(before, after, bars, programs, counts=None, redraw=""):
    """The octuples that a redrawing promises: everything but the masked notes, and valid notes in their place.

    One meter and one tempo to a bar in which nothing stayed, where both are redrawn.
    """
    masked = np.isin(before[:, BAR], bars) & np.isin(before[:, PROGRAM], programs)
    kept = rows(before[~masked])
    assert not kept - rows(after), "every other note is as it was"
    new = np.array(list((rows(after) - kept).elements())).reshape(-1, 8)
    if counts is None:
        assert rows(new[:, [BAR, PROGRAM]]) <= rows(before[masked][:, [BAR, PROGRAM]]), "fewer where notes coincide"
    assert ((new[:, PITCH] >= 128) == (new[:, PROGRAM] == DRUMS)).all()
    for bar in np.setdiff1d(new[:, BAR], before[~masked][:, BAR]):
        of_bar = new[new[:, BAR] == bar]
        if redraw:
            assert len(np.unique(of_bar[:, [TIME_SIGNATURE, TEMPO]], axis=0)) == 1, "one meter and tempo to a bar"
            assert (of_bar[:, POSITION] < BAR_LENGTHS[of_bar[0, TIME_SIGNATURE]]).all()
    return new


@pytest.mark.parametrize(
    "options", [{}, {"temperature": 0}, {"top_k": 3, "passes": 1}, {"temperature": 2.0, "passes": 3}]
)
@pytest.mark.parametrize("bars", [[2, 3], [0, 5], 4, range(6)])
@pytest.mark.parametrize("redraw", ["", "meter,tempo"])
def test_whole_bars_are_redrawn(hub, bars, options, redraw):
    score = waltz(tempi=((0, 90.0), (3000, 120.0)))
    filled = hub.infill(score, bars, redraw=redraw, **options)
    before, after = encode(score), encode(filled)
    new = check_infilled(before, after, bars if not isinstance(bars, int) else [bars], [0, 32, 128], redraw=redraw)
    if not redraw:
        assert np.array_equal(filled.tempo_tick, score.tempo_tick) and np.array_equal(filled.meter_tick, [0])
    assert rows(new) != rows(before[np.isin(before[:, BAR], bars)])


@pytest.mark.parametrize("instruments", [[0], [128], [32, 0]])
def test_one_instrument_is_redrawn_and_the_bar_keeps_meter_and_tempo(hub, instruments):
    score = waltz()
    before, after = encode(score), encode(hub.infill(score, [1, 2], instruments=instruments))
    check_infilled(before, after, [1, 2], instruments)
    assert set(map(tuple, after[:, [TIME_SIGNATURE, TEMPO]])) == set(map(tuple, before[:, [TIME_SIGNATURE, TEMPO]]))


def test_what_stays_keeps_ticks_velocities_and_tracks(hub):
    score = waltz()
    filled = hub.infill(score, [1], instruments=[32])
    drawn = (encode(score)[:, BAR] == 1) & (encode(score)[:, PROGRAM] == 32)
    stayed = len(score) - drawn.sum()
    columns = ("onset", "end", "pitch", "velocity", "program", "track")
    assert filled.resolution == score.resolution
    old = rows(np.stack([getattr(score, c) for c in columns], 1))
    unchanged = rows(np.stack([getattr(filled, c)[:stayed] for c in columns], 1))
    assert not unchanged - old
    assert set(filled.track[stayed:]) == {1}, "new notes go to the track of their instrument"


def test_another_number_of_notes_may_be_asked_for(hub):
    score = waltz()
    before = encode(score)
    after = encode(hub.infill(score, [1, 2], notes=4))
    check_infilled(before, after, [1, 2], [0, 32, 128], counts=4)
    assert [(after[:, BAR] == bar).sum() for bar in range(6)] == [9, 4, 4, 9, 9, 9]
    after = encode(hub.infill(score, [1, 2], instruments=[0], notes={2: 12}))
    piano = after[after[:, PROGRAM] == 0]
    assert [(piano[:, BAR] == bar).sum() for bar in range(4)] == [5, 5, 12, 5]
    emptied = encode(hub.infill(score, 3, notes=0))
    assert rows(emptied) == rows(before[before[:, BAR] != 3])


def test_an_empty_bar_may_be_filled(hub):
    score = waltz()
    score = score.select(score.onset // 1440 != 2)
    after = encode(hub.infill(score, [2], notes=8))
    assert (after[:, BAR] == 2).sum() == 8
    with pytest.raises(OptionError, match=r"bars \[2\] have no note"):
        hub.infill(score, [2])


def test_many_passes_draw_from_the_models_distribution_too(monkeypatch):
    """A model that always says 0.6, 0.3, 0.1: keeping the most certain first must not favour the commonest value.

    The distribution is that of the drawn notes, before those that coincide are merged.
    """
    from musicbert_plugin.generation import infilling
    from musicbert_plugin.generation.infilling import Sampling, infill

    monkeypatch.setattr(infilling, "without_overlaps", lambda score, new: score)

    def predict(octuples, unknown, asked):
        shares = [np.zeros((asked[:, f].sum(), n)) for f, n in enumerate(FIELD_SIZES)]
        for share in shares:
            share[:, :3] = 0.6, 0.3, 0.1
        with np.errstate(divide="ignore"):
            return [np.log(share) for share in shares]

    score = waltz(40)
    score = score.select(score.program != DRUMS)
    filled = encode(infill(score, range(40), predict, window=400, instruments=[0], sampling=Sampling(passes=12)))
    for field in (POSITION, PITCH, VELOCITY):
        drawn = np.bincount(filled[filled[:, PROGRAM] == 0, field], minlength=3) / 200
        assert drawn == pytest.approx([0.6, 0.3, 0.1], abs=0.1)


def test_the_seed_decides(hub):
    first, again, other = (encode(hub.infill(waltz(), [1], seed=seed)) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_longer_pieces_than_the_model_sees_are_redrawn_with_their_surroundings(hub):
    score = waltz(60)
    before = encode(score)
    for bars in ([30, 31], range(10, 25), [3, 58]):
        check_infilled(before, encode(hub.infill(score, bars, passes=2)), list(bars), [0, 32, 128])


def test_a_written_file_holds_the_redrawn_piece(hub, tmp_path):
    filled = hub.infill(waltz(), [2, 3])
    write_midi(filled, tmp_path / "filled.mid")
    assert rows(encode(read_midi(tmp_path / "filled.mid"))) == rows(encode(filled))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"bars": [6]}, "bars 0 to 5"),
        ({"bars": []}, "bars 0 to 5"),
        ({"bars": [1], "instruments": [5]}, r"programs \[0, 32, 128\]"),
        ({"bars": [1], "temperature": -1}, "temperature is -1"),
        ({"bars": [1], "top_k": -1}, "top_k is -1"),
        ({"bars": [1], "passes": 0}, "passes is 0"),
        ({"bars": [1], "notes": {2: 1}}, r"for the bars \[1\]"),
        ({"bars": [1], "notes": -1}, "0 or more is accepted"),
        ({"bars": [1], "redraw": "key"}, "meter, tempo or both"),
    ],
)
def test_what_cannot_be_redrawn_is_told_in_a_sentence(hub, options, words):
    with pytest.raises(OptionError, match=words):
        hub.infill(waltz(), **options)


@st.composite
def pieces(draw):
    resolution = draw(st.sampled_from([7, 24, 96, 100, 480]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    n = draw(st.integers(1, 60))
    end = 12 * 4 * resolution
    onset = rng.integers(0, end, n)
    times = [np.sort(rng.integers(0, end, rng.integers(0, 4))).tolist() for _ in range(2)]
    return Score.of(
        resolution, onset, onset + rng.integers(0, 3 * resolution, n), rng.integers(0, 128, n), rng.integers(1, 128, n),
        rng.choice([0, 5, 128], n), tempi=[(t, float(rng.integers(20, 250))) for t in times[0]],
        meters=[(t, int(rng.integers(1, 9)), int(2 ** rng.integers(1, 4))) for t in times[1]],
    )  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(
    score=pieces(),
    seed=st.integers(0, 1000),
    window=st.sampled_from([1, 5, 1000]),
    redraw=st.sampled_from(["", "meter", "tempo", "meter,tempo"]),
)
def test_any_piece_and_any_model_give_a_valid_piece(score, seed, window, redraw):
    """Meters and tempi that change anywhere, coarse ticks, a model that knows nothing and sees little."""
    from musicbert_plugin.generation.infilling import Sampling, infill

    rng = np.random.default_rng(seed)

    def predict(octuples, unknown, asked):
        assert len(octuples) <= window and asked.any() and not (asked & ~unknown).any()
        assert (octuples[:, BAR] >= 0).all() and (octuples[:, BAR] < 256).all()
        return [np.log(rng.dirichlet(np.ones(n), asked[:, f].sum()) + 1e-300) for f, n in enumerate(FIELD_SIZES)]

    before = encode(score)
    bars = rng.choice(np.unique(before[:, BAR]), 2).tolist()
    present = np.unique(before[np.isin(before[:, BAR], bars), PROGRAM]).tolist()
    programs = present[: rng.integers(1, len(present) + 1)]
    filled = infill(
        score, bars, predict, window=window, instruments=programs, sampling=Sampling(passes=3), seed=seed, redraw=redraw
    )
    assert (np.diff(filled.tempo_tick) >= 0).all() and (np.diff(filled.meter_tick) >= 0).all()
    check_infilled(before, encode(filled), bars, programs, redraw="," in redraw)
