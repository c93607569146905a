"""Whatever random weights write decodes without a repair, satisfies its constraints, and begins with its prompt."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from musicbert_plugin.codecs import remi
from musicbert_plugin.codecs.attributes import GROUP_OF_PROGRAM, SLOT_OF, command_ids
from musicbert_plugin.codecs.requests import parse_request
from musicbert_plugin.codecs.score import DRUMS, Score, write_midi
from musicbert_plugin.errors import OptionError

pytestmark = pytest.mark.usefixtures("registered")
REQUESTS = ("piano violin no-drum key=minor", "drum bass bars=4", "")


@pytest.fixture(scope="module")
def model():
    """The debug size with random weights that differ between words, so that it writes all kinds of things."""
    from argparse import Namespace

    from fairseq.data import Dictionary
    from fairseq.models import ARCH_CONFIG_REGISTRY

    import musicbert_plugin

    musicbert_plugin.register()
    torch.set_num_threads(1)
    from musicbert_plugin.models.linear_transformer_lm import LinearTransformerLM

    words = Dictionary()
    for word in remi.dictionary_words():
        words.add_symbol(word)
    args = Namespace()
    ARCH_CONFIG_REGISTRY["linear_transformer_lm_debug"](args)
    torch.manual_seed(3)
    model = LinearTransformerLM.build_model(args, Namespace(source_dictionary=words, cfg=None)).eval()
    with torch.no_grad():
        model.decoder.output_projection.weight.mul_(4)
    return model


def generator_of(model, layout="bar-tempo", prompt=None, **constraints):
    from musicbert_plugin.generation.generator import ConditionalGenerator, Constraints

    return ConditionalGenerator(
        model, words=remi.WORDS, layout=layout, constraints=Constraints(**constraints), prompt=prompt
    )


def search(**options):
    from musicbert_plugin.generation.sampling import Search

    return Search(**{"sampling": options.get("beam", 1) == 1, "min_length": 1, **options})


def prefixes(requests=REQUESTS):
    return [command_ids(parse_request(request)) for request in requests]


def small_score(key=0):
    """Two bars of 3/4 for piano, cello and drums, from D upwards."""
    onset = np.array([0, 480, 960, 0, 960, 1440, 1440, 480])
    return Score(
        resolution=480,
        onset=onset,
        end=onset + 400,
        program=np.array([0, 0, 0, 42, 42, 0, 42, DRUMS]),
        pitch=np.array([62, 66, 69, 50, 57, 73, 55, 38]) + key,
        velocity=np.full(8, 80),
        track=np.array([0, 0, 0, 1, 1, 0, 1, 2]),
        tempo_tick=np.array([0]),
        tempo_bpm=np.array([100.0]),
        meter_tick=np.array([0]),
        meter_numerator=np.array([3]),
        meter_denominator=np.array([4]),
    )


def without_empty_end(ids, layout):
    """Music without </s> and without trailing empty bars."""
    ids = np.asarray(ids, np.int64)
    ids = ids[ids != remi.EOS]
    empty = {"bar-tempo": 3, "position-tempo": 2, "notes": 1, "notes-by-program": 1}[layout]
    music = np.flatnonzero((ids >= remi.PITCH) & (ids < remi.PITCH + 256))
    while len(ids) and not (music >= len(ids) - empty).any() and (ids[:-1][-empty:] == remi.BAR_END).any():
        ids = ids[:-empty]
    return ids


def assert_round_trip(ids, layout):
    score, repairs = remi.decode_with_repairs(ids, layout=layout)
    assert not +repairs, repairs
    if len(score.onset):
        again = remi.encode(score, layout, plain=True)
        assert np.array_equal(again, without_empty_end(ids, layout)[: len(again)])
        rest = np.asarray(ids)[len(again) :]
        assert not ((rest >= remi.PITCH) & (rest < remi.PITCH + 256)).any()


@pytest.mark.parametrize("layout", remi.LAYOUTS)
@pytest.mark.parametrize("beam", [1, 4])
@pytest.mark.parametrize("prompted", [False, True])
def test_whatever_is_written_decodes_without_repair_wherever_it_is_cut_off(model, layout, beam, prompted):
    from musicbert_plugin.generation.prompts import prompt_of

    prompt = prompt_of(small_score(), layout) if prompted else None
    writer = generator_of(model, layout, prompt)
    lengths = [5, 6, 7, 8, 9, 11, 14, 47, 200] if beam == 1 else [5, 8, 11, 60]
    for length in [length for length in lengths if prompted or length >= LEAST[layout]]:
        top_k = (0, 15, 3)[length % 3]
        found = writer.generate(prefixes(), search(beam=beam, top_k=top_k, max_length=length, seed=length), count=beam)
        for pieces in found:
            assert pieces
            for piece in pieces:
                written = len(piece.ids) - (0 if prompt is None else len(prompt.ids)) - 1
                assert piece.ids[-1] == remi.EOS and 1 <= written <= length
                assert np.isfinite(piece.scores).all()
                assert_round_trip(piece.ids, layout)


LEAST = {"bar-tempo": 8, "position-tempo": 8, "notes": 5, "notes-by-program": 5}
"""Words of the shortest bar with a note."""


@pytest.fixture(scope="session")
def lengths(sample):
    """8 to 23 words and every ninth length up to 200; with ``--all`` every one."""
    return np.array([*range(8, 24), *sample(range(24, 201), 9)])


def written_at_every_length(writer, lengths, seed, bars=None, **options):
    """What a batch writes whose rows may write so many words, each from command words drawn for it."""
    from musicbert_plugin.codecs.remi_grammar import RemiGrammar

    random = np.random.default_rng(seed)
    commands = [random.integers(985, len(remi.WORDS), 63) for _ in lengths]
    rows = [np.concatenate([[remi.EOS], one, [writer.separator], writer.prompt.ids]) for one in commands]
    grammar = RemiGrammar(writer.layout, words=writer.words)
    limits = {} if bars is None else {"least_bars": bars, "most_bars": bars}
    found = writer.generator.generate(
        [torch.from_numpy(row) for row in rows],
        [64] * len(rows),
        search(max_length=200, seed=seed, **options),
        candidates=options.get("beam", 1),
        grammar=grammar,
        grammar_state=grammar.start(len(rows), lengths, prompt=writer.prompt.ids, **limits),
    )
    for length, pieces in zip(lengths.tolist(), found, strict=True):
        assert pieces
        for piece in pieces:
            assert piece.tokens[-1] == remi.EOS and len(piece.tokens) - 1 <= length
            assert np.isfinite(piece.scores).all()
            assert_round_trip(np.concatenate([writer.prompt.ids, piece.tokens]), writer.layout)
    return [[piece.tokens[:-1] for piece in pieces] for pieces in found]


@pytest.mark.parametrize("layout", remi.LAYOUTS)
@pytest.mark.parametrize("prompted", [False, True])
@pytest.mark.parametrize(
    "options",
    [{"top_k": 15, "min_length": 200}, {"min_length": 0}, {"beam": 4, "min_length": 200}],
    ids=["sampled", "sampled as long as it comes", "beam 4"],
)
def test_a_piece_of_every_length_from_8_to_200_ends_whole(model, layout, prompted, options, lengths):
    """As it comes, or driven into its limit by a minimum that is longer."""
    from musicbert_plugin.generation.prompts import prompt_of

    writer = generator_of(model, layout, prompt_of(small_score(), layout) if prompted else None)
    for length, pieces in zip(lengths, written_at_every_length(writer, lengths, 5, **options), strict=True):
        if options["min_length"]:
            empty_bar = {"bar-tempo": 3, "position-tempo": 2, "notes": 1, "notes-by-program": 1}[layout]
            assert all(length - len(ids) < empty_bar for ids in pieces), "what is left takes no bar"


@pytest.mark.parametrize("layout", remi.LAYOUTS)
@pytest.mark.parametrize("prompted", [False, True])
def test_exact_bars_are_kept_at_every_length_from_8_to_200(model, layout, prompted, lengths):
    from musicbert_plugin.generation.prompts import prompt_of

    writer = generator_of(model, layout, prompt_of(small_score(), layout) if prompted else None)
    new = 1 + lengths // 20
    before = int((writer.prompt.ids == remi.BAR_END).sum())
    found = written_at_every_length(writer, lengths, 6, before + new, top_k=15, min_length=200)
    assert [int((ids == remi.BAR_END).sum()) for (ids,) in found] == new.tolist()


@pytest.mark.parametrize("layout", remi.LAYOUTS)
def test_exact_bars_are_exact_and_beat_the_minimum_length(model, layout):
    for bars in (1, 3, 7):
        writer = generator_of(model, layout, exact_bars=bars)
        for options in ({"max_length": 60}, {"max_length": 300, "min_length": 290}, {"max_length": 40, "beam": 3}):
            for pieces in writer.generate(prefixes(), search(**options), count=2):
                for piece in pieces:
                    assert (piece.ids == remi.BAR_END).sum() == bars
                    assert_round_trip(piece.ids, layout)


def test_a_maximum_too_small_for_the_bars_is_refused_before_the_start(model):
    with pytest.raises(OptionError, match="need at least"):
        generator_of(model, exact_bars=12).generate(prefixes(), search(max_length=20))


def test_bars_of_the_prompt_count(model):
    from musicbert_plugin.generation.prompts import prompt_of

    writer = generator_of(model, prompt=prompt_of(small_score(), "bar-tempo"), exact_bars=4)
    for (piece,) in writer.generate(prefixes(), search(max_length=100)):
        assert (piece.ids == remi.BAR_END).sum() == 4
    later = small_score()
    later = replace(later, onset=later.onset + 1440, end=later.end + 1440)
    writer = generator_of(model, prompt=prompt_of(later, "bar-tempo"), exact_bars=5)
    for (piece,) in writer.generate(prefixes(), search(max_length=100)):
        assert (piece.ids == remi.BAR_END).sum() == 4 and writer.finished(piece).end_tick >= 3 * 1440, "and a rest"
    with pytest.raises(OptionError, match="exact_bars 2: the prompt alone has 3"):
        generator_of(model, prompt=prompt_of(later, "bar-tempo"), exact_bars=2).generate(prefixes(), search())


@pytest.mark.parametrize("grammar", [True, False])
def test_only_instruments_that_were_asked_for_play(model, grammar):
    found = generator_of(model, only_instruments=True, grammar=grammar).generate(
        prefixes(), search(max_length=200, min_length=100), count=3
    )
    for request, pieces in zip(REQUESTS, found, strict=True):
        classes = parse_request(request)
        for piece in pieces:
            inside = (piece.ids >= remi.INSTRUMENT) & (piece.ids <= remi.INSTRUMENT + DRUMS)
            groups = set(GROUP_OF_PROGRAM[piece.ids[inside] - remi.INSTRUMENT].tolist())
            asked = {group for group in range(28) if classes[SLOT_OF["I1s2"] + group] == 0}
            assert groups <= asked or not asked


@pytest.mark.parametrize("layout", remi.LAYOUTS)
@pytest.mark.parametrize("key", [-7, 0, 5])
def test_the_result_begins_with_the_prompt_in_its_own_key(model, layout, key, tmp_path):
    from musicbert_plugin.generation.prompts import read_prompt

    write_midi(small_score(key), tmp_path / "prompt.mid")
    plain = remi.encode(small_score(key), layout, plain=True)
    (tmp_path / "prompt.txt").write_text(remi.to_words(plain) + "\n")
    from_midi = read_prompt(tmp_path / "prompt.mid", layout)
    from_words = read_prompt(tmp_path / "prompt.txt", layout)
    assert np.array_equal(from_midi.ids, from_words.ids) and from_midi.shift == from_words.shift
    assert (2 + key + from_midi.shift) % 12 == 0, "D major, moved by the key, becomes C major"
    for (piece,) in generator_of(model, layout, from_midi).generate(prefixes(), search(max_length=30)):
        assert np.array_equal(piece.ids[: len(plain)], plain)
        assert not piece.scores[: len(plain)].any()


@pytest.mark.parametrize(
    ("line", "kept", "left"),
    [
        ("s-9 t-35 o-0 i-0 p-60 d-12 v-20 o-24 i-0 p-64", "s-9 t-35 o-0 i-0 p-60 d-12 v-20 b-1", "o-24 i-0 p-64"),
        ("s-9 t-35 o-0 i-0 p-60 d-12 v-20", "s-9 t-35 o-0 i-0 p-60 d-12 v-20 b-1", None),
        ("s-9 t-35 o-0 i-0 p-60 d-12 v-20 b-1 s-9", "s-9 t-35 o-0 i-0 p-60 d-12 v-20 b-1", "s-9"),
        ("s-9 t-35 o-0 i-0 p-60 d-12 v-20 b-1 </s>", "s-9 t-35 o-0 i-0 p-60 d-12 v-20 b-1", None),
        ("s-9 t-35 o-0 i-0", "", "s-9 t-35 o-0 i-0"),
    ],
)
def test_an_open_last_bar_of_a_prompt_is_closed_after_its_last_whole_note(tmp_path, caplog, line, kept, left):
    from musicbert_plugin.generation.prompts import read_prompt

    (tmp_path / "prompt.txt").write_text(line + "\n")
    prompt = read_prompt(tmp_path / "prompt.txt", "bar-tempo")
    assert remi.to_words(prompt.ids) == kept
    told = (
        []
        if left is None
        else [f"the last {len(left.split())} words ({left}) are not a complete note and are left out"]
    )
    assert [message.split(": ")[1] for message in caplog.messages] == told


def test_notes_of_a_prompt_that_cannot_be_kept_are_told(caplog):
    from musicbert_plugin.generation.prompts import prompt_of

    late = 2**20 * 40
    score = Score.of(480, [0, 480, 960, 9000, late], [480, 480, 960, 9000, late + 1], [60, 62, 64, 65, 67])
    prompt = prompt_of(score, "bar-tempo", name="a.mid")
    assert remi.decode(prompt.ids).pitch.tolist() == [60] and prompt.score.pitch.tolist() == [60, 62, 64]
    assert caplog.messages == [
        "a.mid: notes without length (2) are not shown to the model; the result has them, one tick long",
        "a.mid: lost: note out of reach (1), note without length (1)",
    ]
    caplog.clear()
    assert len(prompt_of(Score.of(480, [0], [480], [60]), "bar-tempo").score) == 1 and not caplog.messages


@pytest.mark.parametrize(
    ("line", "layout"),
    [
        ("s-9 t-35 o-0 i-0 p-60 d-12 v-20 b-1", "notes"),
        ("o-0 i-0 p-60 d-12 b-1", "bar-tempo"),
        ("s-9 o-0 t-35 i-0 p-60 d-12 v-20 b-1", "bar-tempo"),
        ("s-9 t-35 o-0 i-0 p-60 d-12 v-20 p-62 d-12 v-20 b-1", "bar-tempo"),
    ],
)
def test_a_prompt_of_another_layout_is_told_in_one_sentence(tmp_path, line, layout):
    from musicbert_plugin.generation.prompts import read_prompt

    (tmp_path / "prompt.txt").write_text(line + "\n")
    with pytest.raises(OptionError, match=f"cannot follow there in layout {layout}"):
        read_prompt(tmp_path / "prompt.txt", layout)


def test_bars_are_as_long_as_the_meter_has_them_where_no_word_tells_it(model, tmp_path):
    from musicbert_plugin.generation.prompts import Prompt, read_prompt

    line = "o-0 i-0 p-60 d-12 o-60 i-0 p-64 d-12 b-1"
    (tmp_path / "prompt.txt").write_text(line + "\n")
    with pytest.raises(OptionError, match="o-60, cannot follow there in layout notes; meter sets"):
        read_prompt(tmp_path / "prompt.txt", "notes")
    prompt = read_prompt(tmp_path / "prompt.txt", "notes", (12, 8))
    assert remi.to_words(prompt.ids) == line and prompt.meter == (12, 8)
    lasts = {}
    for meter in ((12, 8), (4, 4), (3, 4)):
        writer = generator_of(model, "notes", prompt if meter == (12, 8) else Prompt(meter=meter))
        ids = np.concatenate([pieces[0].ids for pieces in writer.generate(prefixes(), search(max_length=400), count=2)])
        onsets = ids[(ids >= remi.ONSET) & (ids < remi.ONSET + 128)] - remi.ONSET
        lasts[meter] = int(onsets.max())
        assert not remi.decode_with_repairs(ids[ids != remi.EOS], meter, "notes")[1]
    assert 48 <= lasts[12, 8] < 72 and 36 <= lasts[4, 4] < 48 and lasts[3, 4] < 36


def test_a_prompt_of_other_bars_than_the_meters_is_refused_where_no_word_tells_it(tmp_path):
    from musicbert_plugin.generation.prompts import read_prompt

    write_midi(small_score(), tmp_path / "prompt.mid")
    for meter in (None, (3, 4), (6, 8)):
        assert read_prompt(tmp_path / "prompt.mid", "notes", meter).meter == (meter or (3, 4))
    assert len(read_prompt(tmp_path / "prompt.mid", "bar-tempo", (6, 4)).ids), "there the words tell it"
    with pytest.raises(OptionError, match=r"prompt.mid has bars of 3/4, but meter is 6/4"):
        read_prompt(tmp_path / "prompt.mid", "notes", (6, 4))


@pytest.mark.parametrize("layout", remi.LAYOUTS)
def test_a_pickup_of_a_prompt_stays_next_to_its_bar(layout, caplog):
    """A pickup of one quarter note, written as a bar of 1/4, before bars of 4/4; notes without time signatures, too."""
    from musicbert_plugin.generation.prompts import prompt_of

    onset = np.array([0, 480, 960, 2400, 4320])
    meters = [(0, 1, 4), (480, 4, 4)]
    prompt = prompt_of(Score.of(480, onset, onset + 400, [60, 64, 67, 72, 60], meters=meters), layout)
    assert prompt.meter == (4, 4) and not caplog.messages
    read = remi.decode_with_repairs(prompt.ids, prompt.meter, layout)[0]
    assert (np.diff(read.onset) == np.diff(onset)).all()
    assert read.onset[0] == (1440 if layout in remi.NOTES_ALONE else 0)


def test_shorter_bars_inside_a_prompt_are_stretched_with_a_warning_where_no_word_tells_it(caplog):
    from musicbert_plugin.generation.prompts import prompt_of

    onset = np.array([0, 1920, 2400, 4320])
    meters = [(0, 4, 4), (1920, 1, 4), (2400, 4, 4)]
    prompt_of(Score.of(480, onset, onset + 400, [60, 64, 67, 72], meters=meters), "notes", name="song.mid")
    assert caplog.messages == ["song.mid has bars of several lengths: layout notes makes all of them 4/4"]


def test_a_prompt_names_the_word_that_is_none(tmp_path):
    from musicbert_plugin.generation.prompts import read_prompt

    (tmp_path / "prompt.txt").write_text("s-9 hello b-1\n")
    with pytest.raises(OptionError, match="prompt.txt: 'hello' is not a word of music"):
        read_prompt(tmp_path / "prompt.txt", "bar-tempo")


def test_fewer_bars_than_the_prompt_has_are_refused_in_words(model):
    from musicbert_plugin.generation.prompts import prompt_of

    prompt = prompt_of(small_score(), "bar-tempo")
    with pytest.raises(OptionError, match="exact_bars 1: the prompt alone has 2"):
        generator_of(model, prompt=prompt, exact_bars=1).generate(prefixes(), search(max_length=100))
    with pytest.raises(OptionError, match="exact_bars 0: a piece has at least 1"):
        generator_of(model, exact_bars=0).generate(prefixes(), search(max_length=100))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"temperature": 0.0}, "temperature 0.0: a number above 0"),
        ({"beam": 0}, "beam 0: 1 or more"),
        ({"max_length": 0, "min_length": 0}, "maximum length 0: 1 or more"),
        ({"max_length": 20, "min_length": 30}, "minimum length 30: the maximum length or less"),
    ],
)
def test_numbers_that_no_search_can_go_by_are_refused(model, options, sentence):
    with pytest.raises(OptionError, match=sentence):
        generator_of(model).generate(prefixes(), search(**options))


LIMITED = ("bars=4 tempo=slow no-piano", "bars=8 meter=3/4", "meter=other tempo=fast bars=2", "key=minor no-drum")


def classes_of(piece, layout="bar-tempo"):
    from musicbert_plugin.codecs.attributes import class_vector, extract

    score, repairs = remi.decode_with_repairs(piece.ids, layout=layout)
    assert not +repairs
    return class_vector(extract(remi.grid_of(score)))


@pytest.mark.parametrize("layout", remi.LAYOUTS)
@pytest.mark.parametrize("beam", [1, 3])
def test_each_piece_of_a_batch_keeps_the_limits_of_its_request(model, layout, beam):
    from musicbert_plugin.codecs.request_limits import limited_slots

    rows = prefixes(LIMITED)
    found = generator_of(model, layout).generate(rows, search(beam=beam, max_length=150, top_k=15), count=2)
    for request, pieces in zip(LIMITED, found, strict=True):
        asked = parse_request(request)
        (slots,) = limited_slots(asked[None], layout)
        for piece in pieces:
            has = classes_of(piece, layout)
            assert np.array_equal(has[slots], asked[slots])


def test_limits_of_requests_are_wishes_where_that_is_asked_for(model):
    writer = generator_of(model, limited=False)
    found = writer.generate(prefixes(LIMITED), search(max_length=150, min_length=140, top_k=15), count=3)
    same = [
        (classes_of(piece) == parse_request(request))[[SLOT_OF["B1s1"], SLOT_OF["TS1s1"], SLOT_OF["T1s1"]]]
        for request, pieces in zip(LIMITED[:3], found[:3], strict=True)
        for piece in pieces
    ]
    assert not np.all(same)
    for piece in found[3]:
        assert remi.INSTRUMENT + DRUMS not in piece.ids, "but an instrument that is excluded never sounds"


def test_a_steady_tempo_is_one_tempo_per_piece(model):
    def tempi(**constraints):
        found = generator_of(model, **constraints).generate(
            prefixes(("key=minor", "tempo=fast")), search(max_length=200, min_length=150, top_k=15)
        )
        ids = [piece.ids for (piece,) in found]
        return [len(np.unique(row[(row >= remi.TEMPO) & (row < remi.TEMPO + 49)])) for row in ids]

    assert tempi(steady_tempo=True) == [1, 1]
    free, named = tempi()
    assert free > 1 and named == 1, "a request that names a tempo has one"
    assert tempi(limited=False)[1] > 1
    for option in ({"steady_tempo": True}, {"exact_bars": 3}):
        with pytest.raises(OptionError, match="is kept by the grammar"):
            generator_of(model, grammar=False, **option).generate(prefixes(), search(max_length=20))


def test_a_prompt_that_contradicts_the_request_wins_and_that_is_said(model, caplog):
    from musicbert_plugin.codecs.remi_grammar import transpose
    from musicbert_plugin.generation.prompts import prompt_of

    prompt = prompt_of(small_score(), "bar-tempo")
    writer = generator_of(model, prompt=prompt)
    requests = ("tempo=fast meter=4/4 bars=4 no-cello no-harp", "tempo=moderate meter=3/4 bars=4")
    against, fitting = writer.generate(prefixes(requests), search(max_length=120, top_k=15), lines=[7, 8])
    said = [message for message in caplog.messages if message.startswith(("request 7,", "request 8,"))]
    assert said == [
        "request 7, no-cello: the prompt has this, and what follows it does not",
        "request 7, meter=4/4: the prompt has another time signature, so this is not kept",
        "request 7, tempo=fast: the prompt has another tempo, whose last value is kept instead",
    ]
    for (piece,) in (against, fitting):
        assert np.array_equal(transpose(piece.ids[: len(prompt.ids)], prompt.shift), prompt.ids)
        assert classes_of(piece)[SLOT_OF["T1s1"]] == 1, "the tempo of the prompt goes on"
    assert classes_of(fitting[0])[SLOT_OF["TS1s1"]] == 2
    caplog.clear()
    long = generator_of(model, prompt=prompt_of(small_score(), "bar-tempo"), exact_bars=6)
    long.generate(prefixes(("bars=4",)), search(max_length=120))
    assert caplog.messages[0] == "request 0, 1 to 4 bars: exact_bars 6 is used instead"


def test_too_few_words_are_refused_or_said(model, caplog):
    for layout, least in LEAST.items():
        with pytest.raises(OptionError, match=f"a bar with a note needs at least {least} words"):
            generator_of(model, layout).generate(prefixes(("",)), search(max_length=least - 1))
    writer = generator_of(model)
    ((piece,),) = writer.generate(prefixes(("bars=16",)), search(max_length=30), lines=[4])
    assert caplog.messages[0] == (
        "request 4, 13 to 16 bars: the maximum length of 30 words is too small, so this is not kept"
    )
    assert classes_of(piece)[SLOT_OF["B1s1"]] == 0, "a shorter piece, but one with notes"
    caplog.clear()
    ((piece,),) = generator_of(model, exact_bars=16).generate(prefixes(("",)), search(max_length=80, min_length=70))
    bars, empty = piece.bars
    assert bars == 16 and empty > 8 and piece.cut
    assert caplog.messages == [
        f"request 0: shortened by the maximum length of 80 words (bars: 16, without notes: {empty})"
    ]


def test_a_value_that_training_never_had_is_named_once(model, caplog):
    writer = generator_of(model)
    requests = ("genre=Jazz key=minor no-harp", "genre=Jazz artist=chopin")
    writer.generate(prefixes(requests), search(max_length=20))
    assert not [message for message in caplog.messages if "training" in message], "an older checkpoint does not know"
    writer.seen_attributes = frozenset(["K1_1", "S2s1_0"])
    writer.generate(prefixes(requests), search(max_length=20), lines=[3, 4])
    end = ": the data of the last training never had this value, so it may have no effect"
    said = [message for message in caplog.messages if "training" in message]
    assert said == [f"request 3, genre=Jazz{end}", f"request 4, artist=chopin{end}"]


def test_the_best_candidate_agrees_best(model):
    from musicbert_plugin.generation.generator import agreement

    writer = generator_of(model)
    options = search(max_length=120, seed=4)
    everything = writer.generate(prefixes(), options, count=6)
    best = writer.generate(prefixes(), options, count=6, keep=1)
    for prefix, pieces, (chosen,) in zip(REQUESTS, everything, best, strict=True):
        classes = parse_request(prefix)
        worth = [agreement(classes, writer.score(piece)) for piece in pieces]
        assert agreement(classes, writer.score(chosen)) == max(worth)


def test_four_candidates_are_written_where_something_can_be_chosen():
    from musicbert_plugin.generation.generator import candidates_of
    from musicbert_plugin.generation.prompts import PREFIXES

    attributes, conditions = PREFIXES
    assert candidates_of(None, attributes, search(top_k=15)) == 4
    assert candidates_of(None, conditions, search(top_k=15)) == 1, "conditions have no attributes to compare"
    for same in ({"top_k": 1}, {"beam": 4}, {"sampling": False}):
        assert candidates_of(None, attributes, search(**same)) == 1, "the same music every time"
    for prefix in PREFIXES:
        assert [candidates_of(asked, prefix, search()) for asked in (1, 4, 9)] == [1, 4, 9]
    with pytest.raises(OptionError, match="number of candidates 0: 1 or more"):
        candidates_of(0, attributes, search())


def test_agreement_counts_what_music_can_tell():
    from musicbert_plugin.generation.generator import agreement

    score = small_score()
    assert (
        agreement(parse_request("piano cello drum no-violin meter=3/4 key=major genre=Jazz artist=chopin"), score) == 1
    )
    assert agreement(parse_request("piano no-cello meter=4/4 violin"), score) == 0.25
    assert agreement(parse_request("no-piano"), None) == 0, "silence is no answer"
    assert agreement(parse_request("genre=Jazz"), score) == 1


def test_rows_of_a_batch_are_written_as_they_are_alone(model):
    options = search(max_length=60, seed=9, top_k=15)
    together = generator_of(model).generate(prefixes(), options, lines=[4, 5, 6])
    for number, prefix in enumerate(prefixes()):
        ((alone,),) = generator_of(model).generate([prefix], options, lines=[4 + number])
        assert np.array_equal(alone.ids, together[number][0].ids)


def test_conditions_are_words_of_the_dictionary():
    from musicbert_plugin.generation.prompts import request_ids

    words = [*remi.WORDS[:743], "PITCH", *remi.WORDS[744:]]
    assert request_ids("PITCH o-0 p-60 <sep>", words, "conditions").tolist() == [743, remi.ONSET, remi.PITCH + 60]
    with pytest.raises(OptionError, match="'piano' is not in the model's dictionary"):
        request_ids("PITCH piano", words, "conditions")
    with pytest.raises(OptionError, match="is not an attribute; accepted"):
        request_ids("PITCH", words)


def test_music_words_in_other_places_are_refused(model):
    from musicbert_plugin.generation.generator import ConditionalGenerator

    words = list(remi.WORDS)
    words[10], words[11] = words[11], words[10]
    with pytest.raises(OptionError, match="must keep their rows"):
        ConditionalGenerator(model, words=words, layout="notes")


def test_real_music_serves_as_prompts(model, music_data, tmp_path):
    import zipfile

    from musicbert_plugin.generation.prompts import read_prompt

    with zipfile.ZipFile(music_data / "midi" / "pretrain.zip") as archive:
        names = [name for name in sorted(archive.namelist()) if name.lower().endswith(".mid")][::400]
        for name in names:
            path = tmp_path / "prompt.mid"
            path.write_bytes(archive.read(name))
            prompt = read_prompt(path, "bar-tempo")
            ((piece,),) = generator_of(model, prompt=prompt).generate(prefixes()[:1], search(max_length=30))
            assert_round_trip(piece.ids, "bar-tempo")
            assert len(piece.ids) > len(prompt.ids)


def test_words_in_no_known_order_are_generated_without_a_grammar(model):
    from musicbert_plugin.generation.prompts import make_prompt

    writer = generator_of(model, remi.FREE)
    (piece,) = writer.generate(prefixes(), search(max_length=40))[0]
    assert len(piece.ids) and writer.score(piece) is None or len(writer.score(piece).onset)
    with pytest.raises(OptionError, match="exact_bars is kept by the grammar"):
        generator_of(model, remi.FREE, exact_bars=4).generate(prefixes(), search(max_length=40))
    with pytest.raises(OptionError, match="layout free"):
        make_prompt(small_score(), remi.FREE)
