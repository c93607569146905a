#!/usr/bin/env bash
# Fine-tune a model of music on pairs of your own: a condition, and the music that answers it.
#
#   bash scripts/finetune_pairs.sh DATA CHECKPOINT ARCH [--rows N] [--gpus N] [--float32] [fairseq-train options]
#
# DATA        dataset folder made by 'python -m preprocess.remi pairs', of MIDI files or of lines of your own
# CHECKPOINT  a .pt file: a published one (best after 'python -m musicbert_plugin.hub strip'), or of this plugin; or a
#             Hugging Face folder; its dictionary has as many rows as DATA's
# ARCH        the checkpoint's: linear_transformer_lm_std, _large, _gpt, _gpt_base, _xl or _1billion
# --rows N    pairs that one GPU takes at once (16)
# --gpus N    GPUs of this machine, or with 0 none (all that torch sees)
# --float32   on GPUs too (they compute in bfloat16, or as '--fp16' or '--amp' say)
#
# As fine-tuners of the published models do: conditions have positions (--position-mode all) and are learned too (--loss-on
# all).  '--position-mode zero-prefix --loss-on target' keeps what a model was pre-trained with.  10 epochs at a
# learning rate of 1e-4, reached after 500 updates.  Options for fairseq-train override the recipe's; conditions are augmented by the
# task's own options (see 'fairseq-train --user-dir musicbert_plugin --task attribute_to_music --help').
#
# Checkpoints go to checkpoints/pairs (or --save-dir), with DATA's dict.txt beside them, as the Python entry needs it; started
# again with the same folder, it goes on where it was.  How like the generated bars are to the true ones:
#   python -m musicbert_plugin.evaluate pairs --path checkpoints/pairs/checkpoint_best.pt DATA
# The same recipe as YAML: musicbert_plugin/config/pairs_finetune.yaml, with model=ARCH.
set -eu
# shellcheck source=scripts/recipe.sh
. "$(dirname "$0")/recipe.sh"

need 3 ${1+"$@"}
data=$1
checkpoint=$2
arch=$3
shift 3
need_checkpoint "$checkpoint"
[ -f "$data/dict.txt" ] || stop "$data has no dict.txt: it should be a folder that 'python -m preprocess.remi pairs' made."

rows=16 gpus='' float32=''
read_options 'rows= gpus= float32' ${1+"$@"}
set -- ${rest[@]+"${rest[@]}"}
whole rows
choose_device ${1+"$@"}

save=$(value_of --save-dir checkpoints/pairs ${1+"$@"})
mkdir -p "$save" || stop "$save: the folder cannot be made."
if [ -f "$save/dict.txt" ] && ! cmp -s "$data/dict.txt" "$save/dict.txt"; then
    stop "$save holds a model of another dictionary than $data: take another --save-dir."
fi
cp "$data/dict.txt" "$save/dict.txt.unfinished"
mv -f "$save/dict.txt.unfinished" "$save/dict.txt"

# shellcheck disable=SC2086  # device is a list of words
exec "$python" -m fairseq_cli.train "$data" --user-dir "$here/musicbert_plugin" --distributed-world-size $workers $device \
    --task attribute_to_music --position-mode all --loss-on all --arch "$arch" --criterion cross_entropy --dropout 0.1 \
    --finetune-from-model "$checkpoint" \
    --optimizer adam --adam-betas '(0.9,0.98)' --adam-eps 1e-9 --weight-decay 0.01 --clip-norm 1.0 \
    --lr 1e-4 --lr-scheduler inverse_sqrt --warmup-updates 500 --max-epoch 10 \
    --batch-size "$rows" --update-freq 1 --num-workers 2 --seed 1 --no-epoch-checkpoints \
    --save-dir "$save" --log-format simple --log-interval 100 ${1+"$@"}
