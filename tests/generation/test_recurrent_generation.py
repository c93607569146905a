"""Recurrent generation gives what the parallel model gives, and chooses by the formulas, alone or in a batch."""

import itertools
import math

import numpy as np
import pytest
import torch

from musicbert_plugin.generation.recurrent_decoder import RecurrentDecoder
from musicbert_plugin.generation.sampling import MusicGenerator, Search, draw
from musicbert_plugin.modules.linear_decoder import LinearDecoder

PAD, END, VOCABULARY = 1, 2, 12


def decoder(vocabulary=VOCABULARY, seed=0, heads=3, scale=6.0):
    torch.manual_seed(seed)
    model = LinearDecoder(vocabulary, 32, 64, 2, heads, pad=PAD).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
        model.output_projection.weight.mul_(scale)
    return model


def generator(model):
    return MusicGenerator(RecurrentDecoder(model), end=END, never=[PAD])


def prefix(length, seed=0, vocabulary=VOCABULARY):
    return torch.from_numpy(np.random.default_rng(seed).integers(3, vocabulary, length))


def log_probabilities(model, tokens, begin, never=(PAD,)):
    """[L, V] of the next token, from the parallel model, with what never comes left out."""
    logits = model.output_projection(model(tokens[None], torch.tensor([begin]))[0])[0].detach()
    logits[:, list(never)] = -torch.inf
    return logits.log_softmax(1)


class EvenOdd:
    """A toy grammar: after an even token comes an odd one and the reverse, and </s> only after the fifth token."""

    def __init__(self, vocabulary=VOCABULARY):
        self.parity = np.arange(vocabulary) % 2

    def start(self, rows):
        return np.zeros((rows, 2), np.int64)

    def allowed(self, state):
        allowed = self.parity[None] != state[:, :1]
        allowed[:, :4] = False
        allowed[:, END] = state[:, 1] >= 5
        return allowed

    def advance(self, state, tokens):
        return np.stack([tokens % 2, state[:, 1] + 1], 1)

    def select(self, state, index):
        return state[index]

    def shortened(self, state):
        return np.zeros(len(state), bool)


def test_steps_after_a_prefix_give_the_parallel_models_logits_in_rows_of_any_length():
    model = decoder()
    rows = [prefix(40, 1), prefix(70, 2), prefix(3, 3)]
    begins, cuts = [5, 0, 2], [11, 64, 1]
    expected = [
        model.output_projection(model(row[None], torch.tensor([b]))[0])[0] for row, b in zip(rows, begins, strict=True)
    ]
    recurrent = RecurrentDecoder(model)
    for row, begin, logits in zip(rows, begins, expected, strict=True):
        again = model.output_projection(model(row[None], torch.tensor([begin]))[0])[0]
        assert torch.equal(again, logits), "turning the weights around changes no value"
    logits = recurrent.start([row[:cut] for row, cut in zip(rows, cuts, strict=True)], begins, 100)
    for step in range(30):
        for row, cut, ours, theirs in zip(rows, cuts, logits, expected, strict=True):
            if cut - 1 + step < len(row):
                assert torch.allclose(ours, theirs[cut - 1 + step], atol=1e-5)
        logits = recurrent.step(
            torch.stack([row[(cut + step) % len(row)] for row, cut in zip(rows, cuts, strict=True)])
        )


@pytest.mark.parametrize("counts", [(40, 17, 16, 15, 1), (16, 15, 2, 1), (1,), (2, 1)])
def test_as_many_or_few_rows_as_there_are_get_the_parallel_models_logits(counts):
    """Products are computed in other ways for other numbers of rows; parameters keep their values in all of them."""
    model = decoder(vocabulary=37)
    values = {name: value.clone() for name, value in model.state_dict().items()}
    rows = torch.stack([prefix(20, seed, 37) for seed in range(counts[0])])
    expected = model.output_projection(model(rows, torch.zeros(len(rows), dtype=torch.int64))[0])
    recurrent = RecurrentDecoder(model)
    for _ in range(2):
        logits = recurrent.start([row[:3] for row in rows], [0] * len(rows), 100)
        for place, count in enumerate(counts, start=2):
            if count < len(logits):
                recurrent.select(torch.arange(count))
            else:
                assert torch.allclose(logits, expected[:, place], atol=1e-5)
            logits = recurrent.step(rows[:count, place + 1])
            assert logits.is_contiguous() and torch.allclose(logits, expected[:count, place + 1], atol=1e-5)
    for name, value in model.state_dict().items():
        assert torch.equal(value, values[name])
    again = model.output_projection(model(rows, torch.zeros(len(rows), dtype=torch.int64))[0])
    assert torch.allclose(again, expected, atol=1e-5) and again.requires_grad


