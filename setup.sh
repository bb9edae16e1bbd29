# Sourced by run.sh, test.sh and runs/: makes $PYTHON a Python that has the requirements.

# Freed memory is kept: on the CPU a sixth of the time of a small training goes into getting it back.
export MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=100000000000

PYTHON=${PYTHON:-python3}
modules="torch torchvision trimesh onnx onnxscript onnxruntime timm safetensors segmentation_models_pytorch numpy scipy cv2 yaml easydict tqdm
  tensorboard matplotlib h5py embreex threadpoolctl sklearn pytest ruff"
has_modules() { "$1" -c "import importlib.util as u, sys
sys.exit(any(u.find_spec(m) is None for m in '''$modules'''.split()))" 2>/dev/null; }

if ! "$PYTHON" -c "import sys; sys.exit(sys.version_info < (3, 10))"; then
  echo "error: Python 3.10 or newer is needed: set PYTHON=/path/to/python3" >&2
  exit 2
fi
if ! has_modules "$PYTHON"; then
  if ! has_modules .venv/bin/python; then
    echo "Installing requirements.txt into .venv, once: some 6 GB on Linux, 4 of them PyTorch's CUDA"
    echo "libraries. Without a GPU, begin with PyTorch's CPU build in .venv (README.md)."
    "$PYTHON" -m venv .venv
    .venv/bin/python -m pip install -r requirements.txt
  fi
  PYTHON=.venv/bin/python
fi
