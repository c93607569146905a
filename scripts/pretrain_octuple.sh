#!/usr/bin/env bash
# Pre-train MusicBERT on octuples, the paper's recipe (arXiv 2106.05630, section 4.1):
#
#   bash scripts/pretrain_octuple.sh DATA ARCH [--rows N] [--gpus N] [--nodes N --rendezvous HOST:PORT] [--float32] [fairseq-train options]
#
# DATA  dataset folder made by 'python -m preprocess.octuple build' (several, joined by ':', are one shard per epoch)
# ARCH  musicbert_tiny, _mini, _small, _medium, _base or _large
# --rows N   rows of 1,024 octuples that one GPU takes at once (4, which fits in 16 GB; 32 keeps an 80 GB GPU busier)
# --gpus N   GPUs of this machine, or with 0 none (all that torch sees)
# --nodes N --rendezvous HOST:PORT   machines with as many GPUs each; run the same line on all of them, HOST is one of them
# --float32  on GPUs too (they compute in bfloat16, or as '--fp16' or '--amp' say)
#
# An update sees 256 rows, or the nearest number that the GPUs divide, whatever their number: rows x GPUs x nodes x update-freq.
# 125,000 updates, the first 25,000 of them warm-up, to a learning rate of 5e-4 that then falls to 0.  Options for fairseq-train
# override the recipe's: '--max-update 2000 --warmup-updates 200' for a short run.
#
# Checkpoints go to checkpoints/ARCH (or --save-dir); started again with the same one, it goes on where it was, in the middle
# of an epoch too.  Slurm: scripts/pretrain_octuple.slurm calls this script on each node.  The same recipe as YAML, for eight
# GPUs: musicbert_plugin/config/octuple_pretrain.yaml, with model=ARCH.
set -eu
# shellcheck source=scripts/recipe.sh
. "$(dirname "$0")/recipe.sh"

need 2 ${1+"$@"}
data=$1
arch=$2
shift 2
rows=4 gpus='' nodes=1 rendezvous='' float32=''
read_options 'rows= gpus= nodes= rendezvous= float32' ${1+"$@"}
set -- ${rest[@]+"${rest[@]}"}
whole rows nodes
[ "$nodes" -eq 1 ] || [ -n "$rendezvous" ] || stop "--nodes $nodes needs --rendezvous HOST:PORT, the same on every node."
choose_device ${1+"$@"}

batch=256
world=$((workers * nodes))
if [ $((rows * world)) -gt $batch ]; then rows=$((batch / world > 0 ? batch / world : 1)); fi
frequency=$(update_frequency $batch $((rows * world)))
printf '%s\n' "pretrain_octuple.sh: $((rows * world * frequency)) rows per update: $rows rows x $world worker(s) ($gpus GPUs on each of $nodes node(s)) x update-freq $frequency" >&2

# The learning rate falls to 0 with the last update; fairseq-train must be told that number twice.
updates=$(value_of --max-update 125000 ${1+"$@"})

if [ "$nodes" -gt 1 ]; then
    # Without --distributed-world-size, nodes of one GPU would each train alone, into one folder.
    launch="-m torch.distributed.run --nnodes $nodes --nproc-per-node $workers --rdzv-backend c10d --rdzv-endpoint $rendezvous"
    launch="$launch --rdzv-id pretrain_octuple -m fairseq_cli.train"
else
    launch="-m fairseq_cli.train"
fi

# shellcheck disable=SC2086  # launch and device are lists of words
exec "$python" $launch "$data" --user-dir "$here/musicbert_plugin" --distributed-world-size $world $device \
    --task octuple_masked_lm --arch "$arch" --criterion octuple_masked_lm \
    --tokens-per-sample 8192 --mask-strategy bar --mask-unit bar-instrument --mask-prob 0.15 \
    --dropout 0.1 --attention-dropout 0.1 \
    --optimizer adam --adam-betas '(0.9,0.98)' --adam-eps 1e-6 --weight-decay 0.01 --clip-norm 0.0 \
    --lr 5e-4 --lr-scheduler polynomial_decay --warmup-updates 25000 --max-update 125000 --total-num-update "$updates" \
    --batch-size "$rows" --update-freq "$frequency" --num-workers 2 --seed 1 \
    --save-dir "checkpoints/$arch" --save-interval-updates 1000 --keep-interval-updates 3 \
    --validate-interval-updates 1000 --save-interval 1000000 --validate-interval 1000000 \
    --log-format simple --log-interval 100 ${1+"$@"}
