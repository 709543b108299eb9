"""Calls the providers that do not speak OpenAI's protocol (Anthropic, Bedrock, Gemini, ...) through LiteLLM's SDK.

LiteLLM takes 3 s and 200 MB to import and keeps its settings in one place per process: it is imported when the first
such engine starts, in a thread, and nothing else in this project touches it. Its proxy is not used.
"""

import asyncio
import base64
import importlib
import importlib.util
import inspect
import json
import logging
import os
import re
import struct
from collections.abc import AsyncGenerator, Mapping
from contextlib import suppress
from decimal import Decimal
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import orjson
import structlog

from models.catalog import TOKENS_PER_PRICE, Price
from models.documents import Document, DocumentsReply
from models.engine import (
    Call,
    ContextTooLong,
    EngineBusy,
    EngineError,
    EngineRefused,
    EngineState,
    EngineUnavailable,
    Health,
    Operation,
    Reply,
    Usage,
)
from models.upstream import insides_of, retry_after_seconds, usage_of

log = structlog.get_logger(__name__)

FIRST_CHUNK_TIMEOUT_SECONDS = 600.0  # a provider's reasoning model thinks for minutes before its first word
IDLE_TIMEOUT_SECONDS = 120.0  # between two chunks; a provider that is alive sends several a second
MESSAGE_LIMIT_CHARACTERS = 500
REMEDY = "LiteLLM is not installed; pip install 'pointsman[litellm]'"

# Set before the import: LiteLLM then fetches no price map, header list or tokenizer, and reads no .env of the folder.
ENVIRONMENT = {
    "LITELLM_OFFLINE_MODE": "true",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS": "True",
    "LITELLM_MODE": "PRODUCTION",
}
# `drop_params` off: a field that a provider does not have is refused, as an answer that ignores it is one to another
# question. `disable_token_counter`: counts come from the provider; LiteLLM's own guesses look just like them.
OPTIONS: Mapping[str, Any] = {
    "callbacks": [],
    "disable_token_counter": True,
    "drop_params": False,
    "failure_callback": [],
    "input_callback": [],
    "modify_params": False,
    "num_retries": 0,
    "success_callback": [],
    "suppress_debug_info": True,
    "turn_off_message_logging": True,
}
LOGGERS = ("LiteLLM", "LiteLLM Router", "LiteLLM Proxy")  # what they write may quote prompts
PRICE_MAP = "model_prices_and_context_window_backup.json"


def _names(names: str) -> frozenset[str]:
    return frozenset(names.split())


# What of a body becomes an argument. LiteLLM takes its own settings from the same arguments (`api_base`, `api_key`,
# `aws_bedrock_runtime_endpoint`, `mock_response`, ...): with any of them a client could send the operator's key away.
SAMPLING = _names("frequency_penalty logit_bias max_tokens n presence_penalty seed stop temperature top_p user")
OF_PROVIDERS = _names("cache_control min_p repetition_penalty thinking top_k")
FIELDS: Mapping[Operation, frozenset[str]] = {
    Operation.CHAT: SAMPLING
    | OF_PROVIDERS
    | _names(
        "audio function_call functions logprobs max_completion_tokens messages modalities parallel_tool_calls "
        "prediction prompt_cache_key prompt_cache_retention reasoning_effort response_format safety_identifier "
        "service_tier store tool_choice tools top_logprobs verbosity web_search_options"
    ),
    Operation.COMPLETION: SAMPLING | _names("best_of echo logprobs prompt suffix"),
    Operation.EMBEDDING: _names("dimensions input user"),
}
OURS = _names("encoding_format model stream stream_options")
# Left out where a provider does not know them: they say nothing about the answer, or what is so without them.
SILENT = _names("metadata prompt_cache_key prompt_cache_retention safety_identifier service_tier store user")
NEUTRAL: Mapping[str, Any] = {
    "best_of": 1,
    "echo": False,
    "frequency_penalty": 0,
    "logit_bias": {},
    "logprobs": False,
    "n": 1,
    "parallel_tool_calls": True,
    "presence_penalty": 0,
    "stop": [],
    "tools": [],
}
OPENAI_SPEAKING = _names("azure azure_text openai text-completion-openai")  # besides LiteLLM's own list

