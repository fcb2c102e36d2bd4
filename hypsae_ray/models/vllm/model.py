"""vLLM as a `LanguageModel`: names neurons in prose, and labels texts from the logits of one token.

Every (text, question) pair is one prompt. Prompts that share their beginning are sent one after the other,
all questions of a text or all texts of a question, so that the engine's prefix cache holds it for all but
the first. vLLM never reorders requests, so the order here is what is computed. P(yes) is the softmax over
two sums: of the probabilities of all yes tokens, and of all no tokens.
"""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np

from hypsae_ray.config import Label, Llm
from hypsae_ray.errors import ConfigError, ModelError
from hypsae_ray.models.identity import versions_of
from hypsae_ray.models.locate import locate
from hypsae_ray.models.precision import dtype_on_cpu
from hypsae_ray.models.prompts import wording
from hypsae_ray.models.prompts.label_prompts import LabelPrompts, Segment, chat, pairs_in_order
from hypsae_ray.models.prompts.lengths import CPU_BLOCK
from hypsae_ray.models.protocols import DEFAULT_LABEL, WORDS_KEPT, Annotations, Answer, NamingPrompt, Prompt
from hypsae_ray.models.remote_code import code_arguments, load_error
from hypsae_ray.models.vllm.thread import EngineThread
from hypsae_ray.store.schema import USABLE, Status
from hypsae_ray.store.usage import Usage

YES_WORDS = ("Yes", " Yes", "yes", " yes", "YES", " YES")
NO_WORDS = ("No", " No", "no", " no", "NO", " NO")
THOUGHT_END = "</think>"
_CPU_ARGUMENTS = {
    "block_size": CPU_BLOCK,  # the default of 128 tokens caches little of a prompt of 200
    "enforce_eager": True,  # graphs only cost time here
}


