"""A grid that isn't there, as `/api/overview` would tell of it: for scale, and for states that are rare."""

import hashlib
import time
from typing import Any

from common.reasons import WORDS

MODELS = ("llama3.3:70b", "qwen3:32b", "smollm2:135m", "gemma3:27b", "nomic-embed-text")
GPUS = (("NVIDIA GeForce RTX 4090", 24564), ("NVIDIA RTX A6000", 49140), ("NVIDIA H100 80GB HBM3", 81559))
STATES: tuple[tuple[str, list[str]], ...] = (
    ("idle", []),
    ("busy", []),
    ("idle", []),
    ("paused", ["gpu-busy"]),
    ("busy", []),
    ("draining", ["draining"]),
    ("idle", []),
    ("paused", ["outside-schedule"]),
)
NAMES = ("atlas", "borealis", "cedar", "delta", "ember", "fjord", "grove", "harbor")


def request_id(number: int) -> str:
    return hashlib.blake2b(number.to_bytes(8, "big"), digest_size=16).hexdigest()


def node(number: int) -> dict[str, Any]:
    """One machine; which state and GPU it has follows from its number."""
    state, reasons = STATES[number % len(STATES)]
    gpu, memory_mib = GPUS[number % len(GPUS)]
    is_used = state == "busy" or "gpu-busy" in reasons
    models = [MODELS[(number + step) % len(MODELS)] for step in range(1 + number % 3)]
    return {
        "hostname": f"{NAMES[number % len(NAMES)]}.lab",
        "version": "0.1.0",
        "state": state,
        "reasons": reasons,
        "models": models,
        "loaded": models[:1],
        "slots": 4,
        "running": 4 if state == "busy" else 1 if state == "draining" else 0,
        "gpus": [
            {
                "name": gpu,
                "uuid": f"GPU-{number:04d}-{card}",
                "driver_version": "580.95.05",
                "cuda_version": "13.0",
                "memory_used_mib": int(memory_mib * (0.82 if is_used else 0.34)),
                "memory_total_mib": memory_mib,
                "utilization_pct": 61 + number % 38 if is_used else number % 3,
                "temperature_c": 71 if is_used else 38,
                "power_w": 312.0 if is_used else 41.0,
            }
            for card in range(1 + number % 2)
        ],
        "engine": {"kind": ("ollama", "vllm", "llamacpp")[number % 3], "version": "0.12.3", "url": "http://127.0.0.1"},
        "public_url": "",
        "started_at": now_ms() - 86_400_000,
    }


def grid(nodes: int = 8, waiting: int = 3) -> dict[str, Any]:
    """A snapshot with so many nodes, and so many requests in one lane (of which 50 are shown)."""
    now = now_ms()
    shown = {(NAMES[at] if at < len(NAMES) else f"node-{at:03d}"): node(at) for at in range(nodes)}
    busy = [name for name, one in shown.items() if one["running"]]
    running = {request_id(1000 + at): _running(at, name, now) for at, name in enumerate(busy * 4) if at < 200}
    states = [one["state"] for one in shown.values()]
    return {
        "at": now,
        "hub": {"id": "hub-7166962d", "version": "0.1.0", "needs_keys": False},
        "hubs": {
            f"hub-{one}": {
                "address": f"10.0.0.{at}:8080",
                "version": "0.1.0",
                "open_requests": at,
                "started_at": now - 9**9,
            }
            for at, one in enumerate(("7166962d", "a94ff301"), 4)
        },
        "nodes": shown,
        "models": {name: _model(name, shown, waiting if name == MODELS[0] else 0) for name in MODELS},
        "queues": {
            f"interactive:{MODELS[0]}": _queue(MODELS[0], "interactive", waiting, now),
            f"batch:{MODELS[1]}": _queue(MODELS[1], "batch", 0, now),
            f"retry:{MODELS[0]}": _queue(MODELS[0], "retry", 0, now),
        },
        "running": running,
        "waiting": {
            request_id(5000 + at): {
                "model": MODELS[0],
                "lane": "interactive",
                "key": "5b1f6c0a9d3e2f47",
                "queued_at": now - 42_000 + 700 * at,
                "place": at + 1,
            }
            for at in range(min(waiting, 50))
        },
        "totals": {
            "nodes": nodes,
            **{state: states.count(state) for state in ("idle", "busy", "draining", "paused")},
            "slots": 4 * nodes,
            "running": len(running),
            "waiting": waiting,
            "dead": 2 if nodes else 0,
            "tokens_per_s": round(sum(one["tokens_per_s"] for one in running.values()), 1),
        },
        "history": {"step_s": 60, "points": _points(now) if nodes else {}},
        "words": {reason.value: words.text for reason, words in WORDS.items()},
    }


def now_ms() -> int:
    return int(time.time() * 1000)


def _running(at: int, name: str, now: int) -> dict[str, Any]:
    return {
        "model": MODELS[at % 3],
        "node": name,
        "lane": "retry" if at % 7 == 3 else "interactive",
        "attempt": 2 if at % 7 == 3 else 1,
        "status": "streaming" if at % 5 else "claimed",
        "key": "5b1f6c0a9d3e2f47",
        "queued_at": now - 9000 - 310 * at,
        "claimed_at": now - 8600 - 310 * at,
        "tokens": 57 + 31 * at,
        "tokens_per_s": round(18.4 + (at * 7) % 23, 1),
    }


def _model(name: str, nodes: dict[str, Any], waiting: int) -> dict[str, Any]:
    having = {key: one for key, one in nodes.items() if name in one["models"]}
    return {
        "nodes": len(having),
        "idle": sum(one["state"] == "idle" for one in having.values()),
        "loaded": [key for key, one in having.items() if name in one["loaded"]],
        "waiting": waiting,
        "running": sum(one["running"] for one in having.values()),
    }


def _queue(model: str, lane: str, waiting: int, now: int) -> dict[str, Any]:
    queue: dict[str, Any] = {"model": model, "lane": lane, "waiting": waiting, "running": 4}
    return {**queue, "oldest_at": now - 42_000} if waiting else queue


def _points(now: int) -> dict[str, Any]:
    last = now - now % 60_000
    points = {}
    for ago in range(60):
        load = 1 + (ago * 37 % 11) / 6 + (2.2 if 18 < ago < 34 else 0)
        if ago == 0:  # the minute that has just begun
            load *= max(10_000, now - last) / 60_000
        points[str(last - ago * 60_000)] = {
            "requests": int(14 * load),
            "failed": 2 if ago % 17 == 5 else 0,
            "retried": int(ago % 9 == 4),
            "prompt_tokens": int(5200 * load),
            "completion_tokens": int(9100 * load),
            "first_token_p50_ms": int(105 * load),
            "first_token_p95_ms": int(340 * load + (ago * 53 % 190)),
        }
    return points
