#!/usr/bin/env bash
# From a fresh machine to passed tests:   bash scripts/test.sh [arguments for pytest]
# Makes .venv if it is missing, then runs ruff, mypy and pytest.  Tests on real music run where MUSIC_DATA names its folder.
set -eu

if [ -n "${MUSIC_DATA:-}" ]; then
    case "$MUSIC_DATA" in
        /*) ;;
        *) MUSIC_DATA="$PWD/$MUSIC_DATA" ;; # it is meant from where the command was given
    esac
    export MUSIC_DATA
fi
cd "$(dirname "$0")/.."

bash scripts/setup.sh test audio quickstart
.venv/bin/python -m ruff check .
.venv/bin/python -m ruff format --check .
.venv/bin/python -m mypy
exec .venv/bin/python -m pytest ${1+"$@"}
