"""Which precision a processor computes in, where the config leaves it open.

A CPU without instructions for bfloat16 computes it by emulation, which takes more time than float32 does:
jobs/README.md has figures. GPUs, and CPUs of which this is not known, are left to vLLM.
"""

import os
from collections.abc import Mapping
from typing import Any

import torch

from hypsae_ray.config import Embed, Llm
from hypsae_ray.models.locate import locate

AUTO, FLOAT32, BFLOAT16 = "auto", "float32", "bfloat16"
# Instructions that compute bfloat16, by the names of torch.cpu: of x86, and of ARM.
_INSTRUCTIONS = ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16")
# Limits that a user may set oneDNN and torch; with these, an x86 CPU is used without such instructions.
_BELOW: Mapping[str, frozenset[str]] = {
    "ONEDNN_MAX_CPU_ISA": frozenset(
        ("SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2", "AVX512_CORE", "AVX512_CORE_VNNI")
    ),
    "ATEN_CPU_CAPABILITY": frozenset(("DEFAULT", "AVX2")),
}


def dtype_on_cpu(llm: Llm) -> tuple[str, str]:
    """Return the dtype that vLLM is given on this machine's CPU, and a line with the reason.

    The line is empty where the config or vLLM decides. A quantized model has a dtype that fits its kernels.
    """
    if llm.dtype != AUTO or _is_quantized(llm):
        return llm.dtype, ""
    reason = lacks_bfloat16(torch.cpu.get_capabilities(), os.environ)
    return (FLOAT32, f"llm: {FLOAT32}, since {reason}") if reason else (AUTO, "")


def dtype_of_embedder(options: Embed, device: str) -> tuple[str, str]:
    """Return the dtype of an embedding model on a torch device, and a line with the reason, or ""."""
    if options.dtype != AUTO:
        return options.dtype, ""
    if device.startswith("cuda"):
        return (BFLOAT16 if torch.cuda.is_bf16_supported(including_emulation=False) else FLOAT32), ""
    capabilities = torch.cpu.get_capabilities() if device == "cpu" else {}
    if reason := lacks_bfloat16(capabilities, os.environ):
        return FLOAT32, f"embed: {FLOAT32}, since {reason}"
    return (BFLOAT16 if any(map(capabilities.get, _INSTRUCTIONS)) else FLOAT32), ""


def lacks_bfloat16(capabilities: Mapping[str, Any], environment: Mapping[str, str]) -> str:
    """Return why a CPU does not compute bfloat16 by instructions of its own; nothing if it does.

    Args:
        capabilities: what `torch.cpu.get_capabilities` finds; where it names no such instruction, present or
            absent, the CPU is not known here, and lacks nothing.
        environment: variables of the process, among them limits on the instructions to use.

    >>> lacks_bfloat16({"avx512_bf16": False, "amx_bf16": False}, {})
    'this CPU has no bfloat16 instructions'
    >>> lacks_bfloat16({"avx512_bf16": True, "amx_bf16": False}, {"ONEDNN_MAX_CPU_ISA": "AVX2"})
    'ONEDNN_MAX_CPU_ISA=AVX2 leaves out bfloat16 instructions'
    """
    found = [bool(capabilities[name]) for name in _INSTRUCTIONS if name in capabilities]
    if not found:
        return ""
    if not any(found):
        return "this CPU has no bfloat16 instructions"
    limits = {name: environment.get(name, "") for name in _BELOW if "avx512_bf16" in capabilities}
    below = [f"{name}={limit}" for name, limit in limits.items() if limit.upper() in _BELOW[name]]
    return f"{below[0]} leaves out bfloat16 instructions" if below else ""


def _is_quantized(llm: Llm) -> bool:
    """Whether the weights are stored in fewer bits, by the model's config or `engine_args`."""
    from transformers import PretrainedConfig

    if "quantization" in llm.engine_args:
        return True
    try:
        revision = llm.trust_remote_code or llm.revision
        found, _ = PretrainedConfig.get_config_dict(locate(llm.model), revision=revision)
    except OSError:  # transformers cannot read it; vLLM reports why when it loads
        return False
    return "quantization_config" in found or "compression_config" in found
