"""Which rows are served: those that the settings name, of the settings file or of the catalogue."""

from gateway.settings import Settings, SettingsError, told
from models.catalog import AUTO, Catalog, Model, Price, alias_problems, catalog_of, chat_problems, load_catalog
from models.engines import LOCAL_ENGINES
from models.litellm import price_of
from prompts.yamlfile import Problem

ALL = ("all",)
HERE = LOCAL_ENGINES | {"embedder"}  # the engines that work on this machine, whose hours the operator prices


def served_catalog(settings: Settings) -> Catalog:
    """The rows to serve, each with a price: its own, or that of an hour of this machine.

    A name is that of a row in the settings file, else of one in the catalogue. Raises CatalogError, or SettingsError
    for a model or the target of an alias that neither has.
    """
    own = {m.name: m for m in settings.rows}
    elsewhere = {*settings.models, *(settings.aliases or {}).values()} - {AUTO, *ALL, *own}
    base = Catalog({}, {}) if own and not elsewhere else load_catalog(settings.catalog)
    known = {**base.models, **own}
    names = tuple(own or base.models) if settings.models == ALL else settings.models
    problems = [
        Problem(("models", place), None, f"no model {name} in the catalogue; it has: {', '.join(known)}")
        for place, name in enumerate(names)
        if name not in known
    ]
    problems += chat_problems(known[name] for name in names if name in known)
    problems += alias_problems(settings.aliases or {}, list(known))
    if problems:
        raise SettingsError("\n".join(told(settings, problem) for problem in problems))
    catalog = catalog_of((m for m in known.values() if m.name in names), _aliases(settings, base))
    priced = {m.name: _priced(m, settings) for m in catalog}
    return Catalog(priced, {alias: name for alias, name in catalog.aliases.items() if name in (AUTO, *priced)})


def _priced(model: Model, settings: Settings) -> Model:
    """With a price where one is known: an hour of this machine, or what LiteLLM's price map says of its provider's."""
    if model.price is not None:
        return model
    if model.engine in HERE:
        return model.model_copy(update={"price": Price(hour_usd=settings.machine_hour_usd)})
    if model.engine == "litellm" and model.base_url is None:  # somebody else's server has prices of its own
        return model.model_copy(update={"price": price_of(model.remote_name)})
    return model


def _aliases(settings: Settings, base: Catalog) -> dict[str, str]:
    """The settings' own, where they have any; the catalogue's belong to the catalogue's rows."""
    if settings.aliases is not None:
        return settings.aliases
    return {} if settings.rows else dict(base.aliases)
