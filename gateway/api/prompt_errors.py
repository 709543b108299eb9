"""The client's view of what the prompt library refuses."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict

from gateway.errors import GateClosed, GatewayError, InvalidRequest, NotAllowed, NotFound, Overtaken
from gateway.library.errors import (
    CanaryRefused,
    GateShut,
    LabelMoved,
    LabelRefused,
    LibraryError,
    NotPermitted,
    NumberTaken,
    OverrideRefused,
    ReceiptRefused,
    TemplateRefused,
)
from prompts.library import PromptNotFound
from prompts.reference import ReferenceRefused
from prompts.render import MessagesRefused, RenderFailed
from prompts.suite_file import SuiteError
from prompts.variables import VariablesRefused

CODES: dict[type[Exception], str] = {
    TemplateRefused: "prompt_refused",
    LabelRefused: "prompt_label_refused",
    CanaryRefused: "prompt_canary_refused",
    ReceiptRefused: "prompt_receipt_refused",
    SuiteError: "prompt_suite_refused",
    ReferenceRefused: "prompt_reference_refused",
    VariablesRefused: "prompt_variables_refused",
    MessagesRefused: "prompt_messages_refused",
    RenderFailed: "prompt_render_failed",
    NumberTaken: "prompt_number_taken",
}
REFUSED = (LibraryError, PromptNotFound, SuiteError, ReferenceRefused, VariablesRefused, MessagesRefused, RenderFailed)


@contextmanager
def library_errors() -> Iterator[None]:
    """Whatever the library raises in the block leaves it as a GatewayError."""
    try:
        yield
    except REFUSED as error:
        raise shown(error) from error


def shown(error: Exception) -> GatewayError:
    match error:
        case PromptNotFound():
            return NotFound(str(error), code="prompt_not_found")
        case LabelMoved():
            return Overtaken(str(error), param="If-Match")
        case GateShut():
            return GateClosed(str(error), [asdict(row) for row in error.gate.failing])
        case NotPermitted() | OverrideRefused():
            return NotAllowed(str(error), code="prompt_role_missing")
        case VariablesRefused():
            return InvalidRequest(str(error), param=f"variables{error.problems[0].pointer}", code=CODES[type(error)])
        case _:
            return InvalidRequest(str(error), code=CODES.get(type(error), "prompt_library_refused"))
