"""The paths that call a model, each a row: how its body is read, how its answers and errors are worded."""

from collections.abc import Awaitable, Callable, Mapping

from gateway.api import messages, responses
from gateway.api.inference import Endpoint
from gateway.api.voices import PLAIN, Voice
from gateway.held import Held
from gateway.prompting.naming import named_in, refuse_naming
from gateway.schema import Asked, ChatWire, CompletionWire, EmbeddingWire, check, parse_object


def _reads(
    wire: type[CompletionWire | EmbeddingWire],
) -> Callable[[Held, bytes], Awaitable[tuple[Asked, Voice]]]:
    async def read(held: Held, raw: bytes) -> tuple[Asked, Voice]:
        body = parse_object(raw)
        refuse_naming(body, held.headers, held.path)
        return check(body, len(raw), held.runtime.catalog, wire), PLAIN

    return read


async def _read_chat(held: Held, raw: bytes) -> tuple[Asked, Voice]:
    body = parse_object(raw)
    named = named_in(held, body)
    if named is not None:
        return named.asked(held.runtime, body), PLAIN
    return check(body, len(raw), held.runtime.catalog), PLAIN


ENDPOINTS: Mapping[str, Endpoint] = {
    "/v1/chat/completions": Endpoint(
        operation="chat",
        summary="Answer a conversation",
        read=_read_chat,
        body_schema=ChatWire.model_json_schema,
        names_prompts=True,
    ),
    "/v1/completions": Endpoint(
        operation="completion",
        summary="Continue a text",
        read=_reads(CompletionWire),
        body_schema=CompletionWire.model_json_schema,
    ),
    "/v1/responses": Endpoint(
        operation="responses",
        summary="Answer, as a Response that may be kept",
        read=responses.read,
        body_schema=responses.body_schema,
        names_prompts=True,
    ),
    "/v1/messages": Endpoint(
        operation="messages",
        summary="Answer, as Anthropic does",
        read=messages.read,
        body_schema=messages.body_schema,
        names_prompts=True,
    ),
    "/v1/embeddings": Endpoint(
        operation="embedding",
        summary="Turn texts into vectors",
        read=_reads(EmbeddingWire),
        body_schema=EmbeddingWire.model_json_schema,
    ),
}
