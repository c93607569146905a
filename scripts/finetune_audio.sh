#!/usr/bin/env bash
# Fine-tune a model of sound on several labels at once (M3BERT), or ask what a frozen one knows:
#
#   bash scripts/finetune_audio.sh DATA ARCH CHECKPOINT [--tasks FILE] [--frozen] [--gpus N] [--float32] [fairseq-train options]
#
# DATA        feature folder with labels, made by 'python -m preprocess.audio build ... --labels CSV' with the front-end
#             that CHECKPOINT was trained with
# ARCH        the architecture of CHECKPOINT: musicoder_tiny, _base, _large or m3bert_base
# CHECKPOINT  what scripts/pretrain_audio.sh made
# --tasks FILE   names the labels, see musicbert_plugin/data/labels.py (default: tasks.yaml in DATA)
# --frozen       a linear probe: train the heads alone, which are linear maps of the pooled, weighted mean of all layers
# --gpus N       GPUs of this machine, or with 0 none (all that torch sees)
# --float32      on GPUs too (they compute in bfloat16, or as '--fp16' or '--amp' say)
#
# An update sees up to 16,384 frames x GPUs; a clip longer than 1,292 frames (30 seconds of log-mels) is cut.  30 epochs at a
# learning rate of 1e-4, reached after 200 updates; the epoch with the lowest validation loss is checkpoint_best.pt.
# Options for fairseq-train override the recipe's: '--weighting uncertainty', '--pooling attention',
# '--trainable-layers 2', '--max-epoch 5'.
#
# Checkpoints go to checkpoints/ARCH_finetuned, with --frozen to checkpoints/ARCH_probed (or --save-dir); started again with
# the same one, it goes on where it was.  The same recipe as YAML: musicbert_plugin/config/audio_multitask.yaml, and with
# --frozen audio_probe.yaml, with model=ARCH.
#
# Then:  python -m musicbert_plugin.evaluate audio --path checkpoints/ARCH_finetuned/checkpoint_best.pt DATA
#        python -m musicbert_plugin.evaluate audio --path checkpoints/ARCH_finetuned/checkpoint_best.pt --predict SONG.flac
# A linear probe, layer by layer, beside raw features and a random encoder:
#        python -m musicbert_plugin.evaluate probe --path CHECKPOINT DATA --label composer --group piece
set -eu
# shellcheck source=scripts/recipe.sh
. "$(dirname "$0")/recipe.sh"

need 3 ${1+"$@"}
data=$1
arch=$2
checkpoint=$3
shift 3
[ -f "$checkpoint" ] || stop "$checkpoint: no such file; a checkpoint of a pre-trained model is needed."

tasks='' frozen='' gpus='' float32=''
read_options 'tasks= frozen gpus= float32' ${1+"$@"}
set -- ${rest[@]+"${rest[@]}"}
[ -z "$tasks" ] || [ -f "$tasks" ] || stop "--tasks $tasks: no such file."
choose_device ${1+"$@"}
if [ -n "$frozen" ]; then trainable=0 save=checkpoints/${arch}_probed; else trainable=-1 save=checkpoints/${arch}_finetuned; fi
if [ -n "$tasks" ]; then set -- --tasks-file "$tasks" ${1+"$@"}; fi

# shellcheck disable=SC2086  # device is a list of words
exec "$python" -m fairseq_cli.train "$data" --user-dir "$here/musicbert_plugin" --distributed-world-size $workers $device \
    --task audio_multitask --arch "$arch" --criterion audio_multitask --finetune-from-model "$checkpoint" \
    --weighting fixed --pooling mean --layer-mix learned --trainable-layers "$trainable" --max-frames 1292 \
    --dropout 0.1 --attention-dropout 0.1 --head-dropout 0.1 \
    --optimizer adam --adam-betas '(0.9,0.98)' --adam-eps 1e-6 --weight-decay 0.01 --clip-norm 1.0 \
    --lr 1e-4 --lr-scheduler inverse_sqrt --warmup-updates 200 --max-epoch 30 \
    --max-tokens 16384 --num-workers 2 --seed 1 \
    --save-dir "$save" --no-epoch-checkpoints --log-format simple --log-interval 100 ${1+"$@"}
