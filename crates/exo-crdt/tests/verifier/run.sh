#!/usr/bin/env bash
# Checks the frozen vectors with the verifier in Python: run.sh [directory for the virtual environment]
set -euo pipefail
cd "$(dirname "$0")"
venv="${1:-$(mktemp -d)/venv}"
[ -x "$venv/bin/python" ] || python3 -m venv "$venv"
"$venv/bin/pip" install --quiet --disable-pip-version-check -r requirements.txt
exec "$venv/bin/python" verifier.py ../vectors
