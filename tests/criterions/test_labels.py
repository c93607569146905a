"""Multi-task loss: absent labels, weights, any batch split."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from musicbert_plugin.data.labels import LabelTask

pytestmark = pytest.mark.usefixtures("registered")

GENRE = LabelTask("genre", "single", "genre", ("a", "b", "c"), "cross_entropy", weight=2.0)
MOOD = LabelTask("mood", "multi", "mood", ("x", "y"), "bce", pos_weight=3.0)
AFFECT = LabelTask("affect", "regression", "AV", ("arousal", "valence"), "mse", 0.5, 1.0, (1.0, 2.0), (2.0, 0.5))
TASKS = [GENRE, MOOD, AFFECT]


class Heads(torch.nn.Module):
    """Linear heads on the mean of a clip."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.heads = torch.nn.ModuleDict({task.name: torch.nn.Linear(4, task.size).double() for task in TASKS})

    def forward(self, source, lengths):
        x = torch.stack([row[:length].mean(0) for row, length in zip(source, lengths, strict=True)])
        return {name: head(x) for name, head in self.heads.items()}, {}


def make_criterion(weighting="fixed"):
    from musicbert_plugin.criterions.labels import LabelsCriterion

    return LabelsCriterion(SimpleNamespace(label_tasks=TASKS), weighting)


def make_batch(rows):
    rng = np.random.default_rng(0)
    source = torch.from_numpy(rng.normal(size=(6, 5, 4)))[rows]
    labels = {
        "genre": torch.tensor([[0.0], [2], [0], [1], [0], [0]])[rows].double(),
        "mood": torch.tensor([[1.0, 0], [0, 0], [0, 0], [1, 1], [0, 0], [0, 0]])[rows].double(),
        "affect": torch.tensor([[0.3, -1], [0.0, 0], [2.0, 0], [0, 0], [-1, 1], [0, 0]])[rows].double(),
    }
    present = {
        "genre": torch.tensor([[1], [1], [0], [1], [0], [0]])[rows].bool(),
        "mood": torch.tensor([[1, 1], [0, 0], [1, 1], [1, 1], [0, 0], [0, 0]])[rows].bool(),
        "affect": torch.tensor([[1, 1], [0, 0], [1, 0], [0, 0], [1, 1], [0, 0]])[rows].bool(),
    }
    clips = torch.tensor(rows)
    return {
        "window": clips, "item": clips, "length": torch.full((len(rows),), 5),
        "labels": labels, "present": present, "nsentences": len(rows), "ntokens": 5,
        "net_input": {"source": source, "lengths": (5,) * len(rows)},
    }  # fmt: skip


def expected_loss(model, rows):
    """The definition, label by label."""
    batch = make_batch(rows)
    logits, total = model(**batch["net_input"])[0], 0.0
    for row in range(len(rows)):
        for task in TASKS:
            losses = []
            for k in np.flatnonzero(batch["present"][task.name][row].numpy()):
                out, label = logits[task.name][row], batch["labels"][task.name][row, k]
                if task.type == "single":
                    losses.append(-out.log_softmax(-1)[int(label)])
                elif task.type == "multi":
                    p = out[k].sigmoid()
                    losses.append(-3 * p.log() if label else -(1 - p).log())
                else:
                    losses.append((out[k] - label) ** 2)
            total += task.weight * float(sum(losses) / len(losses)) if losses else 0.0
    return total


def test_defect_24_a_clips_loss_is_the_weighted_sum_over_tasks_of_the_mean_over_present_labels():
    """The original took labels that sum to 0 for absent ones, and squared errors for classes."""
    model, rows = Heads(), list(range(6))
    loss, sample_size, _ = make_criterion()(model, make_batch(rows))
    assert sample_size == 6
    assert float(loss) == pytest.approx(expected_loss(model, rows), rel=1e-5)
    assert float(make_criterion()(model, make_batch([5]))[0]) == 0.0  # nobody has labelled this clip


