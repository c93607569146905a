#!/usr/bin/env bash
# Fine-tune a model of sound on several labels at once (M3BERT), or ask what a frozen one knows:
#
#   bash scripts/finetune_audio.sh DATA ARCH CHECKPOINT [--tasks FILE] [--frozen] [--gpus N] [fairseq-train options]
#
# DATA        feature folder with labels, made by 'python -m preprocess.audio build ... --labels CSV' with the front-end
#             that CHECKPOINT was trained with
# ARCH        the architecture of CHECKPOINT: musicoder_tiny, _base, _large or m3bert_base
# CHECKPOINT  what scripts/pretrain_audio.sh made
# --tasks FILE   names the labels, see musicbert_plugin/data/audio_labels.py (default: tasks.yaml in DATA)
# --frozen       train the heads alone
# --gpus N       GPUs of this machine, or with 0 none (all that torch sees)
#
# An update sees 16,384 frames x GPUs.  30 epochs; the epoch with the lowest validation loss is checkpoint_best.pt.
# Options for fairseq-train go last and outdo the recipe's: '--weighting uncertainty', '--pooling attention',
# '--trainable-layers 2', '--max-epoch 5', '--save-dir DIR'.
#
# Then:  python -m musicbert_plugin.evaluate audio --path checkpoints/ARCH_finetuned/checkpoint_best.pt DATA
#        python -m musicbert_plugin.evaluate audio --path checkpoints/ARCH_finetuned/checkpoint_best.pt --predict SONG.flac
# A linear probe, layer by layer, beside raw features and a random encoder:
#        python -m musicbert_plugin.evaluate probe --path CHECKPOINT DATA --label composer --group piece
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)

stop() {
    printf 'finetune_audio.sh: %s\n' "$*" >&2
    exit 2
}
usage="usage: bash scripts/finetune_audio.sh DATA ARCH CHECKPOINT [--tasks FILE] [--frozen] [--gpus N] [fairseq-train options]"
[ $# -ge 3 ] || stop "$usage"
data=$1
arch=$2
checkpoint=$3
shift 3
for word in "$data" "$arch" "$checkpoint"; do
    case "$word" in -*) stop "$usage" ;; esac
done
[ -f "$checkpoint" ] || stop "$checkpoint: no such file; a checkpoint of a pre-trained model is needed."

if [ -x "$here/.venv/bin/python" ]; then python="$here/.venv/bin/python"; else python=${PYTHON:-python3}; fi

tasks=
gpus=
trainable=-1
while [ $# -gt 0 ]; do
    case "$1" in
        --frozen)
            trainable=0
            shift
            ;;
        --tasks | --gpus)
            [ $# -ge 2 ] || stop "$1 needs a value."
            case "$1" in
                --tasks) tasks=$2 ;;
                --gpus) gpus=$2 ;;
            esac
            shift 2
            ;;
        *) break ;;
    esac
done
[ -z "$tasks" ] || [ -f "$tasks" ] || stop "--tasks $tasks: no such file."
[ -n "$gpus" ] || gpus=$("$python" -c 'import torch; print(torch.cuda.device_count())') ||
    stop "$python has no torch: run 'bash scripts/setup.sh' first."
case "$gpus" in '' | *[!0-9]*) stop "--gpus is a whole number, not '$gpus'." ;; esac

workers=$((gpus > 0 ? gpus : 1))
if [ "$gpus" -eq 0 ]; then
    device="--cpu --ddp-backend legacy_ddp"
else
    device="--bf16 --ddp-backend legacy_ddp"
    for option in ${1+"$@"}; do
        case "$option" in --cpu | --fp16 | --amp | --bf16 | --memory-efficient-*) device="--ddp-backend legacy_ddp" ;; esac
    done
fi
if [ -n "$tasks" ]; then set -- --tasks-file "$tasks" ${1+"$@"}; fi

# shellcheck disable=SC2086  # device is a list of words
exec "$python" -m fairseq_cli.train "$data" --user-dir "$here/musicbert_plugin" --distributed-world-size $workers $device \
    --task audio_multitask --arch "$arch" --criterion audio_multitask --finetune-from-model "$checkpoint" \
    --weighting fixed --pooling mean --layer-mix learned --trainable-layers "$trainable" --max-frames 1292 \
    --dropout 0.1 --attention-dropout 0.1 --head-dropout 0.1 \
    --optimizer adam --adam-betas '(0.9,0.98)' --adam-eps 1e-6 --weight-decay 0.01 --clip-norm 1.0 \
    --lr 1e-4 --lr-scheduler inverse_sqrt --warmup-updates 200 --max-epoch 30 \
    --max-tokens 16384 --num-workers 2 --seed 1 \
    --save-dir "checkpoints/${arch}_finetuned" --no-epoch-checkpoints --log-format simple --log-interval 100 ${1+"$@"}
