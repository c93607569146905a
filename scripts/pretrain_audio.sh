#!/usr/bin/env bash
# Pre-train on sound by restoring masked spectrograms (MusiCoder, arXiv 2008.00781), or continue from a file:
#
#   bash scripts/pretrain_audio.sh DATA ARCH [--from CHECKPOINT] [--gpus N] [--float32] [fairseq-train options]
#
# DATA  feature folder made by 'python -m preprocess.audio build' (several, joined by ':', are one shard per epoch)
# ARCH  musicoder_tiny, _base, _large or m3bert_base
# --from CHECKPOINT   begin with the weights of a pre-trained file of the same ARCH and front-end
# --gpus N            GPUs of this machine, or with 0 none (all that torch sees)
# --float32           on GPUs too (they compute in bfloat16, or as '--fp16' or '--amp' say)
#
# An update sees up to 65,536 frames (25 minutes of log-mels) on one, two or four GPUs: 16,384 x GPUs x update-freq; on more,
# 16,384 each.  200,000 updates, the first 14,000 of them warm-up, to a learning rate of 5e-4 that then falls to 0.  Options
# for fairseq-train override the recipe's: '--masking musicoder' or '--masking m3bert' for a paper's masks,
# '--max-update 2000 --warmup-updates 100' for a short run, '--max-tokens 4096 --update-freq 16' for a small GPU.
#
# Checkpoints and pictures go to checkpoints/ARCH, with --from to checkpoints/ARCH_continued (or --save-dir); started again with
# the same one, it goes on where it was.
# The same recipe as YAML, for four GPUs: musicbert_plugin/config/spectrogram_pretrain.yaml, and with --from
# spectrogram_continue.yaml, with model=ARCH.
set -eu
# shellcheck source=scripts/recipe.sh
. "$(dirname "$0")/recipe.sh"

need 2 ${1+"$@"}
data=$1
arch=$2
shift 2
from='' gpus='' float32=''
read_options 'from= gpus= float32' ${1+"$@"}
set -- ${rest[@]+"${rest[@]}"}
[ -z "$from" ] || [ -f "$from" ] || stop "--from $from: no such file; a checkpoint of a pre-trained model is needed."
choose_device ${1+"$@"}

frequency=$(update_frequency 65536 $((16384 * workers)))
printf '%s\n' "pretrain_audio.sh: up to $((16384 * workers * frequency)) frames per update: 16384 x $workers worker(s) x update-freq $frequency" >&2

# The learning rate falls to 0 with the last update; fairseq-train must be told that number twice.
updates=$(value_of --max-update 200000 ${1+"$@"})
save=checkpoints/$arch
if [ -n "$from" ]; then
    save=checkpoints/${arch}_continued
    set -- --finetune-from-model "$from" ${1+"$@"}
fi

# shellcheck disable=SC2086  # device is a list of words
exec "$python" -m fairseq_cli.train "$data" --user-dir "$here/musicbert_plugin" --distributed-world-size $workers $device \
    --task spectrogram_reconstruction --arch "$arch" --criterion spectrogram_reconstruction \
    --masking mixed --max-frames 512 --reconstruction-loss huber --dropout 0.1 --attention-dropout 0.1 \
    --optimizer adam --adam-betas '(0.9,0.98)' --adam-eps 1e-6 --weight-decay 0.01 --clip-norm 1.0 \
    --lr 5e-4 --lr-scheduler polynomial_decay --warmup-updates 14000 --max-update 200000 --total-num-update "$updates" \
    --max-tokens 16384 --update-freq "$frequency" --num-workers 2 --seed 1 \
    --save-dir "$save" --save-interval-updates 1000 --keep-interval-updates 3 \
    --validate-interval-updates 1000 --save-interval 1000000 --validate-interval 1000000 \
    --log-format simple --log-interval 100 ${1+"$@"}
