#!/usr/bin/env bash
# From a fresh machine to a trained model and its music:   bash scripts/quickstart.sh [MY_MIDI_FOLDER]
#
# Makes .venv, writes the real scores of music21's corpus as MIDI (or takes the files of MY_MIDI_FOLDER), builds a
# dataset, pre-trains musicbert_tiny, validates it, and lets it fill in two bars of a piece that it has never seen.
# Everything lands in quickstart/; what is finished is kept, so that a stopped run goes on where it was.  The clock stops
# the training on a slow machine; run again, it goes on, and what follows is measured anew.
# PYTHON= names the Python that .venv is made with.
set -eu

folder=${1:-}
if [ -n "$folder" ]; then
    [ -d "$folder" ] || { echo "quickstart: $folder is not a folder; name a folder with MIDI files, or nothing." >&2; exit 2; }
    folder=$(cd "$folder" && pwd)
fi
cd "$(dirname "$0")/.."
bash scripts/setup.sh quickstart
# shellcheck source=scripts/recipe.sh
. scripts/recipe.sh
began=$(date +%s)

if [ -n "$folder" ]; then
    out=quickstart/$(basename "$folder")
else
    out=quickstart/corpus
    folder=$out/midi
    "$python" -m preprocess.corpus --dest "$folder"
fi

status=0
"$python" -m preprocess.octuple build "$folder" --dest "$out/data" --split-ratios 90,5,5 || status=$?
[ "$status" -le 1 ] || exit "$status" # 1: some files were left out, each named above

# The paper's recipe at a hundredth of its size; scripts/pretrain_octuple.sh is the real one.
device=--cpu
if "$python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then device=; fi
# One thread: matrices as small as these gain little from a second one, and lose much on a busy machine.
export OMP_NUM_THREADS=1
# shellcheck disable=SC2086
train_by_clock 3600 0.11 "$out/checkpoints" '' '' "$out/data" --user-dir musicbert_plugin $device \
    --task octuple_masked_lm --mask-strategy bar+element --tokens-per-sample 2048 \
    --arch musicbert_tiny --dropout 0 --attention-dropout 0 --criterion octuple_masked_lm \
    --optimizer adam --adam-betas '(0.9,0.98)' --adam-eps 1e-6 --weight-decay 0.01 --clip-norm 1.0 \
    --lr 1e-3 --lr-scheduler polynomial_decay --warmup-updates 200 \
    --batch-size 4 --num-workers 1 \
    --validate-interval 1000 --validate-interval-updates 500 --save-interval-updates 500 --keep-interval-updates 1 \
    --no-epoch-checkpoints --tensorboard-logdir "$out/log" --log-format simple --log-interval 100

model=$out/checkpoints/checkpoint_best.pt
last=$out/checkpoints/checkpoint_last.pt
unset OMP_NUM_THREADS
# By the paper's masks alone, although elements are masked in this training too.
if outdated "$out/evaluation.json" "$model" "$last"; then
    print_to "$out/evaluation.json" "$python" -m musicbert_plugin.evaluate octuple_masked_lm --path "$model" "$out/data" \
        --mask-strategy bar --untrained
fi

# A held-out piece of moderate length, by preference one of Bach's.
piece=$("$python" - "$out/data/manifest.jsonl" <<'END'
import json, sys
lines = [json.loads(line) for line in open(sys.argv[1], encoding="utf-8")]
held_out = [line for line in lines if line.get("split") == "valid"]
print(min(held_out, key=lambda line: (not line["file"].startswith("bach/"), abs(line["notes"] - 250), line["file"]))["file"])
END
)
if outdated "$out/infill.json" "$model" "$last"; then
    # What a version without the journal answers.jsonl wrote there is replaced too.
    [ -e "$out/infill/answers.jsonl" ] ||
        (cd "$out/infill" 2>/dev/null && rm -f original.mid masked.mid filled.mid infill.png) || true
    print_to "$out/infill.json" "$python" -m musicbert_plugin.evaluate infill --path "$model" "$folder/$piece" \
        --dest "$out/infill"
fi

finished "done in $(($(date +%s) - began)) seconds after the installation:"
echo "  $out/checkpoints/checkpoint_best.pt   the model
  $out/evaluation.json                  what it has learned
  $out/infill/filled.mid                $piece with two bars that the model wrote
  $out/infill/infill.png                the picture of it: original, masked, filled"
