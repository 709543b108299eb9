"""From the name of a prompt to what is said: the version is found, and its texts are rendered for the models that it
may be sent to, before anybody decides which of them answers.

Whatever is wrong with the name, the variables or a text is told then: no model has been called, and none is in vain.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import orjson

from gateway.errors import InvalidRequest, PromptNotFound, PromptNotRendered, PromptNotServable
from gateway.library.shares import Share
from gateway.limits.policy import OUTPUT_FIELDS
from gateway.prompting.drawing import drawn
from gateway.prompting.naming import AS_MODEL, FIELDS, Naming
from gateway.prompting.prompted import Prompted
from gateway.schema import Asked, check, check_messages, target_of
from models.catalog import AUTO
from prompts.library import PromptNotFound as NotInLibrary
from prompts.library import Version, tier_of
from prompts.message import Message
from prompts.render import MessagesRefused, Rendered, RenderFailed, render
from prompts.variables import VariablesRefused

if TYPE_CHECKING:
    from gateway.held import Held
    from gateway.runtime import Runtime

NAME_CHARACTERS = 256  # of the ledger's column for what was asked


def named(held: "Held", naming: Naming) -> "Named":
    """Raises PromptNotFound."""
    try:
        version = held.runtime.library.find(naming.reference)
    except NotInLibrary as error:
        raise PromptNotFound(str(error)) from error
    shares = held.runtime.standing.shares
    share = drawn(held, naming, shares) if shares else None
    if share is not None:
        version = share.version
    if held.tab is not None:
        held.tab.prompted(version.template.id, version.number)
    return Named(version, naming, share)


@dataclass(frozen=True, slots=True)
class Named:
    """The version that a request names. `share`: of the canary that it is drawn for, if it is."""

    version: Version
    naming: Naming
    share: Share | None = None

    def shown(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """*body*, of Responses or Messages, with the prompt in it, as answers of Responses repeat it."""
        prompt = {"id": self.version.template.id, "version": str(self.version.number)}
        variables = {} if self.naming.variables is None else {"variables": self.naming.variables}
        return {**body, "model": self.name, "prompt": {**prompt, **variables}}

    @property
    def name(self) -> str:
        """The model as the ledger has it."""
        return (self.naming.model or f"{AS_MODEL}{self.naming.reference}")[:NAME_CHARACTERS]

    def asked(self, runtime: "Runtime", body: Mapping[str, Any]) -> Asked:
        """*body*, of chat completions, with what the prompt says. Raises InvalidRequest, ModelNotFound,
        PromptNotRendered, PromptNotServable.
        """
        model, tiers = self._who(runtime)
        own = {name: value for name, value in body.items() if name not in FIELDS and value is not None}
        client_messages = _messages(own.pop("messages", None))
        template, variables = self.version.template, self._variables()
        variants = {name: template.variant(tier) for name, tier in tiers.items()}
        tellings = {
            variant: _told(self._rendered(variant, variables, client_messages), {**own, "model": model}, runtime)
            for variant in dict.fromkeys(variants.values())
        }
        needs = frozenset(need for telling in tellings.values() for need in telling.needs)
        prompt = Prompted(self.version, variants, tellings, self.share)
        return replace(prompt.dearest, name=self.name, needs=needs, prompt=prompt)

    def _who(self, runtime: "Runtime") -> tuple[str, Mapping[str, str]]:
        """The model that is asked for, and which may answer, each with its tier. Raises ModelNotFound,
        InvalidRequest, PromptNotServable.
        """
        catalog, template = runtime.catalog, self.version.template
        wanted = AUTO if self.naming.model in (None, "") else target_of(self.naming.model, catalog)
        tiers: Mapping[str, str] = self._tiers(runtime)
        pinned = catalog.aliases.get(template.model, template.model)
        if pinned in tiers or pinned in catalog.models:
            if wanted not in (AUTO, pinned):
                says = f"{self.version.name} is always answered by {pinned}; leave model out, or write auto"
                raise InvalidRequest(says, param="model", code="prompt_model_fixed")
            wanted = pinned
        elif pinned != AUTO:
            tiers = {name: tier for name, tier in tiers.items() if tier == pinned}
        tiers = self._earned(runtime, tiers)
        if wanted != AUTO:
            tiers = {name: tier for name, tier in tiers.items() if name == wanted}
        if not tiers:
            whom = "any model that is served here" if wanted == AUTO else f"the model {wanted}"
            raise PromptNotServable(
                f"{self.version.name} may not be sent to {whom}: its model, its routing.tiers or its promotion exclude "
                "it; ask the prompt's owner, or name another version"
            )
        return wanted, tiers

    def _tiers(self, runtime: "Runtime") -> dict[str, str]:
        """The models that chat with their tiers, but for those that the version itself rules out."""
        models, names = runtime.catalog.chatting, runtime.library.policy.tiers
        tiers = {model.name: tier_of(place, len(models), names) for place, model in enumerate(models)}
        only = self.version.template.routing.tiers
        ruled_out = self.version.excluded
        return {n: tier for n, tier in tiers.items() if tier not in ruled_out and (only is None or tier in only)}

    def _earned(self, runtime: "Runtime", tiers: Mapping[str, str]) -> Mapping[str, str]:
        """Those that the version has earned, of which its safe tier is always one."""
        earned = runtime.prompt_tiers(self.version)
        return {name: tier for name, tier in tiers.items() if tier in earned}

    def _variables(self) -> Mapping[str, Any]:
        """Of the metadata of a prompt that is named as a model, what are variables of it: the rest is about something
        else.
        """
        naming = self.naming
        if naming.variables is not None or naming.metadata is None:
            return naming.variables or {}
        known = self.version.template.inputs.get("properties", {})
        return {name: value for name, value in naming.metadata.items() if name in known}

    def _rendered(self, variant: str, variables: Mapping[str, Any], client_messages: list[Message]) -> Rendered:
        try:
            return render(self.version.template, variant, variables, client_messages)
        except VariablesRefused as error:
            param = ", ".join(f"prompt.variables{problem.pointer}" for problem in error.problems)
            raise InvalidRequest(str(error), param=param, code="invalid_prompt_variables") from error
        except MessagesRefused as error:
            param = f"messages[{error.place}]"
            raise InvalidRequest(str(error), param=param, code="prompt_messages_refused") from error
        except RenderFailed as error:
            raise PromptNotRendered(f"{self.version.name}: {error}") from error


def _told(rendered: Rendered, own: Mapping[str, Any], runtime: "Runtime") -> Asked:
    """The request with *rendered* in it; checked as any other, since both a client and a template may be wrong."""
    theirs, locked = [name for name in OUTPUT_FIELDS if name in rendered.parameters], rendered.template.locked
    if not locked.isdisjoint(theirs):  # the length of an answer has two names, and a lock on one holds for both
        own = {name: value for name, value in own.items() if name not in OUTPUT_FIELDS}
    body = rendered.over(own)
    if not own.keys().isdisjoint(OUTPUT_FIELDS):
        body = {name: value for name, value in body.items() if name not in theirs or name in own}
    return check(body, len(orjson.dumps(body)), runtime.catalog)


def _messages(messages: Any) -> list[Message]:
    """A client's own; none where the prompt says all. Raises InvalidRequest."""
    if messages is None:
        return []
    if not isinstance(messages, list):
        raise InvalidRequest("messages must be a list", param="messages")
    try:
        return check_messages(messages)
    except ValueError as error:
        raise InvalidRequest(str(error), param=str(error).partition(" ")[0]) from error
