"""Pictures of grids as `GET /api/overview` tells them, without a grid."""

from typing import Any

AT_MS = 1_795_297_554_814
GPU = {
    "name": "NVIDIA GeForce RTX 4090",
    "uuid": "GPU-1",
    "driver_version": "570.86.10",
    "cuda_version": "12.8",
    "memory_used_mib": 12_400,
    "memory_total_mib": 24_564,
    "utilization_pct": 78,
    "temperature_c": 61,
    "power_w": 222.4,
}


def node(state: str = "idle", **fields: Any) -> dict[str, Any]:
    """A node with one GPU."""
    return {
        "hostname": "h",
        "version": "0.1.0",
        "state": state,
        "reasons": [],
        "models": ["llama3.2:3b", "smollm2:135m"],
        "loaded": ["smollm2:135m"],
        "slots": 4,
        "running": 0,
        "gpus": [GPU],
        "engine": {"kind": "ollama"},
        "started_at": AT_MS - 3_600_000,
        **fields,
    }


def running(**fields: Any) -> dict[str, Any]:
    """A request that streams."""
    return {
        "model": "smollm2:135m",
        "node": "desk",
        "lane": "interactive",
        "attempt": 1,
        "status": "streaming",
        "key": "me",
        "queued_at": AT_MS - 4_200,
        "claimed_at": AT_MS - 4_000,
        "first_data_at": AT_MS - 3_800,
        "tokens": 57,
        "tokens_per_s": 31.4,
        **fields,
    }


def picture(**parts: Any) -> dict[str, Any]:
    """A small grid at work; parts that are named stand in place of its own."""
    minute = AT_MS // 60_000 * 60_000
    nodes = {
        "desk": node("busy", running=4, gpus=[GPU, {**GPU, "utilization_pct": 4, "memory_used_mib": 23_900}]),
        "attic": node("paused", reasons=["gpu-busy"]),
        "vm": node("idle", gpus=[], loaded=[]),
    }
    return {
        "at": AT_MS,
        "hub": {"id": "desk-7166962d", "version": "0.1.0", "needs_keys": False},
        "hubs": {"desk-7166962d": {"address": "127.0.0.1:8080", "version": "0.1.0", "open_requests": 5}},
        "nodes": nodes,
        "models": {"smollm2:135m": {"nodes": 3, "idle": 1, "loaded": ["desk"], "waiting": 3, "running": 2}},
        "queues": {
            "interactive:smollm2:135m": {
                "model": "smollm2:135m",
                "lane": "interactive",
                "waiting": 3,
                "running": 2,
                "oldest_at": AT_MS - 12_000,
            },
            "batch:llama3.2:3b": {"model": "llama3.2:3b", "lane": "batch", "waiting": 0, "running": 0},
        },
        "running": {"a" * 32: running(), "b" * 32: running(attempt=2, tokens=1234, queued_at=AT_MS - 130_000)},
        "waiting": {
            "c" * 32: {"model": "smollm2:135m", "lane": "interactive", "queued_at": AT_MS - 12_000, "place": 1}
        },
        "totals": {
            "nodes": 3,
            "idle": 1,
            "busy": 1,
            "draining": 0,
            "paused": 1,
            "slots": 12,
            "running": 4,
            "waiting": 3,
            "dead": 1,
            "tokens_per_s": 62.8,
        },
        "history": {
            "step_s": 60,
            "points": {
                str(minute - back * 60_000): {
                    "requests": 12,
                    "failed": int(back == 5),
                    "prompt_tokens": 300,
                    "completion_tokens": 200 * (1 + back % 7),
                    "retried": 0,
                    "first_token_p50_ms": 120,
                    "first_token_p95_ms": 800,
                }
                for back in range(20)
            },
        },
        **parts,
    }
