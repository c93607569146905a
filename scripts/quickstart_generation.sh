#!/usr/bin/env bash
# From a fresh machine to music on request:   bash scripts/quickstart_generation.sh [REQUESTS] [--num-candidates N]
#
# Makes .venv, writes the real scores of music21's corpus as MIDI (those of scripts/quickstart.sh, if they are there),
# builds a dataset of windows and their attributes, trains a small model of them on the CPU, lets it answer four requests
# eight times each, and measures how many of the attributes came true.  REQUESTS is a file of requests of your own, one
# per line, such as 'piano meter=3/4 key=minor bars=8'.  Of N candidates for each piece (4), the one with the largest share
# of the requested attributes is kept; with 1 the first piece is, whatever it is like.
# Everything lands in quickstart/; what is finished is kept, so that a stopped run goes on where it was.  The clock stops
# the training on a slow machine; run again, it goes on, and the music is written and measured anew.
# PYTHON= names the Python that .venv is made with.
set -eu

requests='' candidates=4
while [ $# -gt 0 ]; do
    case "$1" in
        --num-candidates)
            candidates=${2:-}
            [ $# -lt 2 ] || shift
            ;;
        --num-candidates=*) candidates=${1#*=} ;;
        *) requests=$1 ;;
    esac
    shift
done
case "$candidates" in
    '' | *[!0-9]* | 0*)
        echo "quickstart_generation: --num-candidates is a whole number of at least 1, not '$candidates'." >&2
        exit 2
        ;;
esac
if [ -n "$requests" ]; then
    [ -f "$requests" ] || { echo "quickstart_generation: $requests is no file; name a file with a request per line, or nothing." >&2; exit 2; }
    requests=$(cd "$(dirname "$requests")" && pwd)/$(basename "$requests")
fi
cd "$(dirname "$0")/.."
bash scripts/setup.sh quickstart
# shellcheck source=scripts/recipe.sh
. scripts/recipe.sh
began=$(date +%s)

# Requests with unknown words are refused here, before the training.
if [ -n "$requests" ]; then
    "$python" - "$requests" <<'END' || exit 2
import pathlib, sys
from musicbert_plugin.errors import MusicError
from musicbert_plugin.evaluate.attributes import read_requests
try:
    read_requests(pathlib.Path(sys.argv[1]))
except MusicError as error:
    sys.exit(f"quickstart_generation: {error}")
END
fi

corpus=quickstart/corpus/midi
out=quickstart/generation
mkdir -p "$out"

"$python" -m preprocess.corpus --dest "$corpus"

# Windows of 2 to 8 bars: short enough for a few minutes, and of lengths that can be asked for.
status=0
"$python" -m preprocess.remi build "$corpus" --dest "$out/data" --window-bars 2-8 --split-ratios 90,5,5 || status=$?
[ "$status" -le 1 ] || exit "$status" # 1: some files were left out, each named above

# The published recipe at a thousandth of its size; scripts/train_attribute_to_music.sh is the real one.
# --ends all: every window teaches an end, since whole pieces are longer than what a model of 2 to 8 bars has seen.
# One thread: matrices as small as these gain nothing from a second one, and lose ten times as much on a busy machine.
export OMP_NUM_THREADS=1
train_by_clock 6000 0.2 "$out/checkpoints" '' '' "$out/data" --user-dir musicbert_plugin --cpu \
    --task attribute_to_music --criterion cross_entropy --ends all \
    --arch linear_transformer_lm_std --decoder-layers 3 --decoder-embed-dim 128 --decoder-ffn-embed-dim 512 \
    --decoder-attention-heads 4 --dropout 0 \
    --optimizer adam --adam-betas '(0.9,0.98)' --adam-eps 1e-9 --weight-decay 0.01 --clip-norm 1.0 \
    --lr 2e-3 --lr-scheduler polynomial_decay --warmup-updates 100 \
    --max-tokens 2048 --num-workers 1 \
    --validate-interval 1000 --validate-interval-updates 500 --save-interval-updates 500 --keep-interval-updates 1 \
    --no-epoch-checkpoints --tensorboard-logdir "$out/log" --log-format simple --log-interval 100
model=$out/checkpoints/checkpoint_best.pt

if [ -z "$requests" ]; then
    requests=$out/four_requests.txt
    printf '%s\n' \
        'piano meter=6/8 key=major intensity=intense octaves=1 bars=8' \
        'piano meter=4/4 key=minor intensity=moderate octaves=3 bars=4' \
        'voice no-piano meter=other key=minor intensity=calm bars=4' \
        'piano meter=2/4 key=major intensity=intense octaves=1 bars=8' >"$requests"
fi
# A request eight times is eight lines: no two of them draw the same random numbers.
write_if_other "$out/requests.txt" "$(awk '{ for (i = 0; i < 8; i++) print }' "$requests")"
write_if_other "$out/candidates.txt" "$candidates"

if outdated "$out/generated.txt" "$model" "$out/checkpoints/checkpoint_last.pt" "$out/requests.txt" "$out/candidates.txt"; then
    # Music of a version without the journal answers.jsonl is replaced too.
    [ -e "$out/midi/answers.jsonl" ] || rm -f "$out/midi"/[0-9]*.mid
    print_to "$out/generated.txt" .venv/bin/fairseq-interactive "$out/data" --user-dir musicbert_plugin --cpu \
        --task attribute_to_music --path "$model" \
        --sampling --sampling-topk 15 --temperature 0.8 --beam 1 --max-len-b 2560 --batch-size 16 --seed 1 \
        --num-candidates "$candidates" --input "$out/requests.txt" \
        --buffer-size "$(($(wc -l <"$out/requests.txt") + 16))" --dest "$out/midi"
fi
unset OMP_NUM_THREADS
if outdated "$out/evaluation.json" "$out/generated.txt"; then
    print_to "$out/evaluation.json" "$python" -m musicbert_plugin.evaluate attributes --midi "$out/midi" \
        --requests "$out/requests.txt" --picture "$out/pieces.png"
fi

finished "done in $(($(date +%s) - began)) seconds after the installation:"
echo "  $model   the model
  $out/midi/0.mid, 1.mid, ...   what it wrote, the best of $candidates: n.mid answers line n (from 0) of $out/requests.txt
  $out/pieces.png   a piece for each request
  $out/evaluation.json   how many of the attributes came true, against chance"
