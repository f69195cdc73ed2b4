#!/bin/sh
# Make a virtual environment and install Duemark into it, at the versions of constraints.txt.
#
#   deploy/venv.sh VENV WHAT [PYTHON]
#
# VENV is the folder (made anew when its interpreter or pip is gone, or too old), WHAT is what pip installs
# (`.` or `.[dev]`), PYTHON the interpreter; without it, the newest supported one on PATH.
set -eu

venv=$1 what=$2 python=${3:-}

supported() { # whether $1 runs and is Python 3.11, 3.12 or 3.13
    "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null
}

fail() {
    printf 'setup: %s\n' "$@" >&2
    exit 2
}

if ! supported "$venv/bin/python" || ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    if [ -n "$python" ]; then
        supported "$python" || fail "$python is not Python 3.11, 3.12 or 3.13."
    else
        # A name may be on PATH and still not run (pyenv's shims): only running it tells.
        for candidate in python3.13 python3.12 python3.11 python3 python; do
            if supported "$candidate"; then
                python=$candidate
                break
            fi
        done
        [ -n "$python" ] || fail "no Python 3.11, 3.12 or 3.13 on PATH." \
            "Install one, or name it: make setup PYTHON=/path/to/python3"
    fi
    echo "setup: $("$python" -V) in $venv"
    rm -rf "$venv"
    # Debian ships venv without ensurepip; any pip from 22.3 on can then put itself there.
    if "$python" -c 'import ensurepip' 2>/dev/null; then
        "$python" -m venv "$venv"
    elif "$python" -m pip --version >/dev/null 2>&1; then
        "$python" -m venv --without-pip "$venv"
        "$python" -m pip --python "$venv/bin/python" install --quiet pip
    else
        rm -rf "$venv"
        fail "$python can make no virtual environment with pip in it." \
            "On Debian and Ubuntu: apt-get install python3-venv" \
            "Elsewhere install ensurepip or pip for it, or name another: make setup PYTHON=…"
    fi
fi

echo "setup: installing $what (some 400 MB the first time)"
"$venv/bin/python" -m pip install --quiet --no-warn-script-location -c constraints.txt -e "$what"
