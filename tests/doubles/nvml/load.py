"""Keeps a real GPU busy, with nothing but the driver: `python -m tests.doubles.nvml.load`, until stdin closes.

It says `busy` on stdout once its first kernel has run. `CUDA_VISIBLE_DEVICES` chooses the GPU.
"""

import ctypes
import select
import sys
from typing import Any

_TARGETS = (("6.4", "sm_75"), ("6.0", "sm_50"))
"""PTX version and oldest GPU: newer drivers drop old targets, older GPUs can't take new ones."""
_KERNEL = """
.version {version}
.target {target}
.address_size 64
.visible .entry spin(.param .u64 cycles)
{{
    .reg .pred %p<2>;
    .reg .u64 %rd<5>;
    ld.param.u64 %rd1, [cycles];
    mov.u64 %rd2, %clock64;
again:
    mov.u64 %rd3, %clock64;
    sub.u64 %rd4, %rd3, %rd2;
    setp.lt.u64 %p1, %rd4, %rd1;
    @%p1 bra again;
    ret;
}}
"""
_CYCLES = 30_000_000
"""About 20 ms: long beside the pause between two kernels, short beside a sample period of the driver."""


class CudaError(RuntimeError):
    """The driver refused a call."""


def main() -> None:
    """Run kernel after kernel."""
    cuda = ctypes.CDLL("libcuda.so.1")
    spin = _kernel(cuda)
    cycles = ctypes.c_uint64(_CYCLES)
    arguments = (ctypes.c_void_p * 1)(ctypes.cast(ctypes.byref(cycles), ctypes.c_void_p))
    has_said = False
    while not select.select([sys.stdin], [], [], 0)[0]:
        _call(cuda.cuLaunchKernel, spin, 1, 1, 1, 32, 1, 1, 0, None, arguments, None)
        _call(cuda.cuCtxSynchronize)
        if not has_said:
            print("busy", flush=True)
            has_said = True


def _kernel(cuda: ctypes.CDLL) -> ctypes.c_void_p:
    device, context = ctypes.c_int(), ctypes.c_void_p()
    _call(cuda.cuInit, 0)
    _call(cuda.cuDeviceGet, ctypes.byref(device), 0)
    _call(cuda.cuDevicePrimaryCtxRetain, ctypes.byref(context), device)
    _call(cuda.cuCtxSetCurrent, context)
    module, kernel = ctypes.c_void_p(), ctypes.c_void_p()
    for version, target in _TARGETS:
        source = _KERNEL.format(version=version, target=target).encode()
        code = cuda.cuModuleLoadData(ctypes.byref(module), source)
        if code == 0:
            _call(cuda.cuModuleGetFunction, ctypes.byref(kernel), module, b"spin")
            return kernel
    raise CudaError(f"no kernel for this GPU: code {code}")


def _call(function: Any, *arguments: object) -> None:
    if code := function(*arguments):
        raise CudaError(f"{function.__name__}: code {code}")


if __name__ == "__main__":
    main()
