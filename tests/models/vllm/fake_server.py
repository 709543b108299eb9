"""A program that stands in for vLLM's server: `python -m tests.models.vllm.fake_server HOW --port N`."""

import json
import os
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

HOW = sys.argv[1]
OOM = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB"
KERNEL = "NotImplementedError: \"cpu_gemm_wna16\" not implemented for 'Float'"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self._say(200 if self.path == "/health" else 404, {})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.headers["authorization"] != f"Bearer {os.environ['VLLM_API_KEY']}":
            self._say(401, {})
        elif HOW == "dies at the first request":
            print(KERNEL, flush=True)
            os._exit(1)
        elif HOW == "refuses the first request":
            self._say(400, {"error": {"message": "no such model"}})
        else:
            self._say(200, {"model": body["model"], "choices": [{"index": 0, "text": "Hi", "finish_reason": "stop"}]})

    def _say(self, status: int, document: dict[str, Any]) -> None:
        content = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None: ...


def main() -> None:
    if HOW == "has no memory":
        print(OOM, flush=True)
        sys.exit(1)
    if HOW == "finds its port taken":
        print("OSError: [Errno 98] Address already in use", flush=True)
        sys.exit(1)
    if HOW == "is sparse":
        print("INFO Pointsman's sparse attention is active: 1024 tokens", flush=True)
    worker = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    print("worker", worker.pid, flush=True)
    if HOW == "hangs":
        time.sleep(600)
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), Handler).serve_forever()


if __name__ == "__main__":
    main()
