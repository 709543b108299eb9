"""What tells who somebody is: addresses, numbers of accounts and telephones. Knows their forms and check digits, no
names and no places. Needs the extra `guardrails`.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import ip_address
from typing import Literal

from pydantic import Field

from gateway.guardrails.rail import Finding, Guardrail, RailSection

PHONE_DIGITS = 7  # none is shorter, and to look at one takes long

IsValid = Callable[[str], bool]


class Entity(StrEnum):
    EMAIL = "EMAIL"
    PHONE = "PHONE"
    IBAN = "IBAN"
    CREDIT_CARD = "CREDIT_CARD"
    IP = "IP"
    US_SSN = "US_SSN"


class Pii(RailSection):
    """Personal data, by their form."""

    kind: Literal["pii"]
    entities: tuple[Entity, ...] = Field(default=tuple(Entity), description="what is looked for; all if unset")
    region: str | None = Field(
        default=None,
        pattern="^[A-Z]{2}$",
        description="country whose telephone numbers are found without their + too, such as US; none when unset",
    )

    def rail(self) -> Guardrail:
        if not self.entities:
            raise ValueError(f"'entities' must name some of: {', '.join(Entity)}")
        try:
            forms = [FORMS[entity](self.region) for entity in dict.fromkeys(self.entities)]
        except ImportError as error:
            raise ValueError("guardrails of kind pii need the extra: pip install pointsman[guardrails]") from error
        return Guardrail("pii", forms, self.applies_to, self.action)


@dataclass(frozen=True, slots=True)
class Form:
    """What *pattern* matches and *is_valid* confirms. It reads no more than one character before its match and two
    behind it. Where the whole match is not valid, what remains of it without its last characters may be.

    `needle`: a character without which there is none; it is looked for first, as most texts have none.
    """

    label: str
    pattern: re.Pattern[str]
    characters: re.Pattern[str]
    longest: int
    is_valid: IsValid
    needle: str = ""

    @property
    def reach_characters(self) -> int:
        return self.longest + 2

    def inside(self, character: str) -> bool:
        return self.characters.match(character) is not None

    def find(self, text: str, start: int) -> Finding | None:
        if self.needle and text.find(self.needle, start) < 0:
            return None
        for match in _matches(self.pattern, text, start):
            end = self._valid_end(match[0])
            if end:
                return Finding(match.start(), match.start() + end, self.label)
        return None

    def _valid_end(self, found: str) -> int:
        """How much of *found* is valid, 0 for none. It ends where a group of letters or digits does."""
        for end in range(len(found), 0, -1):
            ends_a_group = found[end - 1].isalnum() and not found[end : end + 1].isalnum()
            if ends_a_group and self.is_valid(found[:end]):
                return end
        return 0


def _matches(pattern: re.Pattern[str], text: str, start: int) -> Iterator[re.Match[str]]:
    """Every match, those that begin within one that was not valid too."""
    while match := pattern.search(text, start):
        yield match
        start = match.start() + 1


def _email(_: str | None) -> Form:
    return Form(
        Entity.EMAIL,
        re.compile(r"[\w.!#$%&'*+/=?^`{|}~-]{1,64}@(?:[\w-]{1,63}\.){1,4}[^\W\d_]{2,24}"),
        re.compile(r"[\w.!#$%&'*+/=?^`{|}~@-]"),
        64 + 1 + 4 * 64 + 24,
        lambda _: True,
        needle="@",
    )


def _phone(region: str | None) -> Form:
    from phonenumbers import PhoneNumberMatcher

    def is_valid(number: str) -> bool:
        """As the library finds it in a text, which leaves out dates and the like."""
        if sum(map(str.isdigit, number)) < PHONE_DIGITS:
            return False
        return any(len(found.raw_string) == len(number) for found in PhoneNumberMatcher(number, region))

    first = r"\+\(?\d" if region is None else r"(?:\+\(?|\()?\d"
    return Form(
        Entity.PHONE,
        re.compile(rf"(?<![\w+]){first}[\d ()./-]{{5,28}}(?<=\d)(?!\w)"),
        re.compile(r"[\d ()./+-]"),
        32,
        is_valid,
        needle="+" if region is None else "",
    )


def _iban(_: str | None) -> Form:
    from stdnum import iban

    return Form(
        Entity.IBAN,
        re.compile(r"(?<![^\W_])[A-Z]{2}\d{2}(?: ?[A-Z0-9]){11,30}(?![^\W_])"),
        re.compile(r"[A-Z0-9 ]"),
        4 + 2 * 30,
        lambda number: bool(iban.is_valid(number)),
    )


def _credit_card(_: str | None) -> Form:
    from stdnum import luhn

    def is_valid(number: str) -> bool:
        digits = "".join(filter(str.isdigit, number))
        return 13 <= len(digits) <= 19 and bool(luhn.is_valid(digits))

    return Form(
        Entity.CREDIT_CARD,
        re.compile(r"(?<!\w)[2-6](?:[ -]?[0-9]){12,18}(?!\w)"),  # the first digit is the network's
        re.compile(r"[0-9 -]"),
        1 + 2 * 18,
        is_valid,
    )


def _ip(_: str | None) -> Form:
    def is_valid(address: str) -> bool:
        try:
            return ip_address(address) is not None and any(map(str.isdigit, address))
        except ValueError:
            return False

    v4 = r"(?:[0-9]{1,3}\.){3}[0-9]{1,3}"
    v6 = rf"(?:[0-9A-Fa-f]{{0,4}}:){{2,7}}(?:{v4}|[0-9A-Fa-f]{{0,4}})"
    return Form(
        Entity.IP,
        re.compile(rf"(?<![\w.:])(?:{v6}|{v4})(?![\w:]|\.\w)"),
        re.compile(r"[0-9A-Fa-f.:]"),
        7 * 5 + 15,
        is_valid,
    )


def _us_ssn(_: str | None) -> Form:
    from stdnum.us import ssn

    return Form(
        Entity.US_SSN,
        re.compile(r"(?<![\w-])[0-9]{3}-[0-9]{2}-[0-9]{4}(?![\w-])"),
        re.compile(r"[0-9-]"),
        11,
        lambda number: bool(ssn.is_valid(number)),
    )


# How each is found, made with the region of telephone numbers. Libraries are imported where they are needed.
FORMS: Mapping[Entity, Callable[[str | None], Form]] = {
    Entity.EMAIL: _email,
    Entity.PHONE: _phone,
    Entity.IBAN: _iban,
    Entity.CREDIT_CARD: _credit_card,
    Entity.IP: _ip,
    Entity.US_SSN: _us_ssn,
}
