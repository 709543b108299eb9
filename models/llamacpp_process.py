"""The child process that holds one GGUF model: `python -m models.llamacpp_process`.

Reads its settings as one JSON line on standard input, answers one line of JSON on standard output once the model can
be called, then serves OpenAI's protocol on loopback (llama.cpp's own server, in process). It ends when standard input
closes, so it cannot outlive the gateway, however that dies. Knows nothing of catalogues or routes.
"""

import json
import os
import resource
import sys
from typing import Any


def main() -> None:
    """Serve until standard input closes; say so where the model cannot be loaded."""
    settings = json.loads(sys.stdin.readline())
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # llama.cpp writes its log where it likes; standard output is ours
    if settings["memory_limit_bytes"]:
        limit = settings["memory_limit_bytes"]
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    import xllamacpp  # after the limit, so that it holds for everything the engine takes

    try:
        server = xllamacpp.Server(parameters(xllamacpp, settings))
    except (RuntimeError, MemoryError) as error:
        print(json.dumps({"error": f"could not load the model ({error})"}), file=answers, flush=True)
        os._exit(3)
    print(json.dumps({"address": server.listening_address}), file=answers, flush=True)
    while sys.stdin.read(4096):
        pass
    os._exit(0)  # llama.cpp's own shutdown waits for running answers; nobody listens to them any more


def parameters(xllamacpp: Any, settings: dict[str, Any]) -> Any:
    """llama.cpp's parameters for *settings* (see `LlamaCpp.settings`)."""
    p = xllamacpp.CommonParams()
    p.model.path = settings["path"]
    p.model_alias = {settings["model"]}
    p.api_keys = [settings["api_key"]]
    p.port = settings["port"]
    p.n_parallel = settings["parallel"]
    p.n_ctx = settings["context_tokens"] * settings["parallel"]
    p.n_batch = p.n_ubatch = settings["batch_tokens"]
    p.cpuparams.n_threads = p.cpuparams_batch.n_threads = settings["threads"]
    p.cpuparams.poll = p.cpuparams_batch.poll = 0  # do not spin: another engine may want the core
    p.cache_ram_mib = settings["prompt_cache_mib"]
    p.fit_params = False
    p.ui = False
    p.use_jinja = True  # the chat template inside the GGUF
    p.cache_prompt = True
    p.endpoint_metrics = True
    return p


if __name__ == "__main__":
    main()
