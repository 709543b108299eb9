"""From a LiteLLM proxy's configuration to a pointsman.yaml, and every key that could not be carried. Calls nothing and
copies no secret: a key in the file becomes the name of an environment variable.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from itertools import count
from typing import Any

import yaml

from gateway.settings import Settings
from models.catalog import AUTO, TEXT_ABILITIES, Ability
from prompts.yamlfile import Loc, Problem, YamlError, YamlFile

ENVIRON = "os.environ/"
UNKNOWN_CONTEXT_TOKENS = 131_072  # what most hosted models take; an engine refuses what is too long for it
TOKENS_PER_PRICE = 1_000_000

# Providers whose servers speak OpenAI's protocol -> where they are (None: the file or a variable says it), and the
# variable LiteLLM looks for a key in.
OPENAI_SPEAKING: Mapping[str, tuple[str | None, str | None]] = {
    "openai": ("https://api.openai.com/v1", "OPENAI_API_KEY"),
    "hosted_vllm": (None, None),
    "openai_like": (None, None),
    "custom_openai": (None, None),
    "litellm_proxy": (None, None),
    "lm_studio": (None, None),
    "llamafile": ("http://127.0.0.1:8080/v1", None),
    "xinference": ("http://127.0.0.1:9997/v1", None),
    "ollama": ("http://localhost:11434", None),
    "ollama_chat": ("http://localhost:11434", None),
    "cerebras": ("https://api.cerebras.ai/v1", "CEREBRAS_API_KEY"),
    "deepinfra": ("https://api.deepinfra.com/v1/openai", "DEEPINFRA_API_KEY"),
    "deepseek": ("https://api.deepseek.com/v1", "DEEPSEEK_API_KEY"),
    "fireworks_ai": ("https://api.fireworks.ai/inference/v1", "FIREWORKS_AI_API_KEY"),
    "groq": ("https://api.groq.com/openai/v1", "GROQ_API_KEY"),
    "mistral": ("https://api.mistral.ai/v1", "MISTRAL_API_KEY"),
    "nvidia_nim": ("https://integrate.api.nvidia.com/v1", "NVIDIA_NIM_API_KEY"),
    "openrouter": ("https://openrouter.ai/api/v1", "OPENROUTER_API_KEY"),
    "perplexity": ("https://api.perplexity.ai", "PERPLEXITYAI_API_KEY"),
    "sambanova": ("https://api.sambanova.ai/v1", "SAMBANOVA_API_KEY"),
    "together_ai": ("https://api.together.xyz/v1", "TOGETHERAI_API_KEY"),
    "xai": ("https://api.x.ai/v1", "XAI_API_KEY"),
}
OLLAMA = ("ollama", "ollama_chat")
OTHER_KEYS = {"anthropic": "ANTHROPIC_API_KEY", "gemini": "GEMINI_API_KEY"}
_OPENAI_NAMES = re.compile(r"^(gpt-|chatgpt-|o[1-9](-|$)|ft:gpt)")
_EMBEDS = re.compile(r"embed|bge-|codebert", re.IGNORECASE)
_NOT_SERVED = re.compile(r"whisper|tts|dall-e|rerank|moderation|image", re.IGNORECASE)
_MODES = ("chat", "completion", "responses", "embedding")
# What `model_info` says a model can do -> our word for it.
ABILITIES = {
    "supports_function_calling": Ability.TOOLS,
    "supports_response_schema": Ability.STRUCTURED,
    "supports_reasoning": Ability.REASONING,
    "supports_vision": Ability.IMAGES,
    "supports_audio_input": Ability.AUDIO,
    "supports_pdf_input": Ability.FILES,
}
_NO_KEYS = frozenset(  # what people write where a server wants no key
    {"none", "null", "empty", "dummy", "fake", "fake-key", "sk-fake", "any", "anything", "not-needed"}
    | {"no-key", "no-key-required", "ollama", "lm-studio"}
)

_OWN = "a request says it itself"
_TIME = "engines have time limits of their own"
_SDK = "LiteLLM's SDK reads it from the environment by itself; set it there"
_NEXT = "`auto` tries the next tier when a model fails before its first word; a model asked for by name is not replaced"
_WATCH = "metrics are at /metrics, charges in the ledger; there are no callbacks"
_LIMIT = "a row has places (`parallel`) and a queue, no rate"
_CACHE = "caches are not carried; set up Pointsman's own"
_KEYS = "callers' keys are made, and kept as digests only: pointsman keys create NAME"

# Key, wherever it stands -> why it is not carried.
WHY: Mapping[str, str] = {
    **dict.fromkeys(
        ("temperature", "top_p", "seed", "max_tokens", "stop", "presence_penalty", "frequency_penalty"), _OWN
    ),
    **dict.fromkeys(("timeout", "stream_timeout", "request_timeout"), _TIME),
    **dict.fromkeys(("api_version", "azure_ad_token", "tenant_id", "client_id", "client_secret"), _SDK),
    **dict.fromkeys(("num_retries", "max_retries", "retry_policy", "retry_after", "max_fallbacks"), _NEXT),
    **dict.fromkeys(("fallbacks", "default_fallbacks", "context_window_fallbacks", "content_policy_fallbacks"), _NEXT),
    **dict.fromkeys(("allowed_fails", "cooldown_time", "allowed_fails_policy", "disable_cooldowns"), _NEXT),
    **dict.fromkeys(("success_callback", "failure_callback", "callbacks", "service_callbacks"), _WATCH),
    **dict.fromkeys(("rpm", "tpm", "max_budget", "budget_duration"), _LIMIT),
    **dict.fromkeys(("cache", "cache_params"), _CACHE),
    "routing_strategy": "`auto` chooses the cheapest model that has proved it can answer",
    "master_key": _KEYS,
    "database_url": "LiteLLM's database has other tables; set database_url to one of Pointsman's own",
    "store_model_in_db": "models stand in this file",
    "alerting": "alerts are rules on /metrics: deploy/prometheus",
    "drop_params": "fields that Pointsman does not read reach the engine unchanged",
    "set_verbose": "log_level says what is logged",
    "environment_variables": "set it in the environment where pointsman serve is started; values are not copied",
    "api_base": "is no URL that can be copied",
    "api_key": "keys are not copied; name a variable that holds it",
    "litellm_credential_name": "there is no such credential in the file",
    "include": "import that file too",
    "organization": "no such header is sent; a key of that organisation says the same",
    "extra_headers": "no headers are added to a call",
    "id": "a row is known by its name",
    "base_model": "the row's own price counts",
}
_PRICE = "a price is per input token and per output token, both"
_PREFIXES: Mapping[str, str] = {
    "aws_": _SDK,
    "vertex_": _SDK,
    "redis_": "one redis_url says it all",
    "supports_": "there is no such ability",
    "input_cost": _PRICE,
    "output_cost": _PRICE,
}
NO_SUCH = "Pointsman has no such setting"


@dataclass(frozen=True, slots=True)
class Imported:
    """`text` is the pointsman.yaml. `dropped` are the keys that are not in it, or not as they were, and why."""

    text: str
    models: tuple[str, ...]
    dropped: tuple[Problem, ...]
    variables: tuple[str, ...]  # that the new file needs in the environment


@dataclass(slots=True)
class _Ledger:
    """What became of every key of the old file."""

    carried: set[Loc] = field(default_factory=set)
    why: dict[Loc, str] = field(default_factory=dict)
    variables: dict[str, None] = field(default_factory=dict)
    secrets: dict[str, object] = field(default_factory=dict)

    def variable(self, name: str) -> str:
        self.variables[name] = None
        return name

    def propose(self, name: str, secret: object) -> str:
        """A variable for *secret*: the same for the same one, numbered where another has the name."""
        return next(name for name in _numbered(name, "_") if self.secrets.setdefault(name, secret) == secret)

    def text(self, value: object) -> str:
        """A value of the old file as ours: `os.environ/NAME` is `${NAME}`."""
        name = _environ_name(value)
        return f"${{{self.variable(name)}}}" if name else str(value)


@dataclass(frozen=True, slots=True)
class _Entry:
    """One of `model_list`, with what its credential says put in. `locs`: where each parameter stands."""

    loc: Loc
    name: str
    model: str
    params: Mapping[str, Any]
    locs: Mapping[str, Loc]
    info: Mapping[str, Any]


@dataclass(slots=True)
class _Row:
    """A row of our catalogue on its way."""

    entry: _Entry
    fields: dict[str, Any]
    knows_context: bool


def translate(file: YamlFile) -> Imported:
    """Raises YamlError for a file that is no LiteLLM configuration. Read *file* without variables filled in."""
    config = file.value
    if not isinstance(config, dict):
        raise YamlError(f"{file.path}:1: must hold a LiteLLM configuration: model_list, router_settings, ...")
    ledger = _Ledger()
    rows = _together([_row(entry, ledger) for entry in _entries(config, ledger)])
    aliases = _name(rows, ledger)
    by_price = _rank(rows)
    aliases |= _aliases(config, {row.entry.name: row.fields["name"] for row in reversed(rows)} | aliases, ledger)
    text = _write(file.path.name, rows, by_price, aliases, _redis_url(config, ledger))
    names = tuple(row.fields["name"] for row in rows)
    return Imported(text, names, tuple(_dropped(config, ledger)), tuple(ledger.variables))


# Reading the old file.


def _entries(config: Mapping[str, Any], ledger: _Ledger) -> Iterator[_Entry]:
    credentials = _credentials(config)
    entries = config.get("model_list")
    for place, raw in enumerate(entries if isinstance(entries, list) else ()):
        loc: Loc = ("model_list", place)
        params, info = (_mapping(raw, key) for key in ("litellm_params", "model_info"))
        if not params.get("model") or not raw.get("model_name"):
            ledger.why[loc] = "has no model_name or no litellm_params.model"
            continue
        own: Loc = (*loc, "litellm_params")
        shared_loc, shared = credentials.get(params.get("litellm_credential_name"), ((), {}))
        if shared:
            ledger.carried.add((*own, "litellm_credential_name"))
            ledger.carried.add((*shared_loc[:2], "credential_name"))
        locs = {**{key: (*shared_loc, key) for key in shared}, **{key: (*own, key) for key in params}}
        entry = _Entry(loc, str(raw["model_name"]), str(params["model"]), {**shared, **params}, locs, info)
        if why := _not_a_row(entry):
            ledger.why[loc] = why
        else:
            yield entry


def _mapping(value: object, key: str) -> dict[str, Any]:
    """What stands under *key*; nothing where that is no mapping."""
    part = value.get(key) if isinstance(value, dict) else None
    return part if isinstance(part, dict) else {}


def _credentials(config: Mapping[str, Any]) -> dict[Any, tuple[Loc, dict[str, Any]]]:
    listed = config.get("credential_list")
    return {
        raw["credential_name"]: (("credential_list", place, "credential_values"), raw["credential_values"])
        for place, raw in enumerate(listed if isinstance(listed, list) else ())
        if isinstance(raw, dict) and "credential_name" in raw and isinstance(raw.get("credential_values"), dict)
    }


def _not_a_row(entry: _Entry) -> str | None:
    if "*" in entry.name or "*" in entry.model:
        return "a wildcard: write a row for each model that callers may name"
    mode = entry.info.get("mode")
    if mode in _MODES or (mode is None and not _NOT_SERVED.search(entry.model)):
        return None
    return f"neither chats nor embeds ({mode or entry.model}), so it cannot be called"


def _row(entry: _Entry, ledger: _Ledger) -> _Row:
    provider, remote = _provider(entry)
    speaks_openai = provider in OPENAI_SPEAKING and not remote.startswith("responses/")
    fields: dict[str, Any] = {"engine": "openai" if speaks_openai else "litellm", "tier": 0}
    ledger.carried |= {(*entry.loc, "model_name"), entry.locs["model"], (*entry.loc, "model_info", "mode")}
    ledger.carried.add(entry.locs.get("custom_llm_provider", ()))
    if speaks_openai:
        fields["base_url"] = _base_url(entry, provider, ledger)
        fields["served_as"] = remote
    else:
        base = entry.params.get("api_base") or entry.params.get("base_url")
        if _is_url(base):
            fields["base_url"] = _carry(entry, "api_base", "base_url", ledger=ledger)
        is_whole = _environ_name(entry.model) or entry.model.startswith(f"{provider}/") or not provider
        fields["served_as"] = ledger.text(entry.model) if is_whole else f"{provider}/{entry.model}"
    key = _key(entry, provider, fields, ledger)
    if key:
        fields["api_key_env"] = ledger.variable(key)
    if abilities := _abilities(entry, ledger):
        fields["abilities"] = abilities
    context = _context(entry, ledger)
    fields["context_tokens"] = context or UNKNOWN_CONTEXT_TOKENS
    if price := _price(entry, ledger):
        fields["price"] = price
    places = entry.params.get("max_parallel_requests")
    if isinstance(places, int) and places > 0:
        fields["parallel"] = places
        ledger.carried.add(entry.locs["max_parallel_requests"])
    return _Row(entry, fields, context is not None)


def _provider(entry: _Entry) -> tuple[str, str]:
    """Who serves the model and what its name is there; no provider where only LiteLLM can tell."""
    named = entry.params.get("custom_llm_provider")
    prefix, slash, rest = entry.model.partition("/")
    if named:
        return str(named), rest if slash and prefix == named else entry.model
    if slash:
        return prefix, rest
    return ("openai" if _OPENAI_NAMES.match(entry.model) else ""), entry.model


def _base_url(entry: _Entry, provider: str, ledger: _Ledger) -> str:
    given = entry.params.get("api_base") or entry.params.get("base_url")
    url = OPENAI_SPEAKING[provider][0]
    if _is_url(given):
        url = _carry(entry, "api_base", "base_url", ledger=ledger)
    elif given or url is None:
        name = _slug(entry.name) if given else _slug(provider)
        url = f"${{{ledger.variable(f'{name}_API_BASE')}}}"
        if given:
            at = entry.locs.get("api_base") or entry.locs["base_url"]
            ledger.why[at] = f"is no URL that can be copied; set {name}_API_BASE in the environment to one"
    is_bare = provider in OLLAMA and not url.rstrip("/").endswith("/v1")
    return f"{url.rstrip('/')}/v1" if is_bare else url


def _carry(entry: _Entry, *keys: str, ledger: _Ledger) -> str:
    key = next(key for key in keys if entry.params.get(key))
    ledger.carried.add(entry.locs[key])
    return ledger.text(entry.params[key])


def _is_url(value: object) -> bool:
    """One that may be copied: with a login in it, it may not."""
    return bool(_environ_name(value) or re.fullmatch(r"https?://[^/?#@\s]+[^?#@\s]*", str(value or "")))


def _environ_name(value: object) -> str | None:
    found = re.fullmatch(re.escape(ENVIRON) + r"([A-Za-z_][A-Za-z0-9_]*)", str(value))
    return found[1] if found else None


def _key(entry: _Entry, provider: str, fields: Mapping[str, Any], ledger: _Ledger) -> str | None:
    """The variable that holds the server's key; None where it wants none, or LiteLLM's SDK finds it by itself."""
    if "api_key" not in entry.params:
        home, name = OPENAI_SPEAKING.get(provider, (None, OTHER_KEYS.get(provider)))
        return name if fields.get("base_url") == home else None
    at, value = entry.locs["api_key"], entry.params["api_key"]
    if name := _environ_name(value):
        ledger.carried.add(at)
        return name
    if not value or str(value).lower() in _NO_KEYS:
        ledger.why[at] = "is not a key; the server is called without one"
        return None
    proposed = ledger.propose(f"{_slug(entry.name)}_API_KEY", value)
    ledger.why[at] = f"keys are not copied; set {proposed} in the environment to it"
    return proposed


def _slug(name: str) -> str:
    slug = re.sub(r"[^A-Z0-9]+", "_", name.upper()).strip("_")
    return f"M_{slug}" if slug[:1].isdigit() else slug or "MODEL"


def _context(entry: _Entry, ledger: _Ledger) -> int | None:
    for key in ("max_input_tokens", "max_tokens"):
        tokens = entry.info.get(key)
        if isinstance(tokens, int) and tokens > 0:
            ledger.carried.add((*entry.loc, "model_info", key))
            return tokens
    return None


def _abilities(entry: _Entry, ledger: _Ledger) -> list[str]:
    """Every ability of the row; empty where it has those that any model of text has."""
    if entry.info.get("mode") == "embedding" or ("mode" not in entry.info and _EMBEDS.search(entry.model)):
        return [str(Ability.EMBEDDINGS)]
    if entry.info.get("mode") == "completion":
        return [str(Ability.COMPLETIONS)]
    abilities = set(TEXT_ABILITIES)
    for key, ability in ABILITIES.items():
        if isinstance(entry.info.get(key), bool):
            ledger.carried.add((*entry.loc, "model_info", key))
            (abilities.add if entry.info[key] else abilities.discard)(ability)
    return sorted(map(str, abilities)) if abilities != TEXT_ABILITIES else []


def _price(entry: _Entry, ledger: _Ledger) -> dict[str, float] | None:
    """US dollars per million tokens; None unless the file has both sides of it."""
    ours = {
        "input_usd": "input_cost_per_token",
        "output_usd": "output_cost_per_token",
        "cached_input_usd": "cache_read_input_token_cost",
    }
    found = {name: _cost(entry, theirs) for name, theirs in ours.items()}
    if found["input_usd"] is None or found["output_usd"] is None:
        return None
    for theirs in ours.values():
        ledger.carried.add(entry.locs.get(theirs, (*entry.loc, "model_info", theirs)))
    return {name: float(usd * TOKENS_PER_PRICE) for name, usd in found.items() if usd is not None}


def _cost(entry: _Entry, key: str) -> Decimal | None:
    try:
        usd = Decimal(str(entry.params.get(key, entry.info.get(key))))
    except InvalidOperation:
        return None
    return usd if usd.is_finite() and usd >= 0 else None


# Replicas, names, tiers, aliases.


def _together(rows: list[_Row]) -> list[_Row]:
    """Servers of one model under one name and one key are replicas of one row."""
    kept: list[_Row] = []
    for row in rows:
        first = next((other for other in kept if _serves_the_same(other, row)), None)
        if first is None:
            kept.append(row)
        else:
            first.fields["replicas"] = [*first.fields.get("replicas", ()), row.fields["base_url"]]
    return kept


def _serves_the_same(first: _Row, row: _Row) -> bool:
    """As far as a caller can tell; from another place."""
    addresses = ("base_url", "replicas")
    rest, others = ({key: r.fields[key] for key in r.fields if key not in addresses} for r in (first, row))
    is_elsewhere = row.fields.get("base_url") not in (first.fields.get("base_url"), *first.fields.get("replicas", ()))
    return first.entry.name == row.entry.name and rest == others and rest["engine"] == "openai" and is_elsewhere


def _name(rows: list[_Row], ledger: _Ledger) -> dict[str, str]:
    """Give each row a name of its own. Returns the aliases that keep the old names working."""
    aliases: dict[str, str] = {}
    taken: set[str] = set()
    for row in rows:
        old = row.entry.name
        wanted = re.sub(r"[^A-Za-z0-9._/:-]+", "-", old).strip("-./:_")[:120] or "model"
        wanted = "litellm-auto" if wanted == AUTO else wanted
        name = next(name for name in _numbered(wanted, "-") if name not in taken)
        taken.add(name)
        row.fields = {"name": name, **row.fields}
        at = (*row.entry.loc, "model_name")
        if name != wanted:
            ledger.why[at] = f"is a second one of its name; it is {name} here, and `auto` may choose either"
        elif old == AUTO:
            ledger.why[at] = f"{AUTO} asks the router to choose; it is {name} here"
        elif name != old:
            ledger.why[at] = f"is {name} here, which the old name is an alias of"
            aliases[old] = name
    return aliases


def _numbered(name: str, joint: str) -> Iterator[str]:
    yield name
    yield from (f"{name}{joint}{number}" for number in count(2))


def _rank(rows: list[_Row]) -> bool:
    """Set the tiers, and say whether prices did."""
    prices = [row.fields.get("price") for row in rows]
    costs = [price["input_usd"] + price["output_usd"] for price in prices if price]
    by_price = len(costs) == len(rows)
    for place, row in enumerate(rows):
        row.fields["tier"] = sorted(set(costs)).index(costs[place]) if by_price else place
    return by_price


def _aliases(config: Mapping[str, Any], names: Mapping[str, str], ledger: _Ledger) -> dict[str, str]:
    aliases = {}
    for loc in (("router_settings", "model_group_alias"), ("litellm_settings", "model_alias_map")):
        for alias, target in _mapping(_mapping(config, loc[0]), loc[1]).items():
            at = (*loc, str(alias))
            model = target.get("model") if isinstance(target, dict) else target
            if str(model) not in names:
                ledger.why[at] = f"there is no model {model} here"
                continue
            aliases[str(alias)] = names[str(model)]
            ledger.carried.add((*at, "model") if isinstance(target, dict) else at)
            for key in target.keys() - {"model"} if isinstance(target, dict) else ():
                ledger.why[*at, str(key)] = "an alias is a name and nothing else"
    return aliases


def _redis_url(config: Mapping[str, Any], ledger: _Ledger) -> str | None:
    router = _mapping(config, "router_settings")
    at: Loc = ("router_settings",)
    if router.get("redis_url"):
        url = ledger.text(router["redis_url"])
        if "@" not in url:
            ledger.carried.add((*at, "redis_url"))
            return url
        ledger.why[*at, "redis_url"] = "may hold a password, and is not copied; set REDIS_URL in the environment to it"
        return f"${{{ledger.variable('REDIS_URL')}}}"
    if not router.get("redis_host"):
        return None
    ledger.carried |= {(*at, "redis_host"), (*at, "redis_port")}
    login = ""
    if password := router.get("redis_password"):
        name = _environ_name(password) or "REDIS_PASSWORD"
        if _environ_name(password):
            ledger.carried.add((*at, "redis_password"))
        else:
            ledger.why[*at, "redis_password"] = f"passwords are not copied; set {name} in the environment to it"
        login = f":${{{ledger.variable(name)}}}@"
    return f"redis://{login}{ledger.text(router['redis_host'])}:{ledger.text(router.get('redis_port') or 6379)}"


# What became of every key.


def _dropped(config: Mapping[Any, Any], ledger: _Ledger) -> Iterator[Problem]:
    told: set[Loc] = set()
    for leaf in _leaves(config, ()):
        starts = [leaf[:length] for length in range(1, len(leaf) + 1)]
        reasoned = next((loc for loc in starts if loc in ledger.why), None)
        if reasoned is None and any(loc in ledger.carried for loc in starts):
            continue
        loc = reasoned or _key_of(leaf)
        if loc not in told:
            told.add(loc)
            yield Problem(loc, None, ledger.why[loc] if reasoned else _why(loc))


def _leaves(value: object, loc: Loc) -> Iterator[Loc]:
    """Down to single values; a list of single values is one."""
    if isinstance(value, dict) and value:
        for key, part in value.items():
            yield from _leaves(part, (*loc, str(key)))
    elif isinstance(value, list) and any(isinstance(part, dict) for part in value):
        for place, part in enumerate(value):
            yield from _leaves(part, (*loc, place))
    elif loc:
        yield loc


def _key_of(leaf: Loc) -> Loc:
    """The setting that a value is part of: two levels down, or as many as a list of things with settings needs."""
    names = 0
    for length, part in enumerate(leaf, start=1):
        names += isinstance(part, str)
        if names == (3 if leaf[0] in ("model_list", "credential_list") else 2):
            return leaf[:length]
    return leaf


def _why(loc: Loc) -> str:
    for key in reversed([part for part in loc if isinstance(part, str)]):
        if key in WHY:
            return WHY[key]
        for start, why in _PREFIXES.items():
            if key.startswith(start):
                return why
    return NO_SUCH


# Writing the new one.


def _write(source: str, rows: list[_Row], by_price: bool, aliases: Mapping[str, str], redis_url: str | None) -> str:
    order = "by price, the cheapest 0" if by_price else "in the order of that file, as if the cheapest stood first"
    lines = [
        f"# Made from {source} by: pointsman import litellm. To check it: pointsman check --config FILE",
        "# Callers' keys are made with: pointsman keys create NAME",
    ]
    if redis_url:
        lines += ["", _dump({"redis_url": redis_url})]
    if rows:
        lines += [
            "",
            f"# LiteLLM has no tiers. These are {order}.",
            "# The highest is the one that may always serve: give it to the model you trust most.",
            "models:",
            *_builtin(rows),
            "\n\n".join(_row_text(row) for row in rows),
        ]
    if aliases:
        lines += ["", _dump({"aliases": dict(aliases)})]
    return "\n".join(lines) + "\n"


def _builtin(rows: list[_Row]) -> list[str]:
    """A gateway needs a model that chats, and a LiteLLM proxy does not."""
    if any(str(Ability.CHAT) in row.fields.get("abilities", (Ability.CHAT,)) for row in rows):
        return []
    names: tuple[str, ...] = Settings.model_fields["models"].default
    return ["  # Nothing in that file chats; of the built-in models, these do.", *(f"  - {name}" for name in names), ""]


def _row_text(row: _Row) -> str:
    text = _dump([row.fields])
    if not row.knows_context:
        mark = f"context_tokens: {UNKNOWN_CONTEXT_TOKENS}"
        text = text.replace(mark, f"{mark} # not in LiteLLM's file: look it up", 1)
    return "\n".join(f"  {line}" for line in text.splitlines())


def _dump(value: object) -> str:
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=1000).rstrip()