class VllmModel:
    """One vLLM engine inside this process.

    Raises:
        ModelError: the model is not found, or vLLM does not load it; the message holds vLLM's reason.
        ConfigError: the model carries other code than is trusted.
    """

    thread_safe = True

    def __init__(self, llm: Llm) -> None:
        set_environment(llm)
        import vllm

        self._max_len = llm.max_model_len
        self._tokens_per_call = tokens_per_call(llm)
        try:
            self.engine = EngineThread(lambda: vllm.LLM(**engine_arguments(llm)))
        except ConfigError:  # about code that the model carries
            raise
        except Exception as error:
            raise load_error("vLLM cannot load", llm, error) from error
        dtype = str(self.engine.llm.model_config.dtype).removeprefix("torch.")
        self.versions = {**versions_of("vllm", "torch", "transformers"), "precision": dtype}
        self.remark = _dtype(llm)[1]
        self._tokenizer: Any = self.engine.llm.get_tokenizer()
        self._prompts: dict[tuple[bool, bool], LabelPrompts] = {}
        self._yes, self._no = yes_and_no(self._tokenizer, llm)

    def close(self) -> None:
        """End the engine, and free its memory; no other method can be called afterwards."""
        self.engine.close()

    def generate(self, prompts: Sequence[Prompt]) -> list[Answer]:
        """Return one answer per prompt; TOO_LONG if it leaves no room for max_tokens."""
        ids = [self._prompt_ids(prompt) for prompt in prompts]
        fits = [len(i) + p.sampling.max_tokens <= self._max_len for i, p in zip(ids, prompts, strict=True)]
        sent = [k for k, fit in enumerate(fits) if fit]
        answers = [Answer("", Status.TOO_LONG)] * len(prompts)
        for group in pack(sent, [len(i) for i in ids], self._tokens_per_call):
            params = [_writing_params(prompts[k]) for k in group]
            outputs, _ = self.engine.run([ids[k] for k in group], params)
            for k, output in zip(group, outputs, strict=True):
                answers[k] = _answer(output)
        return answers

    def score(
        self,
        texts: Sequence[str],
        questions: Sequence[str],
        options: Label = DEFAULT_LABEL,
        asked: np.ndarray | None = None,
    ) -> Annotations:
        """Return P(yes) per text and question; TOO_LONG where a question leaves no room for a text."""
        mask = np.ones((len(texts), len(questions)), dtype=bool) if asked is None else asked
        pairs, prompts, status = self.label_prompts(texts, questions, options, mask)
        usage = Usage()
        if options.thinking:
            prompts, usage = self._think(prompts, options.thinking_tokens)
        outputs, seconds = self.engine.run(prompts, [label_params(self._yes, self._no)] * len(prompts))
        usage = sum((_usage(output) for output in outputs if output), usage) + Usage(seconds=seconds)
        found = Annotations.empty(len(texts), len(questions), Status.FAILED)
        found.status[:] = status
        first_tokens: Counter[int] = Counter()
        for pair, output in zip(pairs, outputs, strict=True):
            self._enter(output, found, pair, options.min_mass)
            if found.status[pair] == Status.UNSURE:
                first_tokens[output.outputs[0].token_ids[0]] += 1
        words = {self._tokenizer.decode([token]): n for token, n in first_tokens.most_common(WORDS_KEPT)}
        return replace(found, usage=usage, words=words)

    def label_prompts(
        self, texts: Sequence[str], questions: Sequence[str], options: Label, asked: np.ndarray
    ) -> tuple[list[tuple[int, int]], list[list[int]], np.ndarray]:
        """Return pairs (text, question) to send, in the order that shares most, and their prompts as ids.

        The status (n, H) comes third: OK or CUT of pairs that are sent, UNASKED or TOO_LONG of the others.
        """
        maker = self._prompt_maker(options)
        text_first = options.layout != "question_first"
        properties = [maker.property(question) for question in questions]
        segments, status = self._fit(maker, texts, properties, options)
        status[~asked] = Status.UNASKED
        pairs = pairs_in_order(np.isin(status, USABLE), options)
        prompts = [
            maker.prompt(segment, properties[j], text_first=text_first)
            for i, j in pairs
            if (segment := segments[i]) is not None
        ]
        return pairs, prompts, status

    def _prompt_maker(self, options: Label) -> LabelPrompts:
        key = options.thinking, options.guard
        if key not in self._prompts:
            self._prompts[key] = LabelPrompts(self._tokenizer, thinking=key[0], guard=key[1])
        return self._prompts[key]

    def _fit(
        self, maker: LabelPrompts, texts: Sequence[str], properties: Sequence[Segment], options: Label
    ) -> tuple[list[Segment | None], np.ndarray]:
        """Cut texts so that each fits with every question; return their segments and the status (n, H)."""
        thought = options.thinking_tokens + len(self._thought_end) if options.thinking else 0
        fixed = len(maker.head) + len(maker.tail) + thought + 1
        room = self._max_len - fixed - max(map(len, properties), default=0)
        fitted = [maker.fit(*whole, room) for whole in zip(texts, maker.texts(texts), strict=True)]
        status = np.full((len(texts), len(properties)), Status.OK, dtype=np.int8)
        for i, (segment, cut) in enumerate(fitted):
            if cut:
                status[i] = Status.TOO_LONG if segment is None else Status.CUT
        return [segment for segment, _ in fitted], status

    @cached_property
    def _thought_end(self) -> list[int]:
        return self._tokenizer.encode(f"\n{THOUGHT_END}\n\n", add_special_tokens=False)

    def _think(self, prompts: list[list[int]], budget: int) -> tuple[list[list[int]], Usage]:
        """Let the model think about each prompt; return the prompts with its thought, ended, behind them."""
        params = sampling_params(max_tokens=budget, temperature=0, stop=[THOUGHT_END])
        outputs, seconds = self.engine.run(prompts, [params] * len(prompts))
        thoughts = [output.outputs[0].text if output else "" for output in outputs]
        ids = [self._tokenizer.encode(text.rstrip(), add_special_tokens=False)[:budget] for text in thoughts]
        usage = sum((_usage(output) for output in outputs if output), Usage(seconds=seconds))
        return [p + thought + self._thought_end for p, thought in zip(prompts, ids, strict=True)], usage

    def _enter(self, output: Any, found: Annotations, pair: tuple[int, int], min_mass: float) -> None:
        """Enter one answer; what vLLM refused is FAILED, what is neither yes nor no UNSURE."""
        logprobs = output.outputs[0].logprobs[0] if output and output.outputs[0].logprobs else {}
        yes, no = (
            float(sum(np.exp(logprobs[i].logprob) for i in ids if i in logprobs))
            for ids in (self._yes, self._no)
        )
        if not logprobs or np.isnan(yes):
            found.status[pair] = Status.FAILED
            return
        found.p_neither[pair] = max(0.0, 1 - yes - no)
        if yes + no < min_mass or yes + no == 0:
            found.status[pair] = Status.UNSURE
        else:
            found.p_yes[pair] = yes / (yes + no)

    def _prompt_ids(self, prompt: Prompt) -> list[int]:
        """Return the question with its answer begun, unless the model is to think first."""
        thinking = prompt.sampling.thinking
        asked = wording.render(prompt, begun=not thinking)
        begun = "" if thinking else wording.begun_answer(prompt)
        text = chat(self._tokenizer, asked, thinking=thinking, begun=begun)
        return self._tokenizer(text, add_special_tokens=False)["input_ids"]


def _writing_params(prompt: Prompt) -> Any:
    drawn = prompt.sampling
    is_line = isinstance(prompt, NamingPrompt) and not drawn.thinking  # of an answer that is begun
    return sampling_params(
        max_tokens=drawn.max_tokens,
        temperature=drawn.temperature,
        seed=drawn.seed,
        stop=["\n"] if is_line else None,
    )


def label_params(yes: Sequence[int], no: Sequence[int]) -> Any:
    """Return the sampling parameters of a label: one greedy token, logits of yes and no tokens only."""
    ids = [*yes, *no]
    return sampling_params(
        max_tokens=1, temperature=0, logprobs=len(ids), logprob_token_ids=ids, detokenize=False
    )


