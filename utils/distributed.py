"""Processes and devices: what a script needs to run under torchrun, and without it."""

import contextlib
import os
import warnings
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn

from errors import InputError

# How long processes wait for one that neither answers nor has closed its connections. The longest
# rightful wait is for the slowest share of an evaluation, or for a checkpoint to be written.
PATIENCE = timedelta(minutes=15)
NO_MPS = (
    "Apple's GPU (mps) is not used: it lacks the double precision in which sums are taken, and was "
    "never tried; the CPU serves"
)


def setup() -> torch.device:
    """Join the process group if torchrun started this process; choose the device.

    Raises InputError where a launcher started several processes that do not know of each other.
    """
    several = started_by_torchrun()
    device = available_device()
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
        if device.index >= torch.cuda.device_count():
            raise InputError(
                f"process {device.index} has no GPU of its own: start torchrun with "
                f"--nproc_per_node={torch.cuda.device_count()}"
            )
        torch.cuda.set_device(device)
    if several:
        on_gpu = device.type == "cuda"
        dist.init_process_group(
            "nccl" if on_gpu else "gloo", timeout=PATIENCE, device_id=device if on_gpu else None
        )
    return device


def available_device() -> torch.device:
    """A GPU if there is one, else the CPU, which is said where it has a GPU beside it."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        print(f"device: cpu ({NO_MPS})")
    return torch.device("cpu")


def started_by_torchrun() -> bool:
    """Judged by its variables; schedulers set some of them too. Raises InputError as setup."""
    size, rank = (os.environ.get(name, "") for name in ("WORLD_SIZE", "RANK"))
    if rank.isdecimal() and size.isdecimal():
        return True
    copies = os.environ.get("SLURM_STEP_NUM_TASKS", "1")  # of this command, by srun
    if copies != "1" and "SLURM_PROCID" in os.environ:
        raise InputError(
            f"srun started {copies} copies of this command, which do not know of each other: start "
            "it once a machine (--ntasks-per-node=1), through torchrun (docs/SCALE.md)"
        )
    if size not in ("", "1"):
        raise InputError(
            f"WORLD_SIZE is {size}, but RANK is {rank or 'not set'}: start several processes with "
            "torchrun (docs/SCALE.md), or unset WORLD_SIZE for one"
        )
    return False


def cleanup() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def is_main() -> bool:
    """Whether this process prints and writes files."""
    return rank() == 0


def all_sum(tensor: Tensor) -> Tensor:
    """The sum over all processes."""
    if dist.is_initialized():
        tensor = tensor.clone()
        dist.all_reduce(tensor)
    return tensor


def all_max(tensor: Tensor) -> Tensor:
    """The element-wise maximum over all processes."""
    if dist.is_initialized():
        tensor = tensor.clone()
        dist.all_reduce(tensor, dist.ReduceOp.MAX)
    return tensor


def all_gather_lists(items: list) -> list:
    """The items of all processes, in the order of their ranks."""
    if not dist.is_initialized():
        return items
    gathered = [None] * dist.get_world_size()
    dist.all_gather_object(gathered, items)
    return [item for part in gathered for item in part]


def barrier() -> None:
    if dist.is_initialized():
        dist.barrier()


def wrap(model: nn.Module, device: torch.device, sync_bn: bool, find_unused: bool) -> nn.Module:
    """Data parallel where there are several processes; shared batch statistics on GPUs.

    find_unused: where some trainable weights are behind no loss.
    """
    if not dist.is_initialized():
        return model
    if sync_bn and device.type == "cuda":
        from timm.layers import convert_sync_batchnorm  # takes seconds

        # PyTorch's own would lose the activations that timm's batch norms hold.
        model = convert_sync_batchnorm(model)
    # Kernels of 1x1x1 have several names for one layout.
    warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
    ids = [device.index] if device.type == "cuda" else None
    return nn.parallel.DistributedDataParallel(
        model, device_ids=ids, find_unused_parameters=find_unused, gradient_as_bucket_view=True
    )


def broadcast_buffers(model: nn.Module) -> None:
    """Give every process the batch statistics of the first, which are those that are saved."""
    if dist.is_initialized():
        for buffer in model.buffers():
            dist.broadcast(buffer, 0)


def no_sync(model: nn.Module, skip: bool) -> contextlib.AbstractContextManager:
    """A context in which gradients are not exchanged yet, if `skip`."""
    return model.no_sync() if skip and dist.is_initialized() else contextlib.nullcontext()


def gains_by_bf16(device: torch.device) -> bool:
    """Whether a device computes in bf16, instead of imitating it, and faster than in fp32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu":
        return False  # mps and others: not known
    known = getattr(torch.cpu, "get_capabilities", dict)()  # PyTorch 2.10 has it not yet
    if "Intel" in known.get("cpu_name", ""):  # its AVX-512 takes as long as in fp32, and converts
        return known.get("amx_bf16", False)
    return any(known.get(name, False) for name in ("avx512_bf16", "amx_bf16", "sve_bf16"))


def half_type(device: torch.device, precision: str) -> torch.dtype | None:
    """What a train.precision of bf16, fp16 or auto computes in on this device; None: in fp32."""
    if precision == "auto":
        precision = "bf16" if gains_by_bf16(device) else "fp32"
    return {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Mixed precision by setting train.precision: fp32, tf32, bf16, fp16 or auto.

    On GPUs it also sets, from here on and for the backward pass too, whether fp32 means TF32.
    """
    if device.type == "cuda":
        tf32 = precision == "tf32"
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = tf32
    dtype = half_type(device, precision)
    return torch.autocast(device.type, dtype=dtype, enabled=dtype is not None)


def choose_kernels(deterministic: bool) -> None:
    """For the whole process: kernels that add up in one order always, or the fastest of a GPU.

    With the former, seed, machine and number of processes give the same weights, as on the CPU
    anyway.
    """
    torch.backends.cudnn.benchmark = not deterministic  # tries all once for each shape: few here
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # asked for by cuBLAS
        torch.use_deterministic_algorithms(True)
        # It would write to all new memory. Nothing here reads what was not written.
        torch.utils.deterministic.fill_uninitialized_memory = False


def to_device(batch: dict, device: torch.device) -> dict:
    """Move the tensors of a batch; scene names stay."""
    return {
        key: value.to(device, non_blocking=True) if torch.is_tensor(value) else value
        for key, value in batch.items()
    }
