"""A vLLM of its own: `python -m tests.with_torch.sparse.generate`, asked by JSON on standard input.

Answers, as the last line of standard output, for each call of `calls` (lists of prompts) the tokens of each prompt and
their log-probabilities. The budget is in the environment.
"""

import json
import os
import sys

os.environ |= {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_PLUGINS": "",
    "HF_HUB_OFFLINE": "1",
}

from vllm import LLM, SamplingParams

from models.sparse.plugin import register


def main() -> None:
    asked = json.loads(sys.stdin.read())
    register()
    engine = LLM(
        skip_tokenizer_init=True,
        enforce_eager=True,
        block_size=32,
        max_num_seqs=8,
        kv_cache_memory_bytes=64 << 20,
        disable_log_stats=True,
        **asked["engine"],
    )
    wanted = SamplingParams(temperature=0, max_tokens=asked["tokens"], ignore_eos=True, logprobs=0, detokenize=False)
    calls = []
    for prompts in asked["calls"]:
        replies = engine.generate([{"prompt_token_ids": ids} for ids in prompts], wanted, use_tqdm=False)
        calls.append([[(t, p[t].logprob) for t, p in zip(r.outputs[0].token_ids, r.outputs[0].logprobs, strict=True)]
                      for r in replies])  # fmt: skip
    print(json.dumps(calls), flush=True)
    os._exit(0)  # vLLM's own ending takes seconds and may warn; nothing is left to be done


if __name__ == "__main__":
    main()
