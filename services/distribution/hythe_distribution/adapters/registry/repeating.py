"""Asking again: what may have a better answer in a moment is asked for up to four times."""

from __future__ import annotations

from collections.abc import Callable

from hythe.errors import Unavailable
from hythe_distribution.adapters.registry.problems import MAX_PROBLEM_BYTES, may_pass, must_wait, was_silent
from hythe_distribution.adapters.registry.response import Response
from hythe_distribution.cancellation import Cancellation
from hythe_distribution.retry import MAX_WAIT_S, TRIES, delay_s, retry_after_s, worth_repeating

TRIES_OF_SILENCE = 2  # each has cost a time-out already


def repeat(
    step: str,
    send: Callable[[int], Response],
    cancellation: Cancellation,
    *,
    tries: int = TRIES,
    statuses: bool = True,
) -> Response:
    """Return the first answer that is worth keeping, or the last one; waits in between as the server asks.

    Args:
        step: what is being done, for error messages.
        send: sends the request once; gets how often it was sent before.
        tries: how often at most; 1 where it must not be repeated.
        statuses: whether an answer with 408, 429 or 5xx is a reason to repeat; a lost connection always is.

    Raises:
        ResourceExhausted: the server asks to wait for more than 30 s.
        Unavailable: no answer to the last try.
        Cancelled: the cancellation came first.
    """
    for attempt in range(tries):
        is_last = attempt == tries - 1
        try:
            response = send(attempt)
        except Unavailable as error:
            cancellation.check()
            too_slow = was_silent(error) and attempt + 1 >= TRIES_OF_SILENCE
            if is_last or too_slow or not may_pass(error):
                raise
            wait_s = delay_s(attempt)
        else:
            if tries == 1 or not statuses or not worth_repeating(response.status):
                return response
            asked_s = retry_after_s(response.header("Retry-After")) or 0.0
            if asked_s > MAX_WAIT_S:
                with response:
                    body = response.read_front(MAX_PROBLEM_BYTES)
                raise must_wait(step, response.endpoint, response.status, body, asked_s)
            if is_last:
                return response
            response.drop()
            wait_s = max(asked_s, delay_s(attempt))
        cancellation.wait(wait_s)
    raise AssertionError("unreachable: the last try returns or raises")
