#!/usr/bin/env bash
# The networks for every voxel (configs/nyu_everywhere.yaml), as runs/nyu_small.sh does it:
#   bash runs/nyu_everywhere.sh data/NYU [teacher_seed0 student_seed0 undistilled_seed0 ...]
set -euo pipefail
cd "$(dirname "$0")/.."
name=nyu_everywhere
preset=configs/nyu_everywhere.yaml
settings=(data.root="$1" data.test_ids=docs/results/nyu_small/test_ids.txt)
wanted=("${@:2}")
source runs/rows.sh

for seed in 0 1; do
  teacher $seed
  student student $seed
  student undistilled $seed "${undistilled[@]}"
done
show_table
