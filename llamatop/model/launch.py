"""How a worker was started, and what the kernel holds its process to."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct


class Launch(Struct, frozen=True):
    """How a worker was started, from its running process where there is one, else from its unit.

    `source` says which. `context_tokens` is the whole `--ctx-size`; `api_key` tells whether one is
    asked for; secrets on the command line never leave the node. `environment_known` is true where
    all of its variables could be read: what is None is then not set. `outdated` names the options
    and variables that the process runs with otherwise than its unit says now; None where there is
    none, or it cannot be told. `window_full` is `--swa-full`; `extras` are flags that load more
    than the model or move some of its tensors.
    """

    source: Literal["process", "unit"] | None = None
    model: str | None = None
    alias: str | None = None
    host: str | None = None
    port: int | None = None
    parallel: int | None = None
    context_tokens: int | None = None
    cuda_visible_devices: str | None = None
    split_mode: str | None = None
    tensor_split: str | None = None
    tensor_parallel: int | None = None
    main_gpu: int | None = None
    devices: str | None = None
    gpu_layers: str | None = None
    metrics: bool | None = None
    slots_endpoint: bool | None = None
    environment_known: bool | None = None
    cuda_device_order: str | None = None
    mlock: bool | None = None
    api_key: bool | None = None
    outdated: tuple[str, ...] | None = None
    cache_type_k: str | None = None
    cache_type_v: str | None = None
    batch_tokens: int | None = None
    ubatch_tokens: int | None = None
    flash_attention: str | None = None
    kv_unified: bool | None = None
    kv_offload: bool | None = None
    window_full: bool | None = None
    extras: tuple[str, ...] | None = None


class Confines(Struct, frozen=True):
    """What the kernel holds a running process to; same as /proc/PID/status and limits.

    `cpus` and `memory_nodes` are lists as the kernel writes them (`0-15`); `memlock_bytes` is
    how much it may lock, 2**63 - 1 for no limit. `model_filesystem` is the type of the file
    system that its model lies on (`ext4`, `nfs4`).
    """

    cpus: str | None = None
    memory_nodes: str | None = None
    memlock_bytes: int | None = None
    model_filesystem: str | None = None