TOO_LONG_PHRASES = ("context length", "context window", "prompt is too long", "maximum model length")
OVERLOADED = "overloaded"  # Anthropic's 529, of which LiteLLM makes a 500
PREAMBLE = re.compile(r"^(?:litellm\.)?(?:\w+Error: )*(?:litellm\.\w+: )*(?:\w+Error: )*(?:\w+(?:Exception|Error) - )?")
DOCUMENT = re.compile(r"\{.*\}", re.DOTALL)  # a provider's error body, quoted in one way or another
ADVICE = re.compile(r"\. (?:To drop these|Handle with `litellm).*", re.DOTALL)  # to users of LiteLLM
SECRETS = r"\b(?:sk|pk)-[\w-]{12,}|\b(?:AKIA|ASIA)[A-Z0-9]{12,}|Bearer \S+|\barn:[^\s\"',]+"

_running: set["LiteLLMEngine"] = set()  # per process, as LiteLLM's connections are: the last one to stop closes them


@cache
def price_of(served_as: str) -> Price | None:
    """What LiteLLM's price map says of *served_as*, per million tokens; None when it does not know, or says nothing
    but zero. Reads the map from LiteLLM's package without importing it. A price that rises with the prompt's length is
    the one of short prompts.
    """
    spec = importlib.util.find_spec("litellm")
    if spec is None or not spec.submodule_search_locations:
        return None
    try:
        path = Path(spec.submodule_search_locations[0]) / PRICE_MAP
        rows = json.loads(path.read_bytes(), parse_float=Decimal)
    except (OSError, ValueError):
        return None
    provider, _, rest = served_as.partition("/")
    row = rows.get(served_as) or rows.get(rest)
    if not isinstance(row, dict) or (served_as not in rows and not _is_of(row, provider)):
        return None
    asked, answered = _per_million(row.get("input_cost_per_token")), _per_million(row.get("output_cost_per_token"))
    if asked is None or answered is None or not asked + answered:
        return None
    return Price(
        input_usd=asked,
        output_usd=answered,
        cached_input_usd=_per_million(row.get("cache_read_input_token_cost")),
    )


