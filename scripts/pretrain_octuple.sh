#!/usr/bin/env bash
# Pre-train MusicBERT on octuples, the paper's recipe (arXiv 2106.05630, section 4.1):
#
#   bash scripts/pretrain_octuple.sh DATA ARCH [--rows N] [--gpus N] [--nodes N --rendezvous HOST:PORT] [fairseq-train options]
#
# DATA  dataset folder made by 'python -m preprocess.octuple build' (several, joined by ':', are one shard per epoch)
# ARCH  musicbert_tiny, _mini, _small, _medium, _base or _large
# --rows N   rows of 1,024 octuples that one GPU takes at once (4, which fits in 16 GB; 32 keeps an 80 GB GPU busier)
# --gpus N   GPUs of this machine, or with 0 none (all that torch sees)
# --nodes N --rendezvous HOST:PORT   machines with as many GPUs each; run the same line on all of them, HOST is one of them
#
# An update sees 256 rows, or the nearest number below, whatever the number of GPUs: rows x GPUs x nodes x update-freq.  125,000 updates, the first 25,000
# of them warm-up, to a learning rate of 5e-4 that then falls to 0.  Options for fairseq-train go last and outdo the recipe's:
# '--max-update 2000 --warmup-updates 200' for a short run, '--fp16' or '--amp' for another precision.
#
# Checkpoints go to checkpoints/ARCH (or --save-dir); started again with the same one, it goes on where it was, in the middle
# of an epoch too.  GPUs compute in bfloat16.  Slurm: scripts/pretrain_octuple.slurm calls this script on each node.
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)

stop() {
    printf 'pretrain_octuple.sh: %s\n' "$*" >&2
    exit 2
}
usage="usage: bash scripts/pretrain_octuple.sh DATA ARCH [--rows N] [--gpus N] [--nodes N --rendezvous HOST:PORT] [fairseq-train options]"
[ $# -ge 2 ] || stop "$usage"
data=$1
arch=$2
shift 2
case "$data" in -*) stop "$usage" ;; esac
case "$arch" in -*) stop "$usage" ;; esac

if [ -x "$here/.venv/bin/python" ]; then python="$here/.venv/bin/python"; else python=${PYTHON:-python3}; fi

rows=4
gpus=
nodes=1
rendezvous=
while [ $# -gt 0 ]; do
    case "$1" in
        --rows | --gpus | --nodes | --rendezvous)
            [ $# -ge 2 ] || stop "$1 needs a value."
            case "$1" in
                --rows) rows=$2 ;;
                --gpus) gpus=$2 ;;
                --nodes) nodes=$2 ;;
                --rendezvous) rendezvous=$2 ;;
            esac
            shift 2
            ;;
        *) break ;;
    esac
done
[ -n "$gpus" ] || gpus=$("$python" -c 'import torch; print(torch.cuda.device_count())') ||
    stop "$python has no torch: run 'bash scripts/setup.sh' first."
for number in "$rows" "$gpus" "$nodes"; do
    case "$number" in '' | *[!0-9]*) stop "--rows, --gpus and --nodes are whole numbers, not '$number'." ;; esac
done
[ "$rows" -ge 1 ] && [ "$nodes" -ge 1 ] || stop "--rows and --nodes are at least 1."
[ "$nodes" -eq 1 ] || [ -n "$rendezvous" ] || stop "--nodes $nodes needs --rendezvous HOST:PORT, the same on every node."

batch=256
local=$((gpus > 0 ? gpus : 1)) # processes on this machine: one for each GPU, or one without
workers=$((local * nodes))
if [ $((rows * workers)) -gt $batch ]; then rows=$((batch / workers > 0 ? batch / workers : 1)); fi
frequency=$(((batch + rows * workers / 2) / (rows * workers)))
if [ $frequency -lt 1 ]; then frequency=1; fi
printf '%s\n' "pretrain_octuple.sh: $((rows * workers * frequency)) rows per update: $rows rows x $workers worker(s) ($gpus GPUs on each of $nodes node(s)) x update-freq $frequency" >&2

if [ "$gpus" -eq 0 ]; then
    device="--cpu --ddp-backend legacy_ddp"
else
    device="--bf16 --ddp-backend legacy_ddp"
    for option in ${1+"$@"}; do
        case "$option" in --cpu | --fp16 | --amp | --bf16 | --memory-efficient-*) device="--ddp-backend legacy_ddp" ;; esac
    done
fi

updates=125000 # the learning rate falls to 0 with the last one; fairseq-train must be told that number twice
previous=
for option in ${1+"$@"}; do
    case "$previous" in --max-update) updates=$option ;; esac
    case "$option" in --max-update=*) updates=${option#*=} ;; esac
    previous=$option
done

if [ "$nodes" -gt 1 ]; then
    # Without --distributed-world-size, nodes of one GPU would each train alone, into one folder.
    launch="-m torch.distributed.run --nnodes $nodes --nproc-per-node $local --rdzv-backend c10d --rdzv-endpoint $rendezvous"
    launch="$launch --rdzv-id pretrain_octuple -m fairseq_cli.train"
    world="--distributed-world-size $workers"
else
    launch="-m fairseq_cli.train"
    world="--distributed-world-size $local"
fi

# shellcheck disable=SC2086  # launch, world and device are lists of words
exec "$python" $launch "$data" --user-dir "$here/musicbert_plugin" $world $device \
    --task octuple_masked_lm --arch "$arch" --criterion octuple_masked_lm \
    --tokens-per-sample 8192 --mask-strategy bar --mask-unit bar-instrument --mask-prob 0.15 \
    --dropout 0.1 --attention-dropout 0.1 \
    --optimizer adam --adam-betas '(0.9,0.98)' --adam-eps 1e-6 --weight-decay 0.01 --clip-norm 0.0 \
    --lr 5e-4 --lr-scheduler polynomial_decay --warmup-updates 25000 --max-update 125000 --total-num-update "$updates" \
    --batch-size "$rows" --update-freq "$frequency" --num-workers 2 --seed 1 \
    --save-dir "checkpoints/$arch" --save-interval-updates 1000 --keep-interval-updates 3 \
    --validate-interval-updates 1000 --save-interval 1000000 --validate-interval 1000000 \
    --log-format simple --log-interval 100 ${1+"$@"}
