#!/usr/bin/env bash
# The small network on NYUv2, all rows one after the other:
#   bash runs/nyu_small.sh data/NYU data/label40
# Needs TSDF-CAD in data/NYUCAD beside the data, and the labelled images of the training scenes
# that runs/pretrain_encoder.py describes.
set -euo pipefail
cd "$(dirname "$0")/.."
name=nyu_small
preset=configs/nyu_small.yaml
encoder=checkpoint/mobilenet_v2_nyu40.pth
settings=(data.root="$1" model.pretrained=$encoder)
source runs/rows.sh

if [[ ! -e $encoder ]]; then
  "$PYTHON" runs/pretrain_encoder.py --labels "$2" --out $encoder --epochs 24 data.root="$1"
fi
for seed in 0 1; do
  teacher $seed
  student student $seed
  student undistilled $seed "${undistilled[@]}"
done
student kd_t 0 loss.weight_kd_sc=0 loss.weight_kd_sa=0
student kd_sc_sa 0 loss.weight_kd_t=0
"$PYTHON" runs/table.py "$results"
