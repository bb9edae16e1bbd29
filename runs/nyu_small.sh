#!/usr/bin/env bash
# The table of NYUv2 in README.md, all rows one after the other, or only those that are named:
#   bash runs/nyu_small.sh data/NYU [teacher_seed1 undistilled_seed1 ...]
# Needs TSDF-CAD in data/NYUCAD beside the data: prepare_NYU.py cad. On two cores, two rows at once,
# each with OMP_NUM_THREADS=1, take less time than one after the other; what learns from a teacher
# needs the teacher of its seed to be finished.
# A row is done when its file is in docs/results/nyu_small. To train one anew, remove that file and
# move its network away: teacher/nyu_small_teacher.pth or checkpoint/nyu_small_student.pth (seed 0),
# checkpoint/nyu_small_student_seed1.pth, ... Only teacher and student of seed 0 come with the
# repository, so a distilled student of seed 1 needs its teacher anew as well.
set -euo pipefail
cd "$(dirname "$0")/.."
name=nyu_small
preset=configs/nyu_small.yaml
settings=(data.root="$1" data.test_ids=docs/results/nyu_small/test_ids.txt)
wanted=("${@:2}")
source runs/rows.sh

papers_kd=(loss.weight_kd_t=0.25 loss.weight_kd_sc=0.25 loss.weight_kd_sa=0.25)
for seed in 0 1; do
  teacher $seed
  student student $seed  # as the preset says
  student undistilled $seed "${undistilled[@]}"
  student undistilled_long $seed "${undistilled[@]}" train.epochs=16  # the steps of teacher and student
  student papers_distillation $seed "${papers_kd[@]}"
done
show_table
