"""Which precision a CPU is given, by the instructions of real ones and by limits that a user sets."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from hypsae_ray.config import Embed, Llm
from hypsae_ray.models.precision import dtype_of_embedder, dtype_on_cpu, lacks_bfloat16

# As the makers' manuals tell: name, what torch.cpu says of it, whether it has instructions for bfloat16.
CPUS: list[tuple[str, dict[str, Any], bool]] = [
    ("Intel i7-8550U", {"avx2": True, "avx512_f": False, "avx512_bf16": False, "amx_bf16": False}, False),
    ("AMD Zen 3", {"avx2": True, "avx512_f": False, "avx512_bf16": False, "amx_bf16": False}, False),
    ("Intel Ice Lake", {"avx2": True, "avx512_f": True, "avx512_bf16": False, "amx_bf16": False}, False),
    ("AMD Zen 4", {"avx2": True, "avx512_f": True, "avx512_bf16": True, "amx_bf16": False}, True),
    ("Intel Sapphire Rapids", {"avx2": True, "avx512_f": True, "avx512_bf16": True, "amx_bf16": True}, True),
    ("Apple M1", {"neon": True, "bf16": False}, False),
    ("AWS Graviton3", {"neon": True, "bf16": True, "sve_bf16": True}, True),
]


@pytest.mark.parametrize(("name", "capabilities", "has"), CPUS, ids=[name for name, _, _ in CPUS])
def test_a_cpu_has_the_instructions_that_its_maker_lists(name: str, capabilities: dict, has: bool):
    assert (lacks_bfloat16(capabilities, {}) == "") == has


def test_a_cpu_of_a_kind_that_is_not_known_is_left_to_vllm():
    assert lacks_bfloat16({"architecture": "ppc64le"}, {"ONEDNN_MAX_CPU_ISA": "AVX2"}) == ""


ZEN_4 = next(capabilities for name, capabilities, _ in CPUS if name == "AMD Zen 4")
GRAVITON = next(capabilities for name, capabilities, _ in CPUS if name == "AWS Graviton3")


@pytest.mark.parametrize(
    ("name", "limit", "lacks"),
    [
        ("ONEDNN_MAX_CPU_ISA", "AVX2", True),
        ("ONEDNN_MAX_CPU_ISA", "avx512_core", True),
        ("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_BF16", False),
        ("ONEDNN_MAX_CPU_ISA", "ALL", False),
        ("ATEN_CPU_CAPABILITY", "avx2", True),
        ("ATEN_CPU_CAPABILITY", "avx512", False),
    ],
)
def test_limits_that_a_user_sets_count(name: str, limit: str, lacks: bool):
    reason = f"{name}={limit} leaves out bfloat16 instructions" if lacks else ""
    assert lacks_bfloat16(ZEN_4, {name: limit}) == reason
    assert lacks_bfloat16(GRAVITON, {name: limit}) == ""  # names of x86 say nothing to other CPUs


def config_of_a_model(folder: Path, **config: Any) -> str:
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", **config}))
    return str(folder)


def test_only_what_is_left_open_is_chosen(tmp_path: Path):
    place = config_of_a_model(tmp_path)
    reason = lacks_bfloat16(torch.cpu.get_capabilities(), os.environ)
    chosen = ("float32", f"llm: float32, since {reason}") if reason else ("auto", "")
    assert dtype_on_cpu(Llm(model=place)) == chosen
    assert dtype_on_cpu(Llm(model=place, dtype="bfloat16")) == ("bfloat16", "")


def test_quantized_weights_are_left_to_vllm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    quantized = config_of_a_model(tmp_path, quantization_config={"quant_method": "awq", "bits": 4})
    assert dtype_on_cpu(Llm(model=quantized)) == ("auto", "")
    plain = config_of_a_model(tmp_path)
    assert dtype_on_cpu(Llm(model=plain, engine_args={"quantization": "awq"})) == ("auto", "")


def test_an_embedder_takes_bfloat16_where_there_are_instructions_for_it():
    capabilities = torch.cpu.get_capabilities()
    has = any(map(capabilities.get, ("avx512_bf16", "amx_bf16", "bf16")))
    reason = lacks_bfloat16(capabilities, os.environ)
    said = f"embed: float32, since {reason}" if reason else ""
    dtype = "bfloat16" if has and not reason else "float32"
    assert dtype_of_embedder(Embed(dtype="auto"), "cpu") == (dtype, said)
    assert dtype_of_embedder(Embed(dtype="auto"), "mps") == ("float32", "")
    assert dtype_of_embedder(Embed(dtype="float16"), "cpu") == ("float16", "")