def test_absent_labels_have_no_gradient_whatever_they_hold():
    model, batch = Heads(), make_batch([0, 2, 4])
    gradients = []
    for filler in (0.0, 1e30):
        for name in batch["labels"]:
            if name != "genre":
                batch["labels"][name] = torch.where(batch["present"][name], batch["labels"][name], filler)
        model.zero_grad()
        make_criterion()(model, batch)[0].backward()
        gradients.append([parameter.grad.clone() for parameter in model.parameters()])
    for a, b in zip(*gradients, strict=True):
        assert torch.isfinite(b).all()
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("weighting", ["fixed", "equal", "uncertainty"])
def test_any_split_into_batches_gives_the_same_gradient(weighting):
    found = []
    for batches in ([list(range(6))], [[5, 0], [2], [1, 3, 4]]):
        model, criterion = Heads(), make_criterion(weighting)
        if weighting == "uncertainty":
            torch.nn.init.constant_(criterion.log_variance, 0.3)
        for rows in batches:
            criterion(model, make_batch(rows))[0].backward()
        parameters = [*model.parameters(), *criterion.parameters()]
        found.append([parameter.grad.clone() for parameter in parameters])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b)


def test_learned_weights_are_kendalls():
    model, criterion = Heads(), make_criterion("uncertainty")
    with torch.no_grad():
        criterion.log_variance.copy_(torch.tensor([0.5, -0.2, 1.0]))
    batch = make_batch([0])
    out = model(**batch["net_input"])[0]
    losses = [
        F.cross_entropy(out["genre"], torch.tensor([0])),
        F.binary_cross_entropy_with_logits(out["mood"], batch["labels"]["mood"], pos_weight=torch.tensor([3.0, 3.0])),
        0.5 * F.mse_loss(out["affect"], batch["labels"]["affect"]),
    ]
    expected = sum(
        task.weight * (float(loss) * np.exp(-s) + s / 2)
        for task, loss, s in zip(TASKS, losses, (0.5, -0.2, 1.0), strict=True)
    )
    assert float(criterion(model, batch)[0]) == pytest.approx(expected, rel=1e-5)


def test_weights_and_smoothing_are_their_definitions_and_change_no_sample_size():
    from musicbert_plugin.criterions.label_scores import label_losses

    torch.manual_seed(0)
    out, label = torch.randn(5, 3), torch.tensor([[0.0], [2], [1], [2], [2]])
    task = LabelTask(
        "g", "single", "g", ("a", "b", "c"), "cross_entropy", class_weights=(1.0, 0.5, 3.0), label_smoothing=0.2
    )
    found = label_losses(out, label, task)
    for row, k in enumerate(label[:, 0].long().tolist()):
        log = out[row].log_softmax(-1)
        expected = task.class_weights[k] * -(0.8 * log[k] + 0.2 * log.mean())
        assert float(found[row, 0]) == pytest.approx(float(expected), rel=1e-5)
    tags = LabelTask("m", "multi", "m", ("x", "y", "z"), "bce", label_smoothing=0.2)
    yes = label_losses(out, torch.ones(5, 3), tags)
    torch.testing.assert_close(yes, -(0.9 * out.sigmoid().log() + 0.1 * (-out).sigmoid().log()))

    model, batch = Heads(), make_batch(list(range(6)))
    plain = float(make_criterion()(model, batch)[0])
    weights = torch.tensor([2.0, 0.0, 1.0, 1.0, 1.0, 1.0]).double()[:, None]
    batch["weights"] = {"genre": weights}
    loss, sample_size, log = make_criterion()(model, batch)
    losses = label_losses(model(**batch["net_input"])[0]["genre"], batch["labels"]["genre"], GENRE)[:2, 0]
    assert float(loss) == pytest.approx(plain + GENRE.weight * float(losses[0] - losses[1]), rel=1e-5)
    assert sample_size == 6 and int(log["labelled_genre"]) == 3


def test_the_former_name_of_the_criterion_is_the_same():
    from fairseq.criterions import CRITERION_REGISTRY

    assert issubclass(CRITERION_REGISTRY["audio_multitask"], CRITERION_REGISTRY["labels"])
