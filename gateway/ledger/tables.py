"""The database's tables, as the newest migration leaves them. No queries."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Float,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
)

metadata = MetaData()

charges = Table(
    "charges",
    metadata,
    Column("id", String(64), primary_key=True, comment="the request id"),
    Column("at", DateTime(timezone=True), nullable=False, comment="when the request was received, UTC"),
    Column("caller", String(64), comment="id of the key; NULL when none was shown"),
    Column("asked", String(256), comment="the model name in the request"),
    Column("template", String(64), comment="template key; NULL when nothing in the request is fixed"),
    Column("model", String(128), comment="the model that answered or was tried last; NULL when none was"),
    Column("build", String(64)),
    Column("basis", String(16), comment="what the decision rests on"),
    Column("reason", Text),
    Column("attempts", Integer, nullable=False, comment="models called"),
    Column("outcome", String(16), nullable=False),
    Column("status", Integer, comment="HTTP status sent; NULL when the client left before one was"),
    Column("code", String(64), comment="error code; NULL when there was none"),
    Column("streamed", Boolean, nullable=False),
    Column("prompt_tokens", Integer, comment="NULL when the engine never said"),
    Column("completion_tokens", Integer),
    Column("cached_tokens", Integer),
    Column("cost_nano_usd", BigInteger, comment="NULL when unknown, never 0 for unknown"),
    Column("safe_cost_nano_usd", BigInteger, comment="estimate of what the safe tier would have cost"),
    Column("decide_seconds", Float),
    Column("first_chunk_seconds", Float, comment="from receiving the request"),
    Column("engine_seconds", Float),
    Column("total_seconds", Float, nullable=False, comment="of a lost request: until its engine was called"),
    Column("reasoning_tokens", Integer, comment="part of completion_tokens"),
    Column("discarded_tokens", Integer, comment="of a cascade's or hedge's answer that no client saw"),
    Column("cache", String(16), comment="exact, semantic or idempotent; NULL when an engine was asked"),
    Column("team", String(128)),
    Column("operation", String(16), comment="chat, completion, embedding, responses, messages, batch or shadow"),
    Column("evidence_group", String(64), comment="whose evidence decided and is earned; NULL when the template's own"),
    Column("decision", Text, comment="JSON (router.transcript); NULL when nothing was weighed, or it is not kept"),
    Column("prompt", String(512), comment="id of the library's prompt that the request names; NULL when it names none"),
    Column("prompt_version", Integer, comment="the version that was served, whatever label was asked for"),
    Column("prompt_variant", String(32), comment="base, or the tier whose own text was said; NULL when none was"),
    Index("charges_at", "at"),
)

keys = Table(
    "keys",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("name", String(128), nullable=False),
    Column(
        "digest", String(64), nullable=False, unique=True, comment="HMAC-SHA256 of the key; the key itself is nowhere"
    ),
    Column("hint", String(16), nullable=False, comment="its last characters, to recognise it by"),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("revoked_at", DateTime(timezone=True)),
    Column("role", String(16), nullable=False, server_default="client", comment="client or admin"),
    Column("team", String(128), comment="whose budget it draws on too"),
    Column("models", Text, comment="JSON list of the models it may use; NULL for all"),
    Column("templates", Text, comment="JSON list of the templates it may use; NULL for all"),
    Column("expires_at", DateTime(timezone=True)),
)

budgets = Table(
    "budgets",
    metadata,
    Column("scope", String(16), primary_key=True, comment="caller, team or template"),
    Column("name", String(128), primary_key=True, comment="id of the key, name of the team, key of the template"),
    Column("day_nano_usd", BigInteger, comment="NULL for no limit, here and below"),
    Column("month_nano_usd", BigInteger),
    Column("requests_per_minute", Integer),
    Column("tokens_per_minute", Integer),
    Column("concurrency", Integer),
)

limit_counters = Table(
    "limit_counters",
    metadata,
    Column("key", String(255), primary_key=True),
    Column("used", BigInteger, nullable=False, comment="spent and held; of a bucket in 1/60,000, as of `at_ms`"),
    Column("at_ms", BigInteger, nullable=False, comment="on the database's clock, since 1970"),
    Column("forget_ms", BigInteger, nullable=False, comment="from when on the row may be deleted"),
)

limit_holds = Table(
    "limit_holds",
    metadata,
    Column("reservation", String(64), primary_key=True),
    Column("key", String(255), primary_key=True),
    Column("units", BigInteger, nullable=False, comment="of the counter; 0 once given back by itself"),
    Column("expires_ms", BigInteger, nullable=False),
    Index("limit_holds_expires", "expires_ms"),
)

responses = Table(
    "responses",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("caller", String(64), nullable=False, comment="nobody else may read it"),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("expires_at", DateTime(timezone=True), nullable=False),
    Column("previous_id", String(64), comment="the response that this one goes on from"),
    Column("items", Text, nullable=False, comment="JSON: input and output, as the next one's conversation"),
    Column("document", Text, nullable=False, comment="JSON: what the client got"),
    Index("responses_expires_at", "expires_at"),
)

files = Table(
    "files",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("caller", String(64), nullable=False),
    Column("filename", String(256), nullable=False, comment="as the client calls it; never a path of ours"),
    Column("purpose", String(32), nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("path", Text, nullable=False, comment="of the content, relative to the data directory"),
    Column("status", String(16), nullable=False),
    Index("files_caller_created_at", "caller", "created_at"),
)

batches = Table(
    "batches",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("caller", String(64), nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("endpoint", String(64), nullable=False),
    Column("completion_window", String(16), nullable=False),
    Column("input_file", String(64), nullable=False),
    Column("output_file", String(64)),
    Column("error_file", String(64)),
    Column("status", String(16), nullable=False),
    Column("total_requests", Integer, nullable=False),
    Column("completed_requests", Integer, nullable=False),
    Column("failed_requests", Integer, nullable=False),
    Column("metadata", Text, comment="JSON, the client's own"),
    Column("errors", Text, comment="JSON: why the input was not valid"),
    Column("expires_at", DateTime(timezone=True)),
    Column("in_progress_at", DateTime(timezone=True)),
    Column("finalizing_at", DateTime(timezone=True)),
    Column("completed_at", DateTime(timezone=True)),
    Column("failed_at", DateTime(timezone=True)),
    Column("expired_at", DateTime(timezone=True)),
    Column("cancelling_at", DateTime(timezone=True)),
    Column("cancelled_at", DateTime(timezone=True)),
    Index("batches_caller_created_at", "caller", "created_at"),
    Index("batches_status", "status"),
)

feedback = Table(
    "feedback",
    metadata,
    Column("request_id", String(64), nullable=False),
    Column("caller", String(64), nullable=False),
    Column("name", String(64), nullable=False),
    Column("value", Text, nullable=False, comment="JSON"),
    Column("kind", String(16), nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("updated_at", DateTime(timezone=True), nullable=False),
    Column("due", Boolean, nullable=False, server_default=false(), comment="not yet counted as it is now"),
    Column("counted", Boolean, comment="as what it was counted: passed or not; NULL when it never was"),
    PrimaryKeyConstraint("request_id", "caller", "name"),
    Index("feedback_updated_at", "updated_at"),
    Index("feedback_due", "due"),
)

evidence = Table(
    "evidence",
    metadata,
    Column("template", String(64), nullable=False),
    Column("build", String(64), nullable=False),
    Column("place", Integer, nullable=False, unique=True, comment="among all records ever made, from 1"),
    Column("record", Text, nullable=False, comment="JSON, see router.record"),
    Column(
        "revision", Integer, nullable=False, comment="how often it was changed: who read an older one may not write"
    ),
    Column("updated_at", DateTime(timezone=True), nullable=False),
    PrimaryKeyConstraint("template", "build"),
    Index("evidence_updated_at", "updated_at"),
)

suite_outcomes = Table(
    "suite_outcomes",
    metadata,
    Column("template", String(64), nullable=False, comment="key of a prompt's version"),
    Column("build", String(64), nullable=False),
    Column("receipt", String(32), nullable=False, comment="id of the one that the record in `evidence` counted last"),
    Column("suite", String(64), nullable=False),
    Column("made_at", Float, nullable=False, comment="the receipt; seconds since 1970"),
    Column("cases", Text, nullable=False, comment="JSON: whether each passed"),
    PrimaryKeyConstraint("template", "build"),
)

idempotency = Table(
    "idempotency",
    metadata,
    Column("caller", String(64), nullable=False),
    Column("key", String(256), nullable=False),
    Column("body_digest", String(64), nullable=False, comment="SHA-256 of the request: another body is refused"),
    Column("status", Integer, comment="HTTP status sent; NULL while the first request is being answered"),
    Column("response_body", Text, comment="while there is no status: whose the claim is"),
    Column("prompt", String(512), comment="of the library, where the answer is of one; with the next two"),
    Column("prompt_version", Integer),
    Column("prompt_variant", String(32)),
    Column("created_at", DateTime(timezone=True), nullable=False),
    PrimaryKeyConstraint("caller", "key"),
    Index("idempotency_created_at", "created_at"),
)

prompt_library = Table(
    "prompt_library",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False, comment="there is one row: 1"),
    Column("epoch", BigInteger, nullable=False, comment="counts every change to the tables prompt_*"),
    Column("policy", Text, comment="JSON of library.yaml; NULL for its defaults"),
)

prompt_versions = Table(
    "prompt_versions",
    metadata,
    Column("prompt", String(512), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("digest", String(64), nullable=False, comment="SHA-256 of `template`"),
    Column("template", Text, nullable=False, comment="canonical JSON, never changed"),
    Column("parent", Integer, comment="the number it was made from"),
    Column("author", String(128), nullable=False),
    Column("origin", String(16), nullable=False, comment="file, api, import, generated, optimised or draft"),
    Column("message", Text, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    UniqueConstraint("prompt", "digest"),
)

prompt_labels = Table(
    "prompt_labels",
    metadata,
    Column("prompt", String(512), primary_key=True),
    Column("label", String(36), primary_key=True),
    Column("number", Integer, nullable=False),
    Column("excluded", Text, nullable=False, comment="JSON list: tiers that the version was not let through for"),
    Column("override_until", DateTime(timezone=True), comment="the gate was shut, and somebody answers for it"),
)

prompt_moves = Table(
    "prompt_moves",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("prompt", String(512), nullable=False),
    Column("label", String(36), nullable=False),
    Column("came_from", Integer, comment="NULL when the label was new"),
    Column("went_to", Integer, nullable=False),
    Column("excluded", Text, nullable=False, comment="JSON list of tiers"),
    Column("mover", String(128), nullable=False),
    Column("message", Text, nullable=False),
    Column("moved_at", DateTime(timezone=True), nullable=False),
    Column("override_role", String(128)),
    Column("override_reason", Text),
    Column("override_until", DateTime(timezone=True)),
    Column("gate", Text, comment="JSON: the rows that failed, where it was overridden"),
    Index("prompt_moves_label", "prompt", "label"),
)

prompt_canaries = Table(
    "prompt_canaries",
    metadata,
    Column("prompt", String(512), primary_key=True),
    Column("label", String(36), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False, comment="the version on trial"),
    Column("tier", String(32), primary_key=True, comment="the cheaper one that it is tried on"),
    Column("builds", Text, nullable=False, comment="JSON list: those that served the tier when it began"),
    Column("excluded", Text, nullable=False, comment="JSON list: tiers that it is never sent to"),
    Column("author", String(128), nullable=False),
    Column("began_at", DateTime(timezone=True), nullable=False),
    Column("place", BigInteger, nullable=False, comment="the epoch at which it began; a label's highest is its canary"),
    Column("stage", String(16), nullable=False, comment="widening, whole, back or stopped"),
    Column("canary", Text, nullable=False, comment="JSON, see router.canary"),
    Column("revision", Integer, nullable=False, comment="who read an older one may not write"),
)

prompt_suites = Table(
    "prompt_suites",
    metadata,
    Column("prompt", String(512), primary_key=True),
    Column("digest", String(64), primary_key=True, comment="of the cases; the bars may change under it"),
    Column("document", Text, nullable=False, comment="JSON in the words of tests.yaml"),
    Column("author", String(128), nullable=False),
    Column("place", BigInteger, nullable=False, comment="the epoch at which it was set; the highest is asked"),
    Column("created_at", DateTime(timezone=True), nullable=False),
)

prompt_receipts = Table(
    "prompt_receipts",
    metadata,
    Column("prompt", String(512), primary_key=True),
    Column("id", String(32), primary_key=True),
    Column("tier", String(32), nullable=False),
    Column("suite", String(64), nullable=False),
    Column("template", String(64), nullable=False, comment="digest of what the tier was told"),
    Column("made_at", DateTime(timezone=True), nullable=False),
    Column("document", Text, nullable=False, comment="JSON of the receipt"),
    Column("author", String(128), nullable=False),
)

prompt_files = Table(
    "prompt_files",
    metadata,
    Column("prompt", String(512), primary_key=True),
    Column("digest", String(64), nullable=False, comment="of the version that files and records last agreed on"),
    Column("head", Integer, nullable=False, comment="the newest version of the records then"),
)
