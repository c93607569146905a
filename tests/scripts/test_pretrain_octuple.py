"""The pre-training recipe of MusicBERT: 256 rows per update for any number of GPUs and nodes, none included."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Machine

SCRIPT = "pretrain_octuple.sh"


@pytest.mark.parametrize(
    "options, rows, workers, frequency",
    [
        ([], 4, 2, 32),
        (["--gpus", "0"], 4, 1, 64),
        (["--gpus", "1"], 4, 1, 64),
        (["--gpus", "8"], 4, 8, 8),
        (["--gpus", "8", "--rows", "32"], 32, 8, 1),
        (["--gpus", "6"], 4, 6, 11),  # 264 rows are nearer to 256 than 240
        (["--gpus", "8", "--nodes", "4", "--rendezvous", "a:1"], 4, 32, 2),
        (["--gpus", "8", "--rows", "8", "--nodes", "8", "--rendezvous", "a:1"], 4, 64, 1),
        (["--gpus", "0", "--nodes", "2", "--rendezvous", "a:1"], 4, 2, 32),
    ],
)
def test_an_update_sees_256_rows(recipe: Machine, options: list[str], rows: int, workers: int, frequency: int) -> None:
    found = recipe(SCRIPT, "DATA", "musicbert_tiny", *options)
    assert found.status == 0
    assert found.value("--batch-size") == str(rows)
    assert found.value("--distributed-world-size") == str(workers)
    assert found.value("--update-freq") == str(frequency)
    assert f"{rows * workers * frequency} rows per update" in found.message


def test_several_nodes_are_started_by_torchrun_and_one_is_not(recipe: Machine) -> None:
    found = recipe(SCRIPT, "DATA", "musicbert_tiny", "--nodes", "3", "--rendezvous", "host:29500")
    assert found.words[:2] == ["-m", "torch.distributed.run"]
    assert found.value("--nnodes") == "3"
    assert found.value("--nproc-per-node") == "2"
    assert found.value("--rdzv-endpoint") == "host:29500"
    assert recipe(SCRIPT, "DATA", "musicbert_tiny").words[:3] == ["-m", "fairseq_cli.train", "DATA"]


def test_the_learning_rate_falls_to_zero_with_the_last_update(recipe: Machine) -> None:
    def last(*options: str) -> str:
        return recipe(SCRIPT, "DATA", "musicbert_base", *options).value("--total-num-update")

    assert last() == "125000"
    assert last("--max-update", "20", "--save-dir", "a b") == "20"
    assert last("--seed", "2", "--max-update=70") == "70"
