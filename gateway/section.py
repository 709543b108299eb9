"""What a section of the settings file is made of. A new one is a class of this kind and a field of `Settings`."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """Keys that are set together: `cache: {ttl_seconds: 60}` in the file, POINTSMAN_CACHE__TTL_SECONDS as a variable.

    Every key has a default, a unit in its name and a description.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
