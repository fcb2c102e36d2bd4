"""vLLM as a `LanguageModel`: names neurons in prose, and labels texts from the logits of one token.

Labels: every (text, question) pair is one prompt of the form instruction | text | question, sent text by
text with all questions of a text adjacent, so that the engine's prefix cache holds instruction and text
for all questions but the first. vLLM never reorders requests, so the order here is what is computed.
P(yes) is the softmax over two sums: of the probabilities of all yes tokens, and of all no tokens.
"""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from hypsae_ray.boundary import Answer, NamingPrompt, Scores, Usage
from hypsae_ray.config import Llm
from hypsae_ray.core import prompts as wording
from hypsae_ray.engine.locate import locate
from hypsae_ray.errors import ModelError
from hypsae_ray.schema import Status

YES_WORDS = ("Yes", " Yes", "yes", " yes", "YES", " YES")
NO_WORDS = ("No", " No", "no", " no", "NO", " NO")
_CPU_ARGUMENTS = {
    "block_size": 32,  # the default of 128 tokens caches little of a prompt of 200
    "enforce_eager": True,  # graphs only cost time here
}


class VllmModel:
    """One vLLM engine inside this process.

    Args:
        llm: the model, and the engine arguments.

    Raises:
        ModelError: the model is not found, or vLLM does not load it; the message holds vLLM's reason.
    """

    def __init__(self, llm: Llm) -> None:
        _set_environment(llm)
        import vllm

        self._vllm = vllm
        self._max_len = llm.max_model_len
        self._tokens_per_call = tokens_per_call(llm)
        try:
            self.engine = vllm.LLM(**engine_arguments(llm))
        except Exception as error:
            raise ModelError(f"vLLM cannot load {llm.model!r}: {error}") from error
        self._tokenizer: Any = self.engine.get_tokenizer()
        self._yes = single_tokens(self._tokenizer, YES_WORDS)
        self._no = single_tokens(self._tokenizer, NO_WORDS)
        if not self._yes or not self._no:
            raise ModelError(f"{llm.model!r}: its tokenizer has no single token for yes, or none for no")

    def generate(self, prompts: Sequence[NamingPrompt]) -> list[Answer]:
        """Return one answer per prompt; TOO_LONG if it leaves no room for max_tokens."""
        ids = [self._naming_ids(prompt) for prompt in prompts]
        fits = [len(i) + p.sampling.max_tokens <= self._max_len for i, p in zip(ids, prompts, strict=True)]
        sent = [k for k, fit in enumerate(fits) if fit]
        answers = [Answer("", Status.TOO_LONG)] * len(prompts)
        for group in pack(sent, [len(i) for i in ids], self._tokens_per_call):
            params = [self._naming_params(prompts[k]) for k in group]
            for k, output in zip(group, self._run([ids[k] for k in group], params), strict=True):
                answers[k] = _answer(output)
        return answers

    def score(self, texts: Sequence[str], questions: Sequence[str]) -> Scores:
        """Return P(yes) per text and question; TOO_LONG where a prompt leaves no room for its answer."""
        ids = self.label_ids(texts, questions)
        fits = np.array([len(i) < self._max_len for i in ids], dtype=bool)
        outputs = self._run([i for i, fit in zip(ids, fits, strict=True) if fit], self.label_params())
        p_yes = np.full(len(ids), np.nan, dtype=np.float32)
        p_yes[fits] = [self._p_yes(output) for output in outputs]
        status = np.where(fits, Status.OK, Status.TOO_LONG)
        status[fits & np.isnan(p_yes)] = Status.FAILED
        shape = (len(texts), len(questions))
        usage = sum((_usage(output) for output in outputs), Usage())
        return Scores(p_yes.reshape(shape), status.astype(np.int8).reshape(shape), usage)

    def label_ids(self, texts: Sequence[str], questions: Sequence[str]) -> list[list[int]]:
        """Return the token ids of all label prompts, text by text, the questions of a text adjacent."""
        head, tail = self._chat_frame()
        head += wording.label_instruction()
        bodies = [head + wording.label_text(text) for text in texts]
        endings = [wording.label_question(question) + tail for question in questions]
        whole = [body + ending for body in bodies for ending in endings]
        return self._tokenizer(whole, add_special_tokens=False)["input_ids"] if whole else []

    def label_params(self) -> Any:
        """Return the sampling parameters of a label: one greedy token, logits of yes and no tokens only."""
        ids = [*self._yes, *self._no]
        return self._vllm.SamplingParams(
            max_tokens=1, temperature=0, logprobs=len(ids), logprob_token_ids=ids, detokenize=False
        )

    def _p_yes(self, output: Any) -> float:
        logprobs = output.outputs[0].logprobs[0] if output.outputs[0].logprobs else {}
        yes = sum(np.exp(logprobs[i].logprob) for i in self._yes if i in logprobs)
        no = sum(np.exp(logprobs[i].logprob) for i in self._no if i in logprobs)
        return float(yes / (yes + no)) if yes + no > 0 else float("nan")

    def _run(self, ids: list[list[int]], params: Any) -> list[Any]:
        if not ids:
            return []
        return self.engine.generate([{"prompt_token_ids": i} for i in ids], params, use_tqdm=False)

    def _naming_ids(self, prompt: NamingPrompt) -> list[int]:
        text = self._chat(wording.render_naming(prompt), thinking=prompt.sampling.thinking)
        return self._tokenizer(text, add_special_tokens=False)["input_ids"]

    def _naming_params(self, prompt: NamingPrompt) -> Any:
        drawn = prompt.sampling
        return self._vllm.SamplingParams(
            max_tokens=drawn.max_tokens, temperature=drawn.temperature, seed=drawn.seed
        )

    def _chat(self, content: str, *, thinking: bool = False) -> str:
        if not self._tokenizer.chat_template:
            return content
        return self._tokenizer.apply_chat_template(
            [{"role": "user", "content": content}],
            tokenize=False,
            add_generation_prompt=True,
            enable_thinking=thinking,
        )

    def _chat_frame(self) -> tuple[str, str]:
        """Return what the chat template puts before and after the user's words, thinking off."""
        mark = "\u241eWORDS\u241e"
        head, _, tail = self._chat(mark).partition(mark)
        return head, tail


