"""Whether a model that isn't loaded would fit into the GPUs' memory."""

from collections.abc import Sequence

from provider.gate.attribution import chosen_gpus, missing_gpus
from provider.gate.readings import GpuReading, GpuSnapshot
from provider.protocol.engine import EngineStatus, ModelInfo

MIB_BYTES = 2**20


def fits(
    model: ModelInfo,
    status: EngineStatus,
    snapshot: GpuSnapshot,
    chosen: Sequence[int | str] | None,
    *,
    factor: float,
    is_working: bool,
) -> bool:
    """Whether the engine can serve this model now without more GPU memory than there is.

    What nobody knows (the model's size, a GPU's memory, a machine without a GPU) speaks for it: an engine can still
    refuse, and then the job is given back.

    Args:
        model: The model asked for; one that is loaded fits.
        status: What the engine says, its loaded models among it.
        snapshot: All GPUs.
        chosen: The engine's, as for `chosen_gpus`. Their memory adds up, as engines split a model over GPUs.
        factor: What a model takes, as a multiple of the bytes of its weights.
        is_working: Whether jobs of ours run. If not, the engine may unload what it holds to make room.
    """
    if model.is_loaded or model.size_bytes is None or missing_gpus(snapshot, chosen):
        return True
    memory = [_free_and_total_bytes(gpu) for gpu in chosen_gpus(snapshot, chosen)]
    known = [figures for figures in memory if figures is not None]
    if not known or len(known) < len(memory):
        return True
    free_bytes = sum(free for free, _ in known)
    if not is_working:
        held_bytes = sum(loaded.gpu_bytes or 0 for loaded in status.models if loaded.is_loaded)
        # The two looks, at the engine and at the GPU, are not of one moment: a model that went in between is in both
        # figures. More than all there is can't come of it.
        free_bytes = min(free_bytes + held_bytes, sum(total for _, total in known))
    return model.size_bytes * factor <= free_bytes


def _free_and_total_bytes(gpu: GpuReading) -> tuple[int, int] | None:
    if gpu.memory_used_mib is None or gpu.memory_total_mib is None:
        return None
    return max(0, gpu.memory_total_mib - gpu.memory_used_mib) * MIB_BYTES, gpu.memory_total_mib * MIB_BYTES
