"""Takes secrets out of what is shown or recorded: passwords in addresses, and the values of secret variables."""

import os
import re

SECRET = re.compile(r"PASSWORD|PASSWD|SECRET|TOKEN|API_KEY|AUTH_STRING|ACCESS_KEY(?!_ID)|CREDENTIAL", re.IGNORECASE)
"""Names of variables whose values are secret, unless they are files."""
PASSWORD = re.compile(r"(?P<before>[a-zA-Z][\w+.-]*://[^\s/:@]*:)[^\s/@]+(?=@)")
SHORTEST = 6
"""Shorter values would be found in ordinary words."""
HIDDEN = "***"


def redacted(text: str) -> str:
    """`text` without passwords in addresses, and without what secret variables of this process say."""
    text = PASSWORD.sub(rf"\g<before>{HIDDEN}", text)
    for value in _secrets():
        text = text.replace(value, HIDDEN)
    return text


def _secrets() -> list[str]:
    """Longest first: one may hold another."""
    found = set()
    for name, value in os.environ.items():
        if SECRET.search(name) and not value.startswith("/"):
            found |= {value, value.partition(":")[2]} if "AUTH_STRING" in name else {value}
    return sorted((one for one in found if len(one) >= SHORTEST), key=len, reverse=True)