def engine_arguments(llm: Llm) -> dict[str, Any]:
    """Return the arguments of vllm.LLM; `engine_args` of the config win over all others."""
    from vllm.platforms import current_platform

    on_cpu = _CPU_ARGUMENTS if current_platform.is_cpu() else {}
    return {
        "model": locate(llm.model),
        "revision": llm.revision,
        "dtype": llm.dtype,
        "max_model_len": llm.max_model_len,
        "tensor_parallel_size": llm.tensor_parallel_size,
        "gpu_memory_utilization": llm.gpu_memory_utilization,
        "max_num_seqs": llm.max_num_seqs,
        "max_num_batched_tokens": max(llm.max_num_batched_tokens, llm.max_model_len),
        "enable_prefix_caching": True,
        "seed": 0,
        **on_cpu,
        **llm.engine_args,
    }


def tokens_per_call(llm: Llm) -> int:
    """Return how many prompt tokens may go to the engine together when answers are sampled with a seed.

    On the CPU vLLM 0.29 ends when it cuts a seeded prompt into chunks ("CPU Generator does not use offset"),
    which it does to what exceeds one step.
    """
    from vllm.platforms import current_platform

    return max(llm.max_num_batched_tokens, llm.max_model_len) if current_platform.is_cpu() else 10**9


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


def single_tokens(tokenizer: Any, words: Sequence[str]) -> list[int]:
    """Return the ids of those words that are one token each, without repeats, in order."""
    encoded = [tokenizer.encode(word, add_special_tokens=False) for word in words]
    return list(dict.fromkeys(ids[0] for ids in encoded if len(ids) == 1))


def _set_environment(llm: Llm) -> None:
    """Set what vLLM reads at import; a user's own settings win."""
    threads = str(max(1, int(llm.replicas.cpus)))
    for name, value in {
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0" if llm.tensor_parallel_size == 1 else "1",
        "VLLM_CPU_KVCACHE_SPACE": str(llm.kv_cache_gib),
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # cores are the scheduler's to give: the replica's `cpus`
        "VLLM_LOGGING_LEVEL": "WARNING",
        "VLLM_NO_USAGE_STATS": "1",
    }.items():
        os.environ.setdefault(name, value)
    os.environ["OMP_NUM_THREADS"] = threads


def _answer(output: Any) -> Answer:
    written = output.outputs[0]
    status = Status.TRUNCATED if written.finish_reason == "length" else Status.OK
    return Answer(written.text, status, _usage(output))


def _usage(output: Any) -> Usage:
    generated = len(output.outputs[0].token_ids)
    return Usage(len(output.prompt_token_ids), output.num_cached_tokens or 0, generated)
