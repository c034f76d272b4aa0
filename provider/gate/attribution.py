"""Whose load it is: how much of the GPUs is used by others than the engine."""

from collections.abc import Sequence

from provider.gate.readings import GpuReading, GpuSnapshot


def chosen_gpus(snapshot: GpuSnapshot, chosen: Sequence[int | str] | None) -> tuple[GpuReading, ...]:
    """The GPUs that the engine uses, in the machine's order, each once.

    Args:
        snapshot: All GPUs.
        chosen: Indexes or UUIDs, these in any case and with or without `GPU-`; None stands for all GPUs.
    """
    if chosen is None:
        return snapshot.gpus
    return tuple(gpu for gpu in snapshot.gpus if any(_is_meant(gpu, which) for which in chosen))


def missing_gpus(snapshot: GpuSnapshot, chosen: Sequence[int | str] | None) -> tuple[int | str, ...]:
    """Those chosen that this machine doesn't have, as they were written. Without a driver that is all of them."""
    return tuple(which for which in chosen or () if not any(_is_meant(gpu, which) for gpu in snapshot.gpus))


def foreign_pct(
    snapshot: GpuSnapshot,
    chosen: Sequence[int | str] | None,
    own_pids: frozenset[int] | None,
    *,
    is_working: bool,
) -> float | None:
    """Utilisation in percent, by others than our engine, of that GPU of the engine's that they use most.

    None says that it cannot be told, and one GPU that cannot tell is enough for that: it may be the one in use. Who
    chooses no GPU at all (an engine on the CPU) is disturbed by nobody: 0.

    Args:
        snapshot: All GPUs.
        chosen: The engine's, as for `chosen_gpus`.
        own_pids: The engine's processes; None: not known. All but these are others, so look for them anew when a pid
            turns up that was never seen: the engine may just have started it for another model.
        is_working: Whether a job of ours runs or ended a moment ago. If not, all use is by others, also of the engine:
            then its owner is talking to it.
    """
    if chosen is not None and not chosen:
        return 0.0
    gpus = chosen_gpus(snapshot, chosen)
    if not gpus or missing_gpus(snapshot, chosen):
        return None
    known = [value for gpu in gpus if (value := _foreign_pct_of(gpu, own_pids, is_working=is_working)) is not None]
    return max(known) if len(known) == len(gpus) else None


def _foreign_pct_of(gpu: GpuReading, own_pids: frozenset[int] | None, *, is_working: bool) -> float | None:
    if not is_working:
        return None if gpu.utilization_pct is None else float(gpu.utilization_pct)
    if gpu.processes is None or own_pids is None:
        return None
    # The GPU's total is no bound for this sum: it tells of a window of its own, which ends earlier or later than the
    # samples of the processes, so at the moment when the owner begins to work it would hide that for a reading or two.
    # Subtracting our share from the total would err the same way. 100 is a bound: samples of one pid at different
    # moments may add up to more.
    return min(100.0, float(sum(p.utilization_pct for p in gpu.processes if p.pid not in own_pids)))


def _is_meant(gpu: GpuReading, which: int | str) -> bool:
    if isinstance(which, int):
        return gpu.index == which
    return gpu.index == int(which) if which.isdecimal() else _bare(gpu.uuid) == _bare(which)


def _bare(uuid: str) -> str:
    return uuid.strip().casefold().removeprefix("gpu-")
