"""The process that holds one model in transformers: `python -m models.transformers.process`, in the Python with torch.

Speaks with the gateway as every engine's process does; see `models.process`.
"""

import json
import os
import resource
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any


def main() -> None:
    """Serve until standard input closes."""
    settings = json.loads(sys.stdin.readline())
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # libraries print where they like; standard output is ours
    threading.Thread(target=_end_with_input, daemon=True).start()
    try:
        server = _load(settings)
    except (OSError, ValueError, RuntimeError, MemoryError, ImportError, KeyError) as error:
        said = f"could not load the model ({type(error).__name__}: {error})"
        print(json.dumps({"error": said}), file=answers, flush=True)
        os._exit(3)
    print(json.dumps({"address": server.address}), file=answers, flush=True)
    server.serve_forever()


def _load(settings: dict[str, Any]) -> Any:
    if settings["memory_limit_bytes"]:
        resource.setrlimit(resource.RLIMIT_DATA, (settings["memory_limit_bytes"],) * 2)
    import torch

    from models.transformers.generation import Sampling, Token, ends_of, generate, load
    from models.transformers.server import Served, Server
    from models.transformers.wire import Asked, Refused

    torch.set_num_threads(settings["threads"])
    model, tokenizer = load(settings["folder"], dtype=settings["dtype"], quantization=settings["quantization"])

    def encode(asked: Asked) -> list[int]:
        if isinstance(asked.prompt, str):
            return list(tokenizer(asked.prompt)["input_ids"])
        try:
            text = tokenizer.apply_chat_template(list(asked.prompt), add_generation_prompt=True, tokenize=False)
        except Exception as error:  # a template of the model's, which says what it does not take in its own way
            raise Refused("messages", f"this model's chat template does not take them: {str(error)[:200]}") from error
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])

    def made(ids: list[int], most_tokens: int, asked: Asked, go_on: Callable[[], bool]) -> Iterator[Token]:
        sampling = Sampling(
            asked.temperature,
            asked.top_p,
            asked.frequency_penalty,
            asked.presence_penalty,
            asked.seed,
            asked.logprobs or 0,
        )
        return generate(model, ids, most_tokens, sampling, go_on)

    def decode(ids: Sequence[int]) -> str:
        return str(tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False))

    ends = ends_of(model, tokenizer)
    served = Served(settings["model"], settings["context_tokens"], ends, encode, decode, made)
    list(made([*ends][:1], 1, Asked("Hello"), lambda: True))  # the first step sets kernels up
    return Server(served, settings["api_key"])


def _end_with_input() -> None:
    while sys.stdin.read(4096):
        pass
    os._exit(0)


if __name__ == "__main__":
    main()