def test_half_precision_steps_are_finite():
    model = decoder().bfloat16()
    recurrent = RecurrentDecoder(model)
    logits = recurrent.start([prefix(9)], [0], 50)
    for _ in range(40):
        logits = recurrent.step(logits.argmax(1))
    assert torch.isfinite(logits).all()


def test_greedy_takes_the_best_token_alone_and_in_a_batch():
    model = decoder()
    prefixes, begins = [prefix(n, n) for n in (3, 17, 70)], [1, 9, 0]
    batch = generator(model).generate(prefixes, begins, Search(max_length=30))
    for row, begin, (piece,) in zip(prefixes, begins, batch, strict=True):
        ((alone,),) = generator(model).generate([row], [begin], Search(max_length=30))
        assert np.array_equal(alone.tokens, piece.tokens)
        assert np.allclose(alone.scores, piece.scores, atol=1e-5)
        whole = torch.cat([row, torch.from_numpy(piece.tokens)])
        logs = log_probabilities(model, whole, begin)[len(row) - 1 : -1]
        reached = len(piece.tokens) - piece.cut
        assert np.array_equal(logs.argmax(1).numpy()[:reached], piece.tokens[:reached])
        assert np.allclose(logs.max(1).values[:reached], piece.scores[:reached], atol=1e-4)
        assert piece.tokens[-1] == END and (piece.tokens[:-1] != END).all()


def test_a_line_draws_the_same_in_every_batch_and_its_candidates_differ():
    model = decoder(scale=1.0)
    search = Search(sampling=True, top_k=8, max_length=300, seed=7)
    prefixes = [prefix(n, n) for n in (3, 17, 40)]
    together = generator(model).generate(prefixes, [0] * 3, search, lines=[10, 11, 12], candidates=3)
    assert len({piece.tokens.tobytes() for pieces in together for piece in pieces}) == 9
    alone = generator(model).generate(prefixes[1:2], [0], search, lines=[11], candidates=2)[0]
    for one, other in zip(alone, together[1], strict=False):
        assert np.array_equal(one.tokens, other.tokens)
    other_seed = generator(model).generate(
        prefixes[1:2], [0], Search(sampling=True, top_k=8, max_length=300, seed=8), lines=[11]
    )
    assert not np.array_equal(other_seed[0][0].tokens, alone[0].tokens)


def by_enumeration(probabilities, top_k, top_p, temperature):
    """The distribution that top-k and then top-p leave, token by token."""
    order = sorted(range(len(probabilities)), key=lambda token: -probabilities[token])
    order = order[: top_k or None]
    weights = [probabilities[token] ** (1 / temperature) for token in order]
    total = sum(weights)
    kept, reached = {}, 0.0
    for token, weight in zip(order, weights, strict=True):
        if not 0 < top_p < 1 or reached < top_p:
            kept[token] = weight / total
        reached += weight / total
    return {token: value / sum(kept.values()) for token, value in kept.items() if value > 0}


@pytest.mark.parametrize(
    ("top_k", "top_p", "temperature"), [*itertools.product((0, 1, 4), (-1.0, 0.6), (1.0, 0.5, 3.0))]
)
def test_numbers_spread_evenly_draw_the_restricted_distribution(top_k, top_p, temperature):
    torch.manual_seed(3)
    logits = 2 * torch.randn(9)
    logits[4] = -torch.inf
    expected = by_enumeration(logits.softmax(0).tolist(), top_k, top_p, temperature)
    count = 20_000
    numbers = (torch.arange(count) + 0.5) / count
    drawn = draw(logits.expand(count, 9), numbers, top_k, top_p, temperature)
    shares = np.bincount(drawn.numpy(), minlength=9) / count
    for token in range(9):
        assert shares[token] == pytest.approx(expected.get(token, 0.0), abs=2 / count)


