# Sourced by the scripts beside it, from the project's folder. Needs $name, $preset and the array
# $settings; the array $wanted names the rows to run, all if it is empty. A row whose results are
# there is skipped, an interrupted one goes on. Writes docs/results/$name/ROW_seedN.csv (scores on
# the test scenes) and training/ROW_seedN.csv (epochs). Of a network that is done, only weights in
# fp16 remain, and it is these that are evaluated. The last step is `show_table`.
source setup.sh
results=docs/results/$name
mkdir -p "$results/training"

rows=()
row() {  # row, checkpoint, script, settings ...
  local row=$1 checkpoint=$2 script=$3
  shift 3
  rows+=("$row")
  if [[ ${#wanted[@]} -gt 0 && " ${wanted[*]} " != *" $row "* ]]; then return; fi
  if [[ -e $results/$row.csv ]]; then echo "$row is done"; return; fi
  "$PYTHON" "$script" --config "$preset" --resume "${settings[@]}" "$@"
  "$PYTHON" checkpoint/shrink.py "$checkpoint" "$checkpoint"
  "$PYTHON" test_NYU.py --pretrained_path "$checkpoint" --no-dump --pictures 0 \
    "${settings[@]}" output="visual_pred/$name/$row"
  rm -f "${checkpoint%.pth}"_{backup,best}.pth
  cp "logs/$(basename "$checkpoint" .pth)/metrics.csv" "$results/training/$row.csv"
  cp "visual_pred/$name/$row/results.csv" "$results/$row.csv.new"
  mv "$results/$row.csv.new" "$results/$row.csv"
}

show_table() {
  local row
  for row in "${wanted[@]}"; do
    if [[ " ${rows[*]} " != *" $row "* ]]; then
      echo "error: there is no row $row, but ${rows[*]}" >&2
      exit 2
    fi
  done
  "$PYTHON" runs/table.py "$results"
}

# Seed 0 has the names that the presets give.
suffix() { if [[ $1 != 0 ]]; then echo "_seed$1"; fi; }

teacher() {  # seed
  local path=teacher/${name}_teacher$(suffix "$1").pth
  row "teacher_seed$1" "$path" train_teacher.py seed="$1" train.teacher_path="$path"
}

student() {  # row, seed, settings ...
  local path=checkpoint/${name}_$1$(suffix "$2").pth
  row "$1_seed$2" "$path" train_student.py seed="$2" train.student_path="$path" \
    train.teacher_path="teacher/${name}_teacher$(suffix "$2").pth" "${@:3}"
}

undistilled=(loss.weight_kd_t=0 loss.weight_kd_sc=0 loss.weight_kd_sa=0)
