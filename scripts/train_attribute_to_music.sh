#!/usr/bin/env bash
# Train MuseCoco's model of music conditioned on attributes, the published recipe (arXiv 2306.00110, section 4.1):
#
#   bash scripts/train_attribute_to_music.sh DATA ARCH [--rows N] [--gpus N] [--float32] [fairseq-train options]
#
# DATA  dataset folder made by 'python -m preprocess.remi build' (several, joined by ':', are one shard per epoch)
# ARCH  linear_transformer_lm_std (20 M parameters), _large or _gpt, _gpt_base, _xl (203 M) or _1billion
# --rows N   samples that one GPU takes at once (8)
# --gpus N   GPUs of this machine, or with 0 none (all that torch sees)
# --float32  on GPUs too, as published
#
# Learning rate 2e-4, reached after 16,000 updates and then falling with the inverse square root of their number; 5,000,000
# updates at the most (the published file has 280,000).  Options for fairseq-train override the recipe's:
# '--max-update 20000 --warmup-updates 1000' for a short run, '--checkpoint-activations' where memory is short.
#
# Two things depart from the published training.  Windows of music end anywhere, so the end </s> is learnt only from those
# that end their piece and where the number of bars is visible ('--ends all' is as published).  And GPUs compute in bfloat16,
# not in float32, for half the memory of activations.  The weights that Adam updates stay in float32, and so do the sums
# inside the attention, whose float16 overflow made the original's outputs NaN; bfloat16 has float32's range.  '--float32' is
# as published; '--fp16' and '--amp' work too.
#
# Checkpoints go to checkpoints/ARCH (or --save-dir); started again with the same one, it goes on where it was.  What came of it:
#   fairseq-validate DATA --user-dir musicbert_plugin --task attribute_to_music --path CKPT --valid-subset test --batch-size 8
#   python -m musicbert_plugin.evaluate attributes --path CKPT DATA
#   bash scripts/generate_music.sh CKPT REQUESTS DEST
# The same recipe as YAML: musicbert_plugin/config/attribute_to_music.yaml, with model=ARCH.
set -eu
# shellcheck source=scripts/recipe.sh
. "$(dirname "$0")/recipe.sh"

need 2 ${1+"$@"}
data=$1
arch=$2
shift 2
rows=8 gpus='' float32=''
read_options 'rows= gpus= float32' ${1+"$@"}
set -- ${rest[@]+"${rest[@]}"}
whole rows
choose_device ${1+"$@"}

# shellcheck disable=SC2086  # device is a list of words
exec "$python" -m fairseq_cli.train "$data" --user-dir "$here/musicbert_plugin" --distributed-world-size $workers $device \
    --task attribute_to_music --arch "$arch" --criterion cross_entropy --dropout 0.1 \
    --optimizer adam --adam-betas '(0.9,0.98)' --adam-eps 1e-9 --weight-decay 0.01 --clip-norm 0.0 \
    --lr 2e-4 --lr-scheduler inverse_sqrt --warmup-updates 16000 --max-update 5000000 \
    --batch-size "$rows" --update-freq 1 --num-workers 2 --seed 1 \
    --save-dir "checkpoints/$arch" --save-interval-updates 10000 --keep-interval-updates 3 \
    --validate-interval-updates 5000 --save-interval 1000000 --validate-interval 1000000 \
    --log-format simple --log-interval 100 ${1+"$@"}
