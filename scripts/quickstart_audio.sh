#!/usr/bin/env bash
# From a fresh machine to a model that listens:   bash scripts/quickstart_audio.sh [MY_MIDI_FOLDER]
#
# Makes .venv, writes real scores of music21's corpus as MIDI (or takes MY_MIDI_FOLDER, whose folders name composers),
# renders each with six instruments at random tempi, pre-trains musicoder_tiny on the sound, fine-tunes it on composer,
# instrument and tempo at once, and measures both on held-out pieces.
# fluidsynth renders if it is installed with a sound font, else a small synthesiser in numpy.
# Everything lands in quickstart/audio/; what is finished is kept, so that a stopped run goes on where it was.  The clock stops
# a training on a slow machine; run again, it goes on, and what follows is trained and measured anew.
# PYTHON= names the Python that .venv is made with.
set -eu

folder=${1:-}
if [ -n "$folder" ]; then
    [ -d "$folder" ] || { echo "quickstart_audio: $folder is not a folder; name a folder with MIDI files, or nothing." >&2; exit 2; }
    folder=$(cd "$folder" && pwd)
fi
cd "$(dirname "$0")/.."
bash scripts/setup.sh quickstart
# shellcheck source=scripts/recipe.sh
. scripts/recipe.sh
began=$(date +%s)
# One thread: matrices as small as these gain little from a second one, and lose much on a busy machine.
export OMP_NUM_THREADS=1

if [ -n "$folder" ]; then
    out=quickstart/audio/$(basename "$folder")
else
    out=quickstart/audio/corpus
    folder=$out/midi
    "$python" -m preprocess.corpus --dest "$folder" \
        --collections bach:60 palestrina:40 monteverdi:30 trecento:50 ryansMammoth:60
fi

# Each piece is heard once with every instrument, so that neither composer nor tempo tells the instrument.
status=0
"$python" -m preprocess.render "$folder" --dest "$out/clips" --clips 6 --seconds 6 --tempi 60-180 \
    --programs acoustic_grand_piano church_organ nylon_guitar violin trumpet flute || status=$?
[ "$status" -le 1 ] || exit "$status" # 1: some files were left out, each named above

# All renderings of a piece are on one side of the split.
status=0
"$python" -m preprocess.audio build "$out/clips/labels.csv" --dest "$out/data" \
    --group-column piece --duplicates keep --split-ratios 75,5,20 || status=$?
[ "$status" -le 1 ] || exit "$status"

{
    echo "tasks:"
    if head -n 1 "$out/clips/labels.csv" | grep -q composer; then echo "  composer: {type: single}"; fi
    echo "  instrument: {type: single}"
    echo "  tempo: {type: regression, names: [quarter notes per minute]}"
} >"$out/tasks.yaml"

# A hundredth of scripts/pretrain_audio.sh, and of scripts/finetune_audio.sh.
device=--cpu
if "$python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then device=; fi
train() { # SAVE_DIR BEGIN WHAT UPDATES HOURS fairseq-train options
    local save=$1 begin=$2 what=$3 updates=$4 hours=$5
    shift 5
    # shellcheck disable=SC2086
    train_by_clock "$updates" "$hours" "$save" "$begin" "$what" "$out/data" --user-dir musicbert_plugin $device \
        --arch musicoder_tiny --attention-dropout 0 \
        --optimizer adam --adam-betas '(0.9,0.98)' --adam-eps 1e-6 --weight-decay 0.01 --clip-norm 1.0 \
        --lr-scheduler polynomial_decay --warmup-updates 50 --num-workers 1 --no-epoch-checkpoints \
        --validate-interval 1000000 --validate-interval-updates 200 --save-interval-updates 200 --keep-interval-updates 1 \
        --tensorboard-logdir "$out/log/$(basename "$save")" --log-format simple --log-interval 50 "$@"
}
pretrained=$out/pretrained/checkpoint_last.pt
train "$out/pretrained" '' pre-training 600 0.1 --task spectrogram_reconstruction --criterion spectrogram_reconstruction --masking mixed \
    --max-frames 200 --batch-size 8 --lr 2e-3 --dropout 0
# What began with an earlier state of the pre-trained model is of no use.
if [ "$pretrained" -nt "$out/finetuned/checkpoint_last.pt" ]; then rm -rf "$out/finetuned"; fi
train "$out/finetuned" "$pretrained" fine-tuning 400 0.1 --task audio_multitask --criterion audio_multitask --weighting equal \
    --tasks-file "$out/tasks.yaml" --max-frames 0 --batch-size 16 --lr 1e-3 --dropout 0.1 \
    --pooling mean+max --layer-mix learned

measure="$python -m musicbert_plugin.evaluate"
model=$out/finetuned/checkpoint_last.pt
# Whole clips, which are longer than a window of the training.
if outdated "$out/reconstruction.json" "$pretrained"; then
    print_to "$out/reconstruction.json" $measure audio --path "$pretrained" "$out/data" --gen-subset test --max-frames 0 \
        --reconstruct 4 --dest "$out/reconstruction"
fi
if outdated "$out/correlation.json" "$pretrained"; then
    print_to "$out/correlation.json" $measure correlate --path "$pretrained" "$out/data" --gen-subset test --max-clips 40 \
        --dest "$out/correlation"
fi
if outdated "$out/labels.json" "$model"; then
    print_to "$out/labels.json" $measure audio --path "$model" "$out/data" --gen-subset test
fi

# One held-out clip as a file of its own: what it is, and what the model hears.
clip=$("$python" -c 'import csv, sys; print(next(csv.DictReader(open(sys.argv[1], encoding="utf-8", newline="")))["clip"])' \
    "$out/data/test.clips.csv")
grep -F "$clip" "$out/clips/labels.csv" >&2
if outdated "$out/prediction.json" "$model"; then
    print_to "$out/prediction.json" $measure audio --path "$model" --predict "$out/clips/$clip"
fi

finished "done in $(($(date +%s) - began)) seconds after the installation; measured on pieces that were held out:"
echo "  $out/pretrained/checkpoint_last.pt   the pre-trained model
  $out/finetuned/checkpoint_last.pt    the fine-tuned model; ask it about your own recordings:
      $measure audio --path $model --predict SONG.flac
  $out/reconstruction/*.png            masked, original, restored, error; errors in reconstruction.json
  $out/correlation/correlation.png     which hidden units follow which features of the sound
  $out/labels.json                     composer, instrument and tempo beside the majority class and the mean"