def sampling_params(**settings: Any) -> Any:
    """Return vLLM's sampling parameters, for an answer that comes whole."""
    from vllm.sampling_params import RequestOutputKind, SamplingParams

    return SamplingParams(output_kind=RequestOutputKind.FINAL_ONLY, **settings)


def engine_arguments(llm: Llm) -> dict[str, Any]:
    """Return the arguments of vllm.LLM; `engine_args` of the config win over all others."""
    on_cpu = _CPU_ARGUMENTS if _is_on_cpu() else {}
    return {
        "model": locate(llm.model),
        "load_format": "safetensors",
        **code_arguments(llm),
        "dtype": _dtype(llm)[0],
        "max_model_len": llm.max_model_len,
        "tensor_parallel_size": llm.tensor_parallel_size,
        "pipeline_parallel_size": llm.pipeline_parallel_size,
        "gpu_memory_utilization": llm.gpu_memory_share,
        "max_num_seqs": llm.max_num_seqs,
        "max_num_batched_tokens": max(llm.max_num_batched_tokens, llm.max_model_len),
        "enable_prefix_caching": True,
        "seed": 0,
        **on_cpu,
        **executor_arguments(llm),
        **llm.engine_args,
    }


def executor_arguments(llm: Llm) -> dict[str, str]:
    """Return what starts the workers of a split model in an actor: Ray only where they may span nodes."""
    if not (llm.is_split and llm.replicas.max):
        return {}
    return {"distributed_executor_backend": "ray" if llm.pipeline_parallel_size > 1 else "mp"}


def tokens_per_call(llm: Llm) -> int:
    """Return how many prompt tokens may go to the engine together when answers are sampled with a seed.

    On the CPU vLLM 0.29 ends when it cuts a seeded prompt into chunks ("CPU Generator does not use offset"),
    which it does to what exceeds one step.
    """
    return max(llm.max_num_batched_tokens, llm.max_model_len) if _is_on_cpu() else 10**9


def _is_on_cpu() -> bool:
    from vllm.platforms import current_platform

    return current_platform.is_cpu()


def _dtype(llm: Llm) -> tuple[str, str]:
    """Return the dtype to give to vLLM, and a line with the reason; "" where the config or vLLM decides."""
    return dtype_on_cpu(llm) if _is_on_cpu() else (llm.dtype, "")


def pack(numbers: Sequence[int], sizes: Sequence[int], room: int) -> list[list[int]]:
    """Split numbers, in order, into groups whose sizes add up to at most `room`.

    >>> pack([0, 1, 3], [5, 4, 9, 2], room=9)
    [[0, 1], [3]]
    """
    groups: list[list[int]] = []
    left = 0
    for number in numbers:
        if not groups or sizes[number] > left:
            groups.append([])
            left = room
        groups[-1].append(number)
        left -= sizes[number]
    return groups


def yes_and_no(tokenizer: Any, llm: Llm) -> tuple[list[int], list[int]]:
    """Return the ids of all tokens that mean yes, and of all that mean no.

    Raises:
        ModelError: there is none.
    """
    yes, no = single_tokens(tokenizer, YES_WORDS), single_tokens(tokenizer, NO_WORDS)
    if not yes or not no:
        raise ModelError(f"{llm.model!r}: its tokenizer has no single token for yes, or none for no")
    return yes, no


def single_tokens(tokenizer: Any, words: Sequence[str]) -> list[int]:
    """Return the ids of those words that are one token each, without repeats, in order."""
    encoded = [tokenizer.encode(word, add_special_tokens=False) for word in words]
    return list(dict.fromkeys(ids[0] for ids in encoded if len(ids) == 1))


def set_environment(llm: Llm) -> None:
    """Set what torch and vLLM read when they are imported; a user's own settings of vLLM and torch win."""
    os.environ["OMP_NUM_THREADS"] = str(max(1, int(llm.replicas.cpus)))
    import torch  # not before

    settings = {
        "VLLM_ENABLE_V1_MULTIPROCESSING": "1" if llm.is_split else "0",
        "VLLM_CPU_KVCACHE_SPACE": str(llm.kv_cache_gib),
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # cores are the scheduler's to give: the replica's `cpus`
        "VLLM_LOGGING_LEVEL": "WARNING",
        "VLLM_NO_USAGE_STATS": "1",
        # On a CPU vLLM computes eagerly, but would compile what counts ranks: 10 s before the first label.
        "TORCHDYNAMO_DISABLE": str(int(not torch.cuda.is_available())),
    }
    for name, value in settings.items():
        os.environ.setdefault(name, value)


def _answer(output: Any) -> Answer:
    if output is None:
        return Answer("", Status.FAILED)
    written = output.outputs[0]
    status = Status.TRUNCATED if written.finish_reason == "length" else Status.OK
    return Answer(written.text, status, _usage(output))


def _usage(output: Any) -> Usage:
    generated = len(output.outputs[0].token_ids)
    return Usage(len(output.prompt_token_ids), output.num_cached_tokens or 0, generated)
