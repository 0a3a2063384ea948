"""How a model is loaded and a context opened, by llama.cpp's names; checked when constructed."""

from dataclasses import dataclass
from pathlib import Path

from adapters.cpu import usable_cores
from adapters.errors import ConfigError

SPLIT_MODES = ("none", "layer", "row", "tensor")
KV_TYPES = ("f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl")
MAX_SEQ = 256  # LLAMA_MAX_SEQ: more sequences abort the process


def require(condition: bool, message: str) -> None:
    """Raise `ConfigError(message)` unless `condition` holds."""
    if not condition:
        raise ConfigError(message)


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """How the weights are loaded.

    n_gpu_layers: layers on the GPU, -1 = all. tensor_split: share of each GPU. lora: LoRA GGUFs, each
    applied with the scale at the same place of lora_scale (1.0 where none is given). use_extra_bufts:
    repack weights for faster CPU kernels; None = where that is safe (see llama_model.amx_is_safe).
    rpc_servers: ggml-rpc-servers (host:port) that take layers, before the GPUs of this machine.
    """

    n_gpu_layers: int = -1
    main_gpu: int = 0
    split_mode: str = "layer"
    tensor_split: tuple[float, ...] = ()
    use_mmap: bool = True
    use_mlock: bool = False
    lora: tuple[str | Path, ...] = ()
    lora_scale: tuple[float, ...] = ()
    use_extra_bufts: bool | None = None
    rpc_servers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        require(
            not isinstance(self.rpc_servers, str),
            f"rpc_servers must be several endpoints; put {self.rpc_servers!r} into a list",
        )
        modes = ", ".join(SPLIT_MODES)
        require(
            self.split_mode in SPLIT_MODES,
            f"split_mode must be one of {modes}, got {self.split_mode!r}",
        )
        require(
            self.n_gpu_layers >= -1,
            f"n_gpu_layers must be -1 (all) or more, got {self.n_gpu_layers}",
        )
        require(self.main_gpu >= 0, f"main_gpu must be >= 0, got {self.main_gpu}")
        require(
            all(share >= 0 for share in self.tensor_split),
            f"tensor_split must hold shares >= 0, got {self.tensor_split}",
        )
        require(
            len(self.lora_scale) <= len(self.lora),
            f"lora_scale has {len(self.lora_scale)} values for {len(self.lora)} LoRA files",
        )

    @property
    def scaled_lora(self) -> tuple[tuple[Path, float], ...]:
        """Each LoRA file with its scale."""
        scales = self.lora_scale + (1.0,) * (len(self.lora) - len(self.lora_scale))
        return tuple((Path(path).expanduser(), scale) for path, scale in zip(self.lora, scales, strict=True))


@dataclass(frozen=True, slots=True)
class ContextSettings:
    """How a context is opened.

    n_ctx: tokens it can hold, 0 = the model's training context but at most 4096 (llama.cpp rounds up
    to a multiple of 256). n_threads / n_threads_batch: threads for one row / for several, None = all
    cores given to this process. flash_attn: None = llama.cpp decides. max_rows: largest number of
    rows that one decode may score, the root included. n_seq_max: leaves of a draft tree.
    """

    n_ctx: int = 0
    n_batch: int = 512
    n_ubatch: int = 512
    n_threads: int | None = None
    n_threads_batch: int | None = None
    flash_attn: bool | None = None
    type_k: str = "f16"
    type_v: str = "f16"
    offload_kqv: bool = True
    max_rows: int = 64
    n_seq_max: int = 1

    def __post_init__(self) -> None:
        require(self.n_ctx >= 0, f"n_ctx must be >= 0 (0 = the model's own), got {self.n_ctx}")
        require(self.n_batch >= 1, f"n_batch must be >= 1, got {self.n_batch}")
        require(
            1 <= self.n_ubatch <= self.n_batch,
            f"n_ubatch must be between 1 and n_batch ({self.n_batch}), got {self.n_ubatch}",
        )
        # a tree must fit into one compute graph
        require(
            1 <= self.max_rows <= self.n_ubatch,
            f"max_rows must be between 1 and n_ubatch ({self.n_ubatch}), got {self.max_rows}",
        )
        most = min(MAX_SEQ, self.max_rows)
        require(
            1 <= self.n_seq_max <= most,
            f"n_seq_max must be between 1 and {most} (max_rows, at most {MAX_SEQ}), got {self.n_seq_max}",
        )
        for name, threads in (
            ("n_threads", self.n_threads),
            ("n_threads_batch", self.n_threads_batch),
        ):
            require(
                threads is None or 1 <= threads <= 512,
                f"{name} must be between 1 and 512, got {threads}",
            )
        for name, kv_type in (("type_k", self.type_k), ("type_v", self.type_v)):
            require(kv_type in KV_TYPES, f"{name} must be one of {', '.join(KV_TYPES)}, got {kv_type!r}")
        quantized_v = self.type_v not in ("f32", "f16", "bf16")
        require(
            not (quantized_v and self.flash_attn is False),
            f"type_v={self.type_v!r} needs flash attention; leave flash_attn unset or use type_v='f16'",
        )

    @property
    def threads(self) -> tuple[int, int]:
        """Threads for one row, and for several, once the defaults are filled in."""
        n_threads = self.n_threads or usable_cores()
        return n_threads, self.n_threads_batch or n_threads
