#!/usr/bin/env bash
# Pre-train on sound by restoring masked spectrograms (MusiCoder, arXiv 2008.00781), or continue from a file:
#
#   bash scripts/pretrain_audio.sh DATA ARCH [--from CHECKPOINT] [--gpus N] [fairseq-train options]
#
# DATA  feature folder made by 'python -m preprocess.audio build' (several, joined by ':', are one shard per epoch)
# ARCH  musicoder_tiny, _base, _large or m3bert_base
# --from CHECKPOINT   begin with the weights of a pre-trained file of the same ARCH and front-end
# --gpus N            GPUs of this machine, or with 0 none (all that torch sees)
#
# An update sees 65,536 frames (25 minutes of log-mels) whatever the number of GPUs: 16,384 x GPUs x update-freq.  200,000
# updates, 14,000 of them warm-up.  Options for fairseq-train go last and outdo the recipe's: '--masking musicoder' for
# the paper's masks, '--max-update 2000 --warmup-updates 100' for a short run, '--max-tokens 4096' for a small GPU.
#
# Checkpoints and pictures go to checkpoints/ARCH (or --save-dir); started again with the same one, it goes on where it was.
# The same recipe as YAML: musicbert_plugin/config/spectrogram_pretrain_*.yaml.
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)

stop() {
    printf 'pretrain_audio.sh: %s\n' "$*" >&2
    exit 2
}
usage="usage: bash scripts/pretrain_audio.sh DATA ARCH [--from CHECKPOINT] [--gpus N] [fairseq-train options]"
[ $# -ge 2 ] || stop "$usage"
data=$1
arch=$2
shift 2
case "$data" in -*) stop "$usage" ;; esac
case "$arch" in -*) stop "$usage" ;; esac

if [ -x "$here/.venv/bin/python" ]; then python="$here/.venv/bin/python"; else python=${PYTHON:-python3}; fi

from=
gpus=
while [ $# -gt 0 ]; do
    case "$1" in
        --from | --gpus)
            [ $# -ge 2 ] || stop "$1 needs a value."
            case "$1" in
                --from) from=$2 ;;
                --gpus) gpus=$2 ;;
            esac
            shift 2
            ;;
        *) break ;;
    esac
done
[ -z "$from" ] || [ -f "$from" ] || stop "--from $from: no such file; a checkpoint of a pre-trained model is needed."
[ -n "$gpus" ] || gpus=$("$python" -c 'import torch; print(torch.cuda.device_count())') ||
    stop "$python has no torch: run 'bash scripts/setup.sh' first."
case "$gpus" in '' | *[!0-9]*) stop "--gpus is a whole number, not '$gpus'." ;; esac

workers=$((gpus > 0 ? gpus : 1))
frequency=$(((4 + workers / 2) / workers))
if [ $frequency -lt 1 ]; then frequency=1; fi
printf '%s\n' "pretrain_audio.sh: up to $((16384 * workers * frequency)) frames per update: 16384 x $workers worker(s) x update-freq $frequency" >&2

if [ "$gpus" -eq 0 ]; then
    device="--cpu --ddp-backend legacy_ddp"
else
    device="--bf16 --ddp-backend legacy_ddp"
    for option in ${1+"$@"}; do
        case "$option" in --cpu | --fp16 | --amp | --bf16 | --memory-efficient-*) device="--ddp-backend legacy_ddp" ;; esac
    done
fi

updates=200000 # the learning rate falls to 0 with the last one; fairseq-train must be told that number twice
previous=
for option in ${1+"$@"}; do
    case "$previous" in --max-update) updates=$option ;; esac
    case "$option" in --max-update=*) updates=${option#*=} ;; esac
    previous=$option
done
if [ -n "$from" ]; then set -- --finetune-from-model "$from" ${1+"$@"}; fi

# shellcheck disable=SC2086  # device is a list of words
exec "$python" -m fairseq_cli.train "$data" --user-dir "$here/musicbert_plugin" --distributed-world-size $workers $device \
    --task spectrogram_reconstruction --arch "$arch" --criterion spectrogram_reconstruction \
    --masking mixed --max-frames 512 --reconstruction-loss huber --dropout 0.1 --attention-dropout 0.1 \
    --optimizer adam --adam-betas '(0.9,0.98)' --adam-eps 1e-6 --weight-decay 0.01 --clip-norm 1.0 \
    --lr 5e-4 --lr-scheduler polynomial_decay --warmup-updates 14000 --max-update 200000 --total-num-update "$updates" \
    --max-tokens 16384 --update-freq "$frequency" --num-workers 2 --seed 1 \
    --save-dir "checkpoints/$arch" --save-interval-updates 1000 --keep-interval-updates 3 \
    --validate-interval-updates 1000 --save-interval 1000000 --validate-interval 1000000 \
    --log-format simple --log-interval 100 ${1+"$@"}
