#!/usr/bin/env bash
# Make .venv, or complete it:   bash scripts/setup.sh [test] [audio] [pictures] [quickstart]
#
# Installs pip, torch, then fairseq-fixed (built from source against that torch), then requirements.txt, the plugin itself
# (in place) and the extras asked for.  On Linux without an NVIDIA GPU it is torch's build for the CPU, a tenth of the other in size.  A torch of 2.10 or newer
# that is already in .venv is kept: to choose a build (another CUDA, say), make .venv and install it there first.  PYTHON=
# names the Python (3.10 to 3.13) that .venv is made with.
#
# May be killed at any moment and run again: the stamp that says "complete" is written last, and what pip left unfinished is
# installed anew.  Where nothing has changed it ends within a second.  Ends with 2 and one sentence where it cannot go on.
# Runs on Linux and macOS (bash 3.2).
set -eu
cd "$(dirname "$0")/.."

PIP=26.3
TORCH=2.13.0
OLDEST_TORCH=2.10 # the first whose loader of weights cannot be made to write outside its memory (CVE-2026-24747)
CPU_BUILDS=https://download.pytorch.org/whl/cpu
PYTHONS="3.10, 3.11, 3.12 or 3.13"
venv=.venv
here=$PWD

say() { printf '%s\n' "$*" >&2; }
stop() {
    say "$*"
    exit 2
}

for extra in ${1+"$@"}; do
    [ -f "requirements-$extra.txt" ] || stop "scripts/setup.sh: there is no requirements-$extra.txt; extras are test, audio, pictures and quickstart."
done

# ---- which Python -----------------------------------------------------------------------------------------------------

version_of() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null || true; }
suitable() { case "$(version_of "$1")" in 3.10 | 3.11 | 3.12 | 3.13) return 0 ;; *) return 1 ;; esac; }

if [ -e "$venv" ] || [ -L "$venv" ]; then
    found=$(version_of "$venv/bin/python")
    if [ -z "$found" ] && [ -e "$venv/bin/python" ]; then
        stop "The Python in $here/$venv does not start: remove that folder and run this again."
    elif [ -z "$found" ] && [ -L "$venv/bin/python" ]; then
        stop "The Python that $here/$venv was made with is gone: remove that folder and run this again."
    elif [ -n "$found" ] && ! suitable "$venv/bin/python"; then
        stop "$here/$venv holds Python $found, and $PYTHONS is needed: remove that folder and run this again."
    elif [ -n "$found" ] && [ -n "${PYTHON:-}" ] && [ "$(version_of "$PYTHON")" != "$found" ]; then
        stop "PYTHON=$PYTHON is Python $(version_of "$PYTHON") and $here/$venv holds Python $found: remove that folder to change it."
    fi
fi

base= # the Python to make .venv with, where there is none
if [ -x "$venv/bin/python" ]; then
    python="$here/$venv/bin/python"
    if ! "$python" -m pip --version >/dev/null 2>&1; then # killed while it was made, or made by a tool that leaves pip out
        "$python" -m ensurepip >&2 || stop "$here/$venv has no pip: remove that folder and run this again."
    fi
elif [ -n "${PYTHON:-}" ]; then
    [ -n "$(version_of "$PYTHON")" ] || stop "PYTHON=$PYTHON is not a Python that starts; Python $PYTHONS is needed."
    suitable "$PYTHON" || stop "PYTHON=$PYTHON is Python $(version_of "$PYTHON"), and $PYTHONS is needed."
    base=$PYTHON
    python=$base
else
    for candidate in python3 python3.12 python3.11 python3.13 python3.10; do
        if [ -z "$base" ] && suitable "$candidate"; then base=$candidate; fi
    done
    [ -n "$base" ] || stop "No suitable Python was found: install Python $PYTHONS, or name it with PYTHON=/path/to/python."
    python=$base
fi
number=$(version_of "$python")

# ---- what building fairseq takes --------------------------------------------------------------------------------------

if [ -n "${HOME:-}" ] && mkdir -p "$HOME/.cache/musicbert_plugin" 2>/dev/null && [ -w "$HOME/.cache/musicbert_plugin" ]; then
    cache="$HOME/.cache/musicbert_plugin" # shared by every checkout, so that a second one does not compile again
else
    cache="$here/.cache"
fi

