#!/usr/bin/env bash
# The table of generated rooms in README.md, all rows one after the other: bash runs/rooms.sh
set -euo pipefail
cd "$(dirname "$0")/.."
name=rooms
preset=configs/rooms.yaml
settings=(data.root=data/rooms)
wanted=()
source runs/rows.sh

"$PYTHON" prepare_rooms.py --out data/rooms --train 120 --test 30
for seed in 0 1 2; do
  teacher $seed
  student student $seed
  student undistilled $seed "${undistilled[@]}"
done
show_table
