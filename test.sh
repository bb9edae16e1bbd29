#!/usr/bin/env bash
# The whole default test suite, in a fresh clone too: bash test.sh [pytest options]
set -euo pipefail
cd "$(dirname "$0")"
source setup.sh
exec "$PYTHON" -m pytest -q "$@"