# One built wheel for each Python, torch, machine and source; the torch is told by the caller.
wheel_folder() { # TORCH_VERSION
    "$python" - "$cache" "$1" requirements-fairseq.txt <<'END'
import hashlib, os, platform, sys
folder, torch, source = sys.argv[1:]
with open(source, "rb") as file:
    source = hashlib.sha256(file.read()).hexdigest()[:12]
python = "%s%d%d" % (sys.implementation.name, sys.version_info[0], sys.version_info[1])
print(os.path.join(folder, "-".join((python, "torch" + torch, sys.platform, platform.machine(), source))))
END
}
wheel_in() { ls "$1"/fairseq_fixed-*.whl 2>/dev/null || true; }

# What is missing for a build, in words; nothing where all is there.
missing_for_a_build() {
    for compiler in "${CXX:-c++}" g++ clang++; do
        if command -v "$compiler" >/dev/null 2>&1; then
            if ! "$python" -c 'import os, sys, sysconfig
sys.exit(not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))'; then
                printf '%s' "the headers of Python $number (Debian and Ubuntu: apt install python$number-dev)"
            fi
            return
        fi
    done
    printf '%s' "a C++ compiler (Debian and Ubuntu: apt install g++; macOS: xcode-select --install)"
}
published_wheel_fits() { [ "$number $(uname -s) $(uname -m)" = "3.12 Linux x86_64" ]; }
need_a_build() {
    stop "fairseq is built from source, which needs $1: install that and run this again."
}

# ---- is it complete already? ------------------------------------------------------------------------------------------

# The stamp of a part tells what it was made from: the requirement files and, for the core, the torch that fairseq was
# built for, so that another torch leads to another build.
identity() {
    "$python" - "$@" <<'END'
import hashlib, sys
from importlib.metadata import PackageNotFoundError, version
try:
    torch = version("torch")
except PackageNotFoundError:
    torch = ""
digest = hashlib.sha256(("%s %s %s" % (sys.version, sys.prefix, torch)).encode())
for name in sys.argv[1:]:
    with open(name, "rb") as file:
        digest.update(file.read())
print(digest.hexdigest())
END
}
stamp_of() { printf '%s/setup-%s.stamp' "$venv" "$1"; }
complete() { # PART FILE...
    part=$1
    shift
    [ -f "$(stamp_of "$part")" ] && [ "$(cat "$(stamp_of "$part")")" = "$(identity "$@")" ]
}
finish() { # PART FILE...
    part=$1
    shift
    identity "$@" >"$(stamp_of "$part").new"
    mv -f "$(stamp_of "$part").new" "$(stamp_of "$part")"
}

CORE="scripts/setup.sh pyproject.toml requirements.txt requirements-build.txt requirements-fairseq.txt"

# ---- installing -------------------------------------------------------------------------------------------------------

if [ -t 1 ]; then quiet=; else quiet=-q; fi
install() {
    # never an isolated build: see requirements-build.txt; and no warnings that fairseq lacks torchaudio: see requirements.txt
    # shellcheck disable=SC2086
    "$python" -m pip --disable-pip-version-check install $quiet --no-build-isolation --no-warn-conflicts "$@" >&2
}
install_or_stop() { # WHAT ARGUMENTS...
    what=$1
    shift
    install "$@" || stop "$what could not be installed: see pip's message above, and run this again when it is mended."
}

# pip writes a package's RECORD last; a package that has none was being installed when pip was killed, and pip would take it
# for installed.
forget_unfinished_packages() {
    "$python" - <<'END'
import pathlib, shutil, sysconfig
for folder in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
    for package in pathlib.Path(folder).glob("*.dist-info"):
        if not (package / "RECORD").exists():
            shutil.rmtree(package)
END
}

has() { # PACKAGE OLDEST_VERSION
    "$python" - "$@" <<'END'
import re, sys
from importlib.metadata import PackageNotFoundError, version
def numbers(text):
    return [int(number) for number in re.findall(r"\d+", text)[:2]]
try:
    sys.exit(numbers(version(sys.argv[1])) < numbers(sys.argv[2]))
except PackageNotFoundError:
    sys.exit(1)
END
}

has_gpu() {
    if command -v nvidia-smi >/dev/null 2>&1; then return 0; fi
    for trace in /proc/driver/nvidia /dev/nvidia*; do
        if [ -e "$trace" ]; then return 0; fi
    done
    return 1
}

# Whether something answers under an address within a few seconds; the alarm ends what has no timeout of its own, such as
# looking the name up.
answers() { # ADDRESS
    "$python" - "$1" 2>/dev/null <<'END'
import signal, sys, urllib.request
signal.alarm(8)
try:
    urllib.request.urlopen(sys.argv[1], timeout=5).close()
except OSError:
    sys.exit(1)
END
}

