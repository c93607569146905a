# shellcheck shell=bash
# What the recipes of this folder share: sourced by them, it does nothing of its own.  How a model is trained stands in the recipes.
#
# A recipe's words are what it needs (DATA, ARCH, ...), and then its own options and those for fairseq-train, in any order:
#
#   need 2 "$@"                      or stop with the usage line of the recipe's header; then shift 2
#   rows=8 gpus='' float32=''        its defaults
#   read_options 'rows= gpus= float32' "$@"      '--rows 4' makes rows 4 and '--float32' float32 1; all else is in the array rest
#   set -- ${rest[@]+"${rest[@]}"}   what is left, for fairseq-train
#   whole rows                       or stop
#   choose_device "$@"               sets gpus, workers (processes on this machine) and device (words for fairseq-train)
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
if [ -x "$here/.venv/bin/python" ]; then python="$here/.venv/bin/python"; else python=${PYTHON:-python3}; fi

stop() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 2
}

need() { # NUMBER WORDS...
    local number=$1 usage
    shift
    usage=$(sed -n '/^#   bash /{s/^#   /usage: /p;q;}' "$0")
    [ $# -ge "$number" ] || stop "$usage"
    while [ "$number" -gt 0 ]; do
        case "$1" in -*) stop "$usage" ;; esac
        shift
        number=$((number - 1))
    done
}

read_options() { # NAMES WORDS...
    local names=" $1 " name
    shift
    rest=()
    while [ $# -gt 0 ]; do
        name=${1#--}
        case "$1$names" in
            --*" $name= "*)
                [ $# -ge 2 ] || stop "$1 needs a value."
                printf -v "$name" %s "$2"
                shift
                ;;
            --*" $name "*) printf -v "$name" 1 ;;
            *) rest+=("$1") ;;
        esac
        shift
    done
}

whole() { # NAMES...: options whose values are whole numbers of at least 1
    local name
    for name in "$@"; do
        case "${!name}" in '' | *[!0-9]* | 0*) stop "--$name is a whole number of at least 1, not '${!name}'." ;; esac
    done
}

need_checkpoint() { # PATH of a MuseCoco model
    [ -f "$1" ] || [ -f "$1/config.json" ] ||
        stop "$1 is not a file; a checkpoint is a .pt file, or a Hugging Face folder with config.json."
}

# Training by the clock, as the quickstarts do: at most HOURS in a run, and the next run goes on where this one stopped; a
# finished training is left alone.  The learning rate falls to 0 with the last update.  BEGIN is the file to fine-tune, or ''.
# Adds to stopped what the clock has stopped; WHAT is the name of the training there, or ''.
stopped=''
train_by_clock() { # UPDATES HOURS SAVE_DIR BEGIN WHAT fairseq-train's words...
    local updates=$1 hours=$2 save=$3 begin=$4 what=$5 progress made limit
    shift 5
    progress=$(training_progress "$save" "$hours" "$begin") || exit 2
    read -r made limit <<<"$progress"
    if [ "$made" -lt "$updates" ]; then
        "${python%/*}/fairseq-train" ${1+"$@"} --total-num-update "$updates" --max-update "$updates" \
            --stop-time-hours "$limit" --save-dir "$save" ${begin:+--finetune-from-model "$begin"} || exit
        progress=$(training_progress "$save" "$hours" "$begin") || exit 2
        read -r made limit <<<"$progress"
    fi
    if [ "$made" -lt "$updates" ]; then
        stopped=${stopped:+$stopped, }${what:+$what }"stopped after $(thousands "$made") of $(thousands "$updates") updates"
    fi
}

# Prints the updates that a training has made, and the --stop-time-hours by which its next run trains for HOURS.
training_progress() { # SAVE_DIR HOURS BEGIN
    "$python" - "$@" <<'END'
import sys
from pathlib import Path
from musicbert_plugin.compat.newest_checkpoint import training_progress
from musicbert_plugin.errors import MusicError

save, hours, begin = sys.argv[1:]
try:
    updates, seconds = training_progress(Path(save), Path(begin) if begin else None)
except MusicError as error:
    sys.exit(str(error))
print(updates, round(seconds / 3600 + float(hours), 5))
END
}

thousands() { # NUMBER
    "$python" -c 'import sys; print(f"{int(sys.argv[1]):,}")' "$1"
}

# Whether FILE has to be made: it is not there, or older than one of the others.
outdated() { # FILE SOURCES...
    local file=$1 source
    shift
    [ -e "$file" ] || return 0
    for source in "$@"; do
        if [ "$source" -nt "$file" ]; then return 0; fi
    done
    return 1
}

# Write what a command prints to FILE, under that name when it has succeeded; status 1, some inputs failed, is passed on.
print_to() { # FILE COMMAND...
    local file=$1 status=0
    shift
    "$@" >"$file.unfinished" || status=$?
    if [ "$status" -le 1 ]; then mv -f "$file.unfinished" "$file"; else rm -f "$file.unfinished"; fi
    return "$status"
}

# Write TEXT to FILE, unless the file holds it already, so that what is made from it is made again only if it changes.
write_if_other() { # FILE TEXT
    if [ ! -f "$1" ] || [ "$(cat "$1")" != "$2" ]; then printf '%s\n' "$2" >"$1"; fi
}

# How a quickstart ends: SENTENCE, or that the clock has stopped a training.
finished() { # SENTENCE
    if [ -n "$stopped" ]; then
        printf '%s\n' "$stopped: the machine is slow; run again to go on.  So far:"
    else
        printf '%s\n' "$1"
    fi
}

need_python() {
    "$python" -c 'import importlib.util, sys; sys.exit(None in map(importlib.util.find_spec, ("torch", "fairseq")))' \
        >/dev/null 2>&1 || stop "$python has no torch and fairseq: run 'bash scripts/setup.sh' first."
}

# shellcheck disable=SC2034  # the recipes use workers and device
choose_device() { # WORDS FOR fairseq-train...
    local option precision=--bf16
    if [ -n "$float32" ]; then precision=; fi
    for option in ${1+"$@"}; do
        case "$option" in
            --cpu) gpus=0 ;;
            --fp16 | --amp | --bf16 | --memory-efficient-*) precision= ;;
        esac
    done
    case "$gpus" in *[!0-9]* | 0?*) stop "--gpus is a whole number, not '$gpus'." ;; esac
    need_python
    [ -n "$gpus" ] || gpus=$("$python" -c 'import torch; print(torch.cuda.device_count())' 2>/dev/null) ||
        stop "the torch of $python does not load: run 'bash scripts/setup.sh' first."
    if [ "$gpus" -eq 0 ]; then precision=--cpu; fi
    workers=$((gpus > 0 ? gpus : 1))
    device="$precision --ddp-backend legacy_ddp"
}

# Batches that make an update, so that it sees about WANTED whatever the number of workers.
update_frequency() { # WANTED SEEN_AT_ONCE_BY_ALL_WORKERS
    local frequency=$((($1 + $2 / 2) / $2))
    printf '%s' $((frequency > 0 ? frequency : 1))
}

# The value of one of fairseq-train's options among WORDS: the last one, or else DEFAULT.
value_of() { # OPTION DEFAULT WORDS...
    local option=$1 value=$2 previous='' word
    shift 2
    for word in ${1+"$@"}; do
        if [ "$previous" = "$option" ]; then value=$word; fi
        case "$word" in "$option="*) value=${word#*=} ;; esac
        previous=$word
    done
    printf '%s' "$value"
}
