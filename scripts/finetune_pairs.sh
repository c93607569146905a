#!/usr/bin/env bash
# Fine-tune a model of music on pairs of your own: a condition, and the music that answers it.
#
#   bash scripts/finetune_pairs.sh DATA CHECKPOINT ARCH [--rows N] [--gpus N] [fairseq-train options]
#
# DATA        dataset folder made by 'python -m preprocess.remi pairs', of MIDI files or of lines of your own
# CHECKPOINT  a .pt file: a published one (best after 'python -m musicbert_plugin.hub strip'), or of this plugin; its
#             dictionary has as many rows as DATA's
# ARCH        the checkpoint's: linear_transformer_lm_std, _large, _gpt, _gpt_base, _xl or _1billion
# --rows N    pairs that one GPU takes at once (16)
# --gpus N    GPUs of this machine, or with 0 none (all that torch sees)
#
# As fine-tuners of the published models do: conditions have positions (--position-mode all) and are learned too (--loss-on
# all).  '--position-mode zero-prefix --loss-on target' keeps what a model was pre-trained with.  The learning rate is 1e-4,
# reached after 500 updates.  Options for fairseq-train go last and outdo the recipe's; conditions are augmented by the
# task's own options (see 'fairseq-train --user-dir musicbert_plugin --task attribute_to_music --help').
#
# Checkpoints go to checkpoints/pairs (or --save-dir), with DATA's dict.txt beside them, as the Python entry needs it; started
# again with the same folder, it goes on where it was.  How like the generated bars are to the true ones:
#   python -m musicbert_plugin.evaluate pairs --path checkpoints/pairs/checkpoint_best.pt DATA
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)

stop() {
    printf 'finetune_pairs.sh: %s\n' "$*" >&2
    exit 2
}
usage="usage: bash scripts/finetune_pairs.sh DATA CHECKPOINT ARCH [--rows N] [--gpus N] [fairseq-train options]"
[ $# -ge 3 ] || stop "$usage"
data=$1
checkpoint=$2
arch=$3
shift 3
for word in "$data" "$checkpoint" "$arch"; do
    case "$word" in -*) stop "$usage" ;; esac
done
[ -f "$checkpoint" ] || stop "$checkpoint is not a file; the checkpoint to begin with is a .pt file."
[ -f "$data/dict.txt" ] || stop "$data has no dict.txt: it should be a folder that 'python -m preprocess.remi pairs' made."

if [ -x "$here/.venv/bin/python" ]; then python="$here/.venv/bin/python"; else python=${PYTHON:-python3}; fi

rows=16
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

save=checkpoints/pairs
previous=
for option in ${1+"$@"}; do
    case "$previous" in --save-dir) save=$option ;; esac
    case "$option" in --save-dir=*) save=${option#*=} ;; esac
    previous=$option
done
mkdir -p "$save" || stop "$save: the folder cannot be made."
if [ -f "$save/dict.txt" ] && ! cmp -s "$data/dict.txt" "$save/dict.txt"; then
    stop "$save holds a model of another dictionary than $data: take another --save-dir."
fi
cp "$data/dict.txt" "$save/dict.txt"

# shellcheck disable=SC2086  # device is a list of words
exec "$python" -m fairseq_cli.train "$data" --user-dir "$here/musicbert_plugin" $device \
    --task attribute_to_music --position-mode all --loss-on all --arch "$arch" --criterion cross_entropy --dropout 0.1 \
    --finetune-from-model "$checkpoint" \
    --optimizer adam --adam-betas '(0.9,0.98)' --adam-eps 1e-9 --weight-decay 0.01 --clip-norm 1.0 \
    --lr 1e-4 --lr-scheduler inverse_sqrt --warmup-updates 500 --max-epoch 10 \
    --batch-size "$rows" --update-freq 1 --num-workers 2 --seed 1 --no-epoch-checkpoints \
    --save-dir "$save" --log-format simple --log-interval 100 ${1+"$@"}
