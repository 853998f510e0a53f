#!/usr/bin/env bash
# run.sh BINARY PYTHON FOLDER: both official clients against the sandbox; FOLDER has node_modules with `stripe`.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
status=0
PYTHONDONTWRITEBYTECODE=1 "$2" "$here/judge.py" "$1" || status=1
node "$here/judge.mjs" "$1" "$3" || status=1
exit "$status"
