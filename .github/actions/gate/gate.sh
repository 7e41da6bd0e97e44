#!/usr/bin/env bash
# Runs `gradverify gate` on what the action was given, which comes in the environment.
set -euo pipefail
cd -- "$GATE_FOLDER"

# The project's own installation goes first; else the gradverify that this action came with.
if ! command -v gradverify >/dev/null; then
    python -m pip install --quiet "$GITHUB_ACTION_PATH/../../.."
fi

options=("--format=$GATE_FORMAT")
# The commit before the first push of a branch is all zeros: there is none.
if [[ $GATE_SINCE =~ [^0] ]]; then
    options+=("--since=$GATE_SINCE")
fi
exec gradverify gate "${options[@]}"
