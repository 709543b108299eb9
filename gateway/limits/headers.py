"""The headers by which OpenAI's clients pace themselves: x-ratelimit-{limit,remaining,reset}-{requests,tokens}."""

from math import ceil

from gateway.limits.claim import Claim, Kind, Reservation

SECONDS_PER_MINUTE = 60


def ratelimit_headers(reservation: Reservation) -> dict[str, str]:
    """Of the limit with the least left, for requests and for tokens; nothing where there is no such limit."""
    tightest: dict[str, tuple[Claim, int]] = {}
    for claim, left in zip(reservation.claims, reservation.left, strict=True):
        if claim.kind is Kind.BUCKET and (claim.unit not in tightest or left < tightest[claim.unit][1]):
            tightest[claim.unit] = claim, left
    headers: dict[str, str] = {}
    for claim, left in tightest.values():
        headers.update(bucket_headers(claim, left))
    return headers


def bucket_headers(claim: Claim, left: int) -> dict[str, str]:
    """Of one limit; nothing for a limit that is not per minute. It resets when the bucket is full again."""
    if claim.kind is not Kind.BUCKET:
        return {}
    return {
        f"x-ratelimit-limit-{claim.unit}": str(claim.cap),
        f"x-ratelimit-remaining-{claim.unit}": str(left),
        f"x-ratelimit-reset-{claim.unit}": go_duration((claim.cap - left) * SECONDS_PER_MINUTE / claim.cap),
    }


def go_duration(seconds: float) -> str:
    """As Go writes it: `0s`, `20ms`, `1s`, `6m0s`, `1h0m0s`. Rounded up, so that nobody comes back too early."""
    milliseconds = ceil(seconds * 1000)
    if 0 < milliseconds < 1000:
        return f"{milliseconds}ms"
    minutes, rest = divmod(ceil(seconds), SECONDS_PER_MINUTE)
    hours, minutes = divmod(minutes, SECONDS_PER_MINUTE)
    if hours:
        return f"{hours}h{minutes}m{rest}s"
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"