@pytest.mark.parametrize("search", [Search(), Search(sampling=True, temperature=5.0), Search(beam=3)], ids=str)
def test_the_grammar_holds_in_every_search_and_ends_beat_the_minimum_length(search):
    search = Search(**{**search.__dict__, "max_length": 20, "min_length": 9})
    grammar = EvenOdd()
    found = generator(decoder()).generate(
        [prefix(4), prefix(9)], [0, 0], search, candidates=2, grammar=grammar, grammar_state=grammar.start(2)
    )
    for piece in itertools.chain.from_iterable(found):
        music = piece.tokens[:-1]
        assert 9 <= len(music) <= 20 and piece.tokens[-1] == END and (music >= 4).all()
        assert (np.diff(music % 2) != 0).all() and music[0] % 2 == 1
        assert np.isfinite(piece.scores).all()


def test_beam_search_with_room_for_everything_finds_the_best_sequence():
    """Every sequence of up to three tokens before the end, scored by the parallel model."""
    model = decoder(vocabulary=6, scale=2.0)
    start = prefix(5, vocabulary=6)
    words = [0, 3, 4, 5]
    best = {}
    for length in range(4):
        for music in itertools.product(words, repeat=length):
            whole = torch.cat([start, torch.tensor([*music, END], dtype=torch.int64)])
            logs = log_probabilities(model, whole, 0)[len(start) - 1 : -1]
            # Where the limit is reached, the end is certain.
            steps = [float(logs[i, t]) for i, t in enumerate([*music, END])]
            if length == 3:
                steps[-1] = 0.0
            best[music] = sum(steps) / (length + 1)
    ((piece,),) = generator(model).generate([start], [0], Search(beam=200, max_length=3))
    expected = max(best, key=best.get)
    assert tuple(piece.tokens[:-1]) == expected
    assert piece.scores.sum() / len(piece.tokens) == pytest.approx(best[expected], abs=1e-4)


def test_beams_are_the_same_alone_and_in_a_batch():
    model = decoder(scale=2.0)
    prefixes = [prefix(n, n) for n in (3, 17, 40)]
    search = Search(beam=4, max_length=25)
    together = generator(model).generate(prefixes, [0] * 3, search, candidates=4)
    for row, pieces in zip(prefixes, together, strict=True):
        (alone,) = generator(model).generate([row], [0], search, candidates=4)
        assert len(alone) == len(pieces) == 4
        for one, other in zip(alone, pieces, strict=True):
            assert np.array_equal(one.tokens, other.tokens)
            assert np.allclose(one.scores, other.scores, atol=1e-4)


def test_a_beam_never_has_probability_zero():
    """A grammar that leaves one way only: four beams find one hypothesis."""

    class OneWay(EvenOdd):
        def allowed(self, state):
            allowed = np.zeros((len(state), VOCABULARY), bool)
            allowed[np.arange(len(state)), np.where(state[:, 1] < 3, 5, END)] = True
            return allowed

    grammar = OneWay()
    (pieces,) = generator(decoder()).generate(
        [prefix(4)], [0], Search(beam=4), candidates=4, grammar=grammar, grammar_state=grammar.start(1)
    )
    assert [piece.tokens.tolist() for piece in pieces] == [[5, 5, 5, END]]
    assert math.isclose(pieces[0].scores.sum(), 0.0, abs_tol=1e-6)


def test_states_are_copied_only_when_rows_leave(monkeypatch):
    selections = []
    original = RecurrentDecoder.select
    monkeypatch.setattr(
        RecurrentDecoder, "select", lambda self, index: (selections.append(len(index)), original(self, index))[1]
    )
    search = Search(sampling=True, max_length=40, seed=3)
    found = generator(decoder()).generate([prefix(n, n) for n in (3, 5, 9, 12)], [0] * 4, search)
    ends = {len(pieces[0].tokens) for pieces in found}
    assert len(selections) == len(ends) - 1