class LiteLLMEngine:
    """An Engine for one model. *model* is LiteLLM's name, `anthropic/claude-...`. Without *api_key* LiteLLM finds the
    provider's credentials where the provider's own tools do (AWS_*, GOOGLE_APPLICATION_CREDENTIALS, ...).
    """

    def __init__(self, *, name: str, model: str, base_url: str | None = None, api_key: str | None = None) -> None:
        self.name = name
        self._model = model
        self._base_url = base_url
        self._api_key = api_key
        self._insides = insides_of(base_url, api_key, SECRETS)
        self._health = Health(EngineState.STOPPED, "not started")
        self._starting: asyncio.Task[None] | None = None
        self._sdk: ModuleType | None = None
        self._supported: frozenset[str] = frozenset()
        self._takes_more = False  # the provider speaks OpenAI's protocol, so fields that nobody knows can be added

    async def start(self) -> None:
        self._health = Health(EngineState.STARTING, "LiteLLM is being imported; wait some seconds")
        self._starting = asyncio.create_task(self._start())

    async def stop(self) -> None:
        self._health = Health(EngineState.STOPPED, "stopped")
        if self._starting is not None:
            self._starting.cancel()
            await asyncio.gather(self._starting, return_exceptions=True)
            self._starting = None
        was_running = self in _running
        _running.discard(self)
        if was_running and not _running:
            await _close_connections()

    def health(self) -> Health:
        return self._health

    async def begin(self, call: Call) -> Reply:
        if self._sdk is None or self._health.state is not EngineState.READY:
            raise EngineUnavailable(f"the engine is {self._health.state}")
        if call.operation not in FIELDS:  # its token counter guesses
            raise EngineRefused(f"{self.name} cannot count tokens", status=404)
        arguments = self._arguments(call)
        return await DocumentsReply.begin((self._stream if call.stream else self._whole)(call, arguments), call)

    async def _start(self) -> None:
        try:
            self._sdk = sdk = await asyncio.to_thread(_load)
            model, provider = sdk.get_llm_provider(self._model)[:2]
        except ModuleNotFoundError:
            self._health = Health(EngineState.FAILED, REMEDY)
        except Exception as error:  # LiteLLM raises a client's BadRequestError for an operator's typing error
            log.error("litellm failed to start", model=self.name, error=type(error).__name__)
            detail = f"LiteLLM does not know the provider of served_as {self._model!r}; write e.g. anthropic/claude-..."
            self._health = Health(EngineState.FAILED, detail)
        else:
            self._supported = frozenset(sdk.get_supported_openai_params(model, provider) or ())
            self._takes_more = provider in OPENAI_SPEAKING or provider in sdk.openai_compatible_providers
            _running.add(self)
            self._health = Health(EngineState.READY)

    def _arguments(self, call: Call) -> dict[str, Any]:
        """The body as arguments of LiteLLM's function. Raises EngineRefused for a field that it could not pass on."""
        arguments: dict[str, Any] = {}
        more: dict[str, Any] = {}
        for field, value in call.body.items():
            if value is None or field in OURS or self._is_idle(field, value):
                continue
            if field in FIELDS[call.operation]:
                arguments[field] = value
            elif self._takes_more:
                more[field] = value
            else:
                raise EngineRefused(f"{self.name} has no field {field!r}; leave it out", status=400, param=field)
        if call.operation is Operation.COMPLETION:
            arguments["prompt"] = _one_prompt(call.body.get("prompt"))
        if more:
            arguments["extra_body"] = more
        if call.stream:
            arguments.update(stream=True, stream_options={"include_usage": True})
        if call.headers:
            arguments["extra_headers"] = dict(call.headers)
        return {
            **arguments,
            "model": self._model,
            "api_key": self._api_key,
            "api_base": self._base_url,
            "timeout": FIRST_CHUNK_TIMEOUT_SECONDS,
            "num_retries": 0,
            "max_retries": 0,
        }

    def _is_idle(self, field: str, value: Any) -> bool:
        """The provider does not know the field, and the answer is the same without it."""
        if field in self._supported or (field == "metadata" and self._takes_more):
            return False
        return field in SILENT or (field in NEUTRAL and bool(NEUTRAL[field] == value))

    async def _whole(self, call: Call, arguments: dict[str, Any]) -> AsyncGenerator[Document, None]:
        deadline = asyncio.get_running_loop().time() + FIRST_CHUNK_TIMEOUT_SECONDS
        document = self._document(await self._awaited(self._function(call)(**arguments), deadline))
        usage = _usage(document.get("usage"))
        if usage is None:
            document.pop("usage", None)
        if not document.get("data" if call.operation is Operation.EMBEDDING else "choices"):
            raise EngineUnavailable("the engine's answer has no choices")
        if call.body.get("encoding_format") == "base64":
            for item in document["data"]:
                item["embedding"] = _base64(item["embedding"])
        yield Document(document, usage)

    async def _stream(self, call: Call, arguments: dict[str, Any]) -> AsyncGenerator[Document, None]:
        """Chunks before the first that says something are held back: LiteLLM makes an ending where there was none."""
        clock = asyncio.get_running_loop().time
        deadline = clock() + FIRST_CHUNK_TIMEOUT_SECONDS
        chunks = await self._awaited(self._function(call)(**arguments), deadline)
        try:
            held: list[Document] = []
            usage: Usage | None = None
            speaking = False
            while (chunk := await self._awaited(anext(chunks, None), deadline)) is not None:
                document = self._document(chunk)
                usage = _usage(document.get("usage")) or usage
                if not document["choices"] and usage is None:
                    continue
                held.append(Document(document, usage))
                speaking = speaking or any(map(_says_something, document["choices"]))
                if speaking:
                    for said in held:
                        yield said
                    held.clear()
                    deadline = clock() + IDLE_TIMEOUT_SECONDS
            if not speaking and usage is None:
                raise EngineUnavailable("the engine ended its answer before its first token")
            for said in held:
                yield said
        finally:
            await _close(chunks)

    def _function(self, call: Call) -> Any:
        assert self._sdk is not None
        match call.operation:
            case Operation.CHAT:
                return self._sdk.acompletion
            case Operation.COMPLETION:
                return self._sdk.atext_completion
            case Operation.EMBEDDING:
                return self._sdk.aembedding

    async def _awaited(self, waiting: Any, deadline: float) -> Any:
        """Raises EngineError."""
        try:
            async with asyncio.timeout_at(deadline):
                return await waiting
        except TimeoutError as error:
            raise EngineUnavailable("the engine did not answer in time") from error
        except Exception as error:  # LiteLLM's adapters let pass what went wrong in them, of whatever class
            raise self._error_of(error) from error

    def _error_of(self, error: Exception) -> EngineError:
        problem: Any = getattr(error, "original_exception", None) or error
        status = getattr(problem, "status_code", None)
        raw = str(getattr(problem, "message", ""))
        if status in (429, 503, 529) or OVERLOADED in raw.lower():
            return EngineBusy("the engine is busy", retry_after_seconds=_retry_after(problem))
        if status in (401, 402, 403):
            return EngineUnavailable("the engine refused the gateway's credentials")
        if not isinstance(status, int) or status == 408 or not 400 <= status < 500:
            log.warning("engine failed", model=self.name, status=status, error=type(problem).__name__)
            return EngineUnavailable("the engine could not be reached or failed")
        message = self._shown(raw) or "the engine refused the request"
        if type(problem).__name__ == "ContextWindowExceededError" or any(p in raw.lower() for p in TOO_LONG_PHRASES):
            return ContextTooLong(message)
        param = getattr(problem, "param", None)
        return EngineRefused(message, status=status, param=param if isinstance(param, str) else None)

    def _shown(self, raw: str) -> str:
        """The provider's own words, without LiteLLM's around them and without what a client must not read."""
        text = ADVICE.sub("", PREAMBLE.sub("", raw))
        found = DOCUMENT.search(text)
        with suppress(orjson.JSONDecodeError, KeyError, TypeError):
            text = orjson.loads(found[0])["error"]["message"] if found else text
        return self._insides.sub("[hidden]", str(text))[:MESSAGE_LIMIT_CHARACTERS]

    def _document(self, answer: Any) -> dict[str, Any]:
        """LiteLLM's object as the protocol has it: without its own fields, with those that clients rely on."""
        document: dict[str, Any] = answer.model_dump(exclude_none=True)
        document["model"] = self.name
        document.pop("provider_specific_fields", None)
        if isinstance(usage := document.get("usage"), dict):
            usage.pop("cost", None)
        for choice in document.get("choices", ()):
            choice.setdefault("finish_reason", None)
            if document["object"] == "text_completion":
                choice.setdefault("text", "")
                choice.setdefault("logprobs", None)
            if "message" in choice:
                choice["message"].setdefault("content", None)
            for holder in (choice, choice.get("message", {}), choice.get("delta", {})):
                if not any((holder.get("provider_specific_fields") or {}).values()):
                    holder.pop("provider_specific_fields", None)
        return document


