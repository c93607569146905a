#!/usr/bin/env bash
# Train MuseCoco's model of music behind attributes, the published recipe (arXiv 2306.00110, section 4.1):
#
#   bash scripts/train_attribute_to_music.sh DATA ARCH [--rows N] [--gpus N] [fairseq-train options]
#
# DATA  dataset folder made by 'python -m preprocess.remi build' (several, joined by ':', are one shard per epoch)
# ARCH  linear_transformer_lm_std (20 M parameters), _large or _gpt, _gpt_base, _xl (203 M) or _1billion
# --rows N   samples that one GPU takes at once (8)
# --gpus N   GPUs of this machine, or with 0 none (all that torch sees)
#
# Learning rate 2e-4, reached after 16,000 updates and then falling with the inverse square root of their number.  Options for
# fairseq-train go last and outdo the recipe's: '--max-update 20000 --warmup-updates 1000' for a short run, '--fp16' or '--amp'
# for another precision than bfloat16, '--checkpoint-activations' where memory is short.
#
# Checkpoints go to checkpoints/ARCH (or --save-dir); started again with the same one, it goes on where it was.  What came of it:
#   fairseq-validate DATA --user-dir musicbert_plugin --task attribute_to_music --path CKPT --valid-subset test --batch-size 8
#   python -m musicbert_plugin.evaluate attributes --path CKPT DATA
#   bash scripts/generate_music.sh CKPT REQUESTS DEST
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)

stop() {
    printf 'train_attribute_to_music.sh: %s\n' "$*" >&2
    exit 2
}
usage="usage: bash scripts/train_attribute_to_music.sh DATA ARCH [--rows N] [--gpus N] [fairseq-train options]"
[ $# -ge 2 ] || stop "$usage"
data=$1
arch=$2
shift 2
case "$data" in -*) stop "$usage" ;; esac
case "$arch" in -*) stop "$usage" ;; esac

if [ -x "$here/.venv/bin/python" ]; then python="$here/.venv/bin/python"; else python=${PYTHON:-python3}; fi

rows=8
gpus=
while [ $# -gt 0 ]; do
    case "$1" in
        --rows | --gpus)
            [ $# -ge 2 ] || stop "$1 needs a value."
            case "$1" in
                --rows) rows=$2 ;;
                --gpus) gpus=$2 ;;
            esac
            shift 2
            ;;
        *) break ;;
    esac
done
[ -n "$gpus" ] || gpus=$("$python" -c 'import torch; print(torch.cuda.device_count())') ||
    stop "$python has no torch: run 'bash scripts/setup.sh' first."
for number in "$rows" "$gpus"; do
    case "$number" in '' | *[!0-9]*) stop "--rows and --gpus are whole numbers, not '$number'." ;; esac
done
[ "$rows" -ge 1 ] || stop "--rows is at least 1."

if [ "$gpus" -eq 0 ]; then
    device="--cpu --distributed-world-size 1"
else
    precision=--bf16
    for option in ${1+"$@"}; do
        case "$option" in --cpu | --fp16 | --amp | --bf16 | --memory-efficient-*) precision= ;; esac
    done
    device="$precision --ddp-backend legacy_ddp --distributed-world-size $gpus"
fi

# shellcheck disable=SC2086  # device is a list of words
exec "$python" -m fairseq_cli.train "$data" --user-dir "$here/musicbert_plugin" $device \
    --task attribute_to_music --arch "$arch" --criterion cross_entropy --dropout 0.1 \
    --optimizer adam --adam-betas '(0.9,0.98)' --adam-eps 1e-9 --weight-decay 0.01 --clip-norm 0.0 \
    --lr 2e-4 --lr-scheduler inverse_sqrt --warmup-updates 16000 --max-update 5000000 \
    --batch-size "$rows" --update-freq 1 --num-workers 2 --seed 1 \
    --save-dir "checkpoints/$arch" --save-interval-updates 10000 --keep-interval-updates 3 \
    --validate-interval-updates 5000 --save-interval 1000000 --validate-interval 1000000 \
    --log-format simple --log-interval 100 ${1+"$@"}
