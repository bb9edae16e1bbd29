#!/usr/bin/env bash
# Scenes to choose settings on, cut from NYUv2's 795 training scenes; the test scenes stay unseen:
#   bash runs/validation_split.sh data/NYU data/NYU_validation
# Links, and two lists: of every 199 scenes the last 33 validate. In blocks, because neighbours in
# this order are frames of the same room.
set -euo pipefail
root=$(realpath "$1")
out=$2

mkdir -p "$out/train" "$out/test"
for folder in Label Mapping TSDF train/RGB; do ln -sfn "$root/$folder" "$out/$folder"; done
ln -sfn "$root/train/RGB" "$out/test/RGB"

find "$root/train/RGB/" -name 'NYU[0-9]*' -printf '%f\n' | sed -E 's/^NYU([0-9]{4}).*/\1/' | sort \
  | awk -v out="$out" '{ print > (out "/" ((NR - 1) % 199 < 166 ? "train" : "test") ".txt") }'
wc -l "$out/train.txt" "$out/test.txt"
