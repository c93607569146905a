#!/usr/bin/env bash
# Music on request: MIDI files for a file of requests.
#
#   bash scripts/generate_music.sh CHECKPOINT REQUESTS DEST [fairseq-interactive options]
#
# CHECKPOINT  a .pt file (a published one, or of this plugin) or a Hugging Face folder.  Its dictionary is dict.txt in its
#             folder, or the published one
# REQUESTS    a text file with a request per line, such as 'piano violin no-drum key=minor tempo=slow bars=16 genre=Classical';
#             for a model of pairs, a condition per line in the words of its dictionary
# DEST        folder: DEST/n.mid answers line n, from 0; DEST/generated.txt is what fairseq-interactive printed.  All lines
#             are read before the first is answered, and what is answered is kept: the same command goes on where it was
#             stopped.  Other options, another checkpoint or another line replace the music of an earlier run
#
# Four candidates are written for each request, and the one with the largest share of the requested attributes is kept
# ('--num-candidates 1' writes one, in a quarter of the time; a model of pairs has no attributes and always writes one).
# Every piece keeps the bars (within four: bars=8 gives 5 to 8), the time signature and the tempo that its request names, and
# instruments with no- before them never sound; with '--no-limits', bars, time signature and tempo only guide the model.
# Options go last: '--seed 2' for other pieces, '--exact-bars 8', '--only-instruments', '--steady-tempo', '--prompt FILE',
# '--temperature 1.0' (0.8 is the default, with less dissonance), '--sampling-topp 0.95', '--meter 6/4'
# (where no word tells it), '--cpu'.  Greedy and beam search repeat about a quarter of the bars.  How many of the attributes
# that are no limits came true (add --no-limits or --only-instruments if the music was made with it):
#   python -m musicbert_plugin.evaluate attributes --midi DEST --requests REQUESTS --picture DEST/pieces.png
set -eu
# shellcheck source=scripts/recipe.sh
. "$(dirname "$0")/recipe.sh"

need 3 ${1+"$@"}
checkpoint=$1
requests=$2
dest=$3
shift 3
need_checkpoint "$checkpoint"
[ -f "$requests" ] || stop "$requests is not a file; it should hold a request per line."
need_python
mkdir -p "$dest" || stop "$dest: the folder cannot be made."

data= # where the task finds the dictionary; without one it takes the published words
if [ -d "$checkpoint" ]; then folder=$checkpoint; else folder=$(dirname "$checkpoint"); fi
if [ -f "$folder/dict.txt" ]; then data=$folder; fi
if [ -e "$dest/generated.txt" ] && [ ! -e "$dest/answers.jsonl" ]; then
    stop "$dest/generated.txt is not of an earlier run: move it, or name another folder."
fi
printed=$dest/generated.$$.unfinished # of this process: another run that writes there is refused by the command
trap 'rm -f "$printed"' EXIT
# One buffer holds all requests, so that all are read first; the last line may lack its newline.
lines=$(($(wc -l <"$requests") + 16))

# Without fairseq's pages of configuration, unless LOGLEVEL, its own variable, asks for them.
LOGLEVEL=${LOGLEVEL:-WARNING} "$python" -m fairseq_cli.interactive ${data:+"$data"} --user-dir "$here/musicbert_plugin" --task attribute_to_music \
    --path "$checkpoint" --input "$requests" --sampling --sampling-topk 15 --temperature 0.8 --beam 1 --max-len-b 2560 \
    --buffer-size "$lines" --batch-size 16 --seed 1 --dest "$dest" ${1+"$@"} >"$printed" || exit
mv "$printed" "$dest/generated.txt"
printf '%s\n' "generate_music.sh: $dest/0.mid, 1.mid, ... answer the lines of $requests in their order" >&2
