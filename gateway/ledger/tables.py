"""The database's tables, as the newest migration leaves them. No queries."""

from sqlalchemy import BigInteger, Boolean, Column, DateTime, Float, Index, Integer, MetaData, String, Table, Text

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
    Column("total_seconds", Float, nullable=False),
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