install_torch() {
    if [ "$(uname -s)" = Linux ] && ! has_gpu; then
        say "No NVIDIA GPU was found: taking torch's build for the CPU (for another, install torch $OLDEST_TORCH or newer into $venv, and run this again)"
        if answers "$CPU_BUILDS/torch/"; then
            if install "torch==$TORCH" --index-url "$CPU_BUILDS"; then return; fi
        fi
        say "$CPU_BUILDS cannot be used from here: taking torch from the ordinary index, whose build for Linux may bring CUDA (gigabytes)"
    fi
    install_or_stop "torch $TORCH" "torch==$TORCH"
}

install_fairseq() {
    folder=$(wheel_folder "$("$python" -c 'from importlib.metadata import version; print(version("torch"))')")
    wheel=$(wheel_in "$folder")
    if [ -z "$wheel" ]; then
        missing=$(missing_for_a_build)
        if [ -n "$missing" ] && published_wheel_fits; then
            say "Without $missing: taking the published build of fairseq for Python 3.12"
            install_or_stop "fairseq-fixed" --no-deps --only-binary fairseq-fixed --require-hashes -r requirements-fairseq.txt
            return
        fi
        [ -z "$missing" ] || need_a_build "$missing"

        say "Building fairseq (two to five minutes, once for each Python and torch)"
        mkdir -p "$(dirname "$folder")"
        # what a killed build left behind; a younger one may belong to another checkout
        find "$cache" -maxdepth 1 -name '*.building.*' -mtime +0 -exec rm -rf {} + 2>/dev/null || true
        building=$(mktemp -d "$folder.building.XXXXXX")
        # fairseq's archive lacks its CUDA sources, so their build must not be attempted
        if ! env -u CUDA_HOME "$python" -m pip --disable-pip-version-check wheel --no-build-isolation --no-deps --no-cache-dir \
            --no-binary fairseq-fixed --require-hashes -r requirements-fairseq.txt -w "$building" >"$building/log" 2>&1; then
            tail -n 30 "$building/log" >&2
            mv -f "$building/log" "$venv/fairseq-build.log" 2>/dev/null || true
            rm -rf "$building"
            stop "fairseq could not be built: the whole log is in $here/$venv/fairseq-build.log."
        fi
        rm -rf "$folder"
        mv "$building" "$folder"
        wheel=$(wheel_in "$folder")
    fi
    # forced: a build for another torch carries the same version
    install_or_stop "fairseq-fixed" --no-deps --force-reinstall "$wheel"
}

loads() {
    "$python" -c 'import torch, fairseq.data.data_utils_fast, fairseq.data.token_block_utils_fast, symusic' >/dev/null
}

# shellcheck disable=SC2086
if [ -n "$base" ] || ! complete core $CORE; then
    # before gigabytes are fetched: can fairseq be had at all?
    missing=$(missing_for_a_build)
    if [ -n "$missing" ] && ! published_wheel_fits && [ -z "$(find "$cache" -name 'fairseq_fixed-*.whl' 2>/dev/null)" ]; then
        need_a_build "$missing"
    fi
    if [ -n "$base" ]; then
        "$base" -c 'import ensurepip, venv' 2>/dev/null ||
            stop "Python $number comes without its venv module here: install it (Debian and Ubuntu: apt install python$number-venv)."
        say "Making $venv with Python $number"
        "$base" -m venv "$venv" >&2 || stop "$here/$venv could not be made: see the lines above."
        python="$here/$venv/bin/python"
    fi
    rm -f "$(stamp_of core)"
    forget_unfinished_packages
    if ! has pip "$PIP"; then install_or_stop "pip $PIP" "pip==$PIP"; fi
    if ! has torch "$OLDEST_TORCH"; then
        say "Installing torch $TORCH"
        install_torch
    fi
    install_or_stop "What the build of fairseq needs" -r requirements-build.txt -c requirements.txt numpy
    install_fairseq
    say "Installing requirements.txt"
    install_or_stop "requirements.txt" -r requirements.txt
    # in place: python -m preprocess.octuple and the hub then work from any folder
    install_or_stop "The plugin itself" --no-deps -e .
    loads || stop "What was installed does not load (see above): remove $here/$venv and $cache, and run this again."
    finish core $CORE
fi

for extra in ${1+"$@"}; do
    # shellcheck disable=SC2086
    if ! complete "$extra" $CORE "requirements-$extra.txt"; then
        rm -f "$(stamp_of "$extra")"
        forget_unfinished_packages
        say "Installing requirements-$extra.txt"
        install_or_stop "requirements-$extra.txt" -r "requirements-$extra.txt" \
            -c requirements.txt -c requirements-quickstart.txt
        finish "$extra" $CORE "requirements-$extra.txt"
    fi
done
