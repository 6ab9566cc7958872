"""Who is told how a retraining ended: the log always, a webhook and Prefect's notification blocks where there are."""

import json
import os
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from typing import Any

WEBHOOK = "SECATEUR_WEBHOOK"
PATIENCE = 10.0
"""Seconds that a webhook may take."""


def notify(
    subject: str,
    text: str,
    facts: Mapping[str, Any],
    blocks: Sequence[str],
    say: Callable[[str], None],
    *,
    webhook: bool = True,
) -> None:
    """Tells everyone; one who cannot be reached is named in the log, and fails nothing.

    Args:
        subject: One line.
        text: What happened.
        facts: The same for programs; the webhook gets them as JSON.
        blocks: Names of Prefect notification blocks.
        say: The log.
        webhook: Whether the webhook is told.
    """
    say(f"{subject}: {text}")
    url = os.environ.get(WEBHOOK)
    if url and webhook:
        try:
            _post(url, {"subject": subject, "text": text, **facts})
        except (OSError, ValueError) as error:  # the URL may hold a token, so it is not shown
            say(f"the webhook in {WEBHOOK} was not reached: {getattr(error, 'reason', type(error).__name__)}")
    for name in blocks:
        try:
            _block(name, subject, text)
        except Exception as error:  # any service may be behind it
            say(f"the notification block {name} failed: {type(error).__name__}")


def _post(url: str, facts: Mapping[str, Any]) -> None:
    if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
        raise ValueError("it is neither http nor https")
    body = json.dumps(facts, sort_keys=True).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})  # noqa: S310
    with urllib.request.urlopen(request, timeout=PATIENCE):  # noqa: S310
        pass


def _block(name: str, subject: str, text: str) -> None:
    from prefect.blocks.core import Block

    Block.load(name).notify(body=text, subject=subject)  # type: ignore[union-attr]