def _load() -> ModuleType:
    """LiteLLM, silent and off the network. Raises ModuleNotFoundError."""
    os.environ.update(ENVIRONMENT)
    sdk = importlib.import_module("litellm")
    for option, value in OPTIONS.items():
        setattr(sdk, option, value)
    for name in LOGGERS:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    return sdk


async def _close_connections() -> None:
    sdk = importlib.import_module("litellm")
    await sdk.close_litellm_async_clients()
    sdk.in_memory_llm_clients_cache.flush_cache()  # it would hand out the closed ones
    await importlib.import_module("litellm.litellm_core_utils.logging_worker").GLOBAL_LOGGING_WORKER.stop()


async def _close(chunks: Any) -> None:
    """Close the provider's stream. Around that of a text completion are generators whose own end leaves it open."""
    stream = chunks if hasattr(chunks, "aclose") else getattr(chunks, "completion_stream", None)
    while inspect.isasyncgen(stream):
        within = stream.ag_frame.f_locals if stream.ag_frame is not None else {}
        stream = within.get("streamwrapper", within.get("response"))
    if stream is not None:
        await stream.aclose()


def _one_prompt(prompt: Any) -> str:
    """Several prompts at once LiteLLM would answer in threads that nobody can stop."""
    if isinstance(prompt, list) and len(prompt) == 1:
        prompt = prompt[0]
    if not isinstance(prompt, str):
        raise EngineRefused("prompt: this model takes one string", status=400, param="prompt")
    return prompt


def _says_something(choice: Mapping[str, Any]) -> bool:
    said = choice.get("delta", choice)
    return any(value for field, value in said.items() if field not in ("role", "index", "finish_reason", "logprobs"))


def _usage(usage: Any) -> Usage | None:
    """None for a prompt of no tokens: LiteLLM writes zeros where the provider wrote nothing."""
    if not isinstance(usage, dict):
        return None
    counted = usage_of({**usage, "completion_tokens": usage.get("completion_tokens") or 0})
    return counted if counted is not None and counted.prompt_tokens else None


def _base64(vector: Any) -> str:
    """As OpenAI writes it: little-endian single floats."""
    return vector if isinstance(vector, str) else base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


def _retry_after(problem: Any) -> float | None:
    told = getattr(problem, "litellm_response_headers", None)
    return retry_after_seconds(told or getattr(getattr(problem, "response", None), "headers", {}))


def _is_of(row: Mapping[str, Any], provider: str) -> bool:
    """`vertex_ai` is `vertex_ai-language-models` in the map, `bedrock` is `bedrock_converse`."""
    return bool(provider) and str(row.get("litellm_provider", "")).startswith(provider)


def _per_million(usd_per_token: Any) -> Decimal | None:
    if not isinstance(usd_per_token, Decimal | int):
        return None
    return Decimal(format((Decimal(usd_per_token) * TOKENS_PER_PRICE).normalize(), "f"))
