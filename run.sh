#!/usr/bin/env bash
# Teacher, student, evaluation of both: bash run.sh [configs/PRESET.yaml] [key.sub=value ...]
# A finished teacher or student of the same settings is kept, an interrupted one goes on.
set -euo pipefail
cd "$(dirname "$0")"
source setup.sh
preset=configs/nyu_segformer_b2.yaml
if [[ ${1:-} == *.yaml ]]; then preset=$1; shift; fi

teacher=$("$PYTHON" config.py --config "$preset" --get train.teacher_path "$@")
student=$("$PYTHON" config.py --config "$preset" --get train.student_path "$@")
encoder=$("$PYTHON" config.py --config "$preset" --get model.pretrained "$@")
if [[ $encoder == checkpoint/mobilenet_v2_imagenet.pth && ! -e $encoder ]]; then
  "$PYTHON" checkpoint/fetch_encoder.py
fi

"$PYTHON" train_teacher.py --config "$preset" --resume "$@"
"$PYTHON" train_student.py --config "$preset" --resume "$@"
"$PYTHON" test_NYU.py --pretrained_path "$teacher" data.input=tsdf_cad "$@" output=
"$PYTHON" test_NYU.py --pretrained_path "$student" "$@"
