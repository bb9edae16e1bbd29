#!/usr/bin/env bash
# Everything to be known of a GPU, in under ten minutes: checks, then timings, then one table.
#   PYTHON=python3 bash benchmarks/gpu.sh [--parts NAME ...] [--rooms DIR] [--output FILE] [--cpu]
# Exits with 1 if anything FAILs. --cpu: the short form, the same code on the CPU, in a minute.
# It uses the Python that it is given and installs nothing; `--help` names the parts.
exec "${PYTHON:-python3}" "$(dirname "$0")/gpu.py" "$@"
