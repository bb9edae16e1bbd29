#!/usr/bin/env bash
# Teacher, student, evaluation: bash run.sh [configs/PRESET.yaml] [key.sub=value ...]
# Without a preset: generated rooms. What distillation is worth there: runs/rooms.sh.
# A finished network of the same settings is kept, an interrupted one goes on.
set -euo pipefail
cd "$(dirname "$0")"
source setup.sh
preset=configs/rooms.yaml
if [[ ${1:-} == *.yaml ]]; then preset=$1; shift; fi

setting() { "$PYTHON" config.py --config "$preset" --get "$@"; }
teacher=$(setting train.teacher_path "$@")
student=$(setting train.student_path "$@")
if [[ $preset == configs/rooms.yaml ]]; then
  "$PYTHON" prepare_rooms.py --out "$(setting data.root "$@")" --train 120 --test 30
fi

results() { local name; name=$(basename "$1" .pth); echo "visual_pred/${name%_ckpt}"; }

"$PYTHON" train_teacher.py --config "$preset" --resume "$@"
"$PYTHON" train_student.py --config "$preset" --resume "$@"
for key in data.root data.cad_root data.test_ids data.workers; do  # a network's file has none
  set -- "$key=$(setting "$key" "$@")" "$@"
done
"$PYTHON" test_NYU.py --pretrained_path "$teacher" data.input=tsdf_cad "$@" output="$(results "$teacher")"
"$PYTHON" test_NYU.py --pretrained_path "$student" --compare "$(results "$teacher")" "$@"
