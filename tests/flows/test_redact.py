"""Planted secrets do not come through."""

import pytest

from flows.redact import redacted


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://me:hunter22@host:5432/db is away", "postgresql://me:***@host:5432/db is away"),
        ("postgresql+asyncpg://:hunter22@host/db", "postgresql+asyncpg://:***@host/db"),
        ("http://me@host:80/a and a@b.c", "http://me@host:80/a and a@b.c"),
        ("two http://a:b@c http://d:e@f", "two http://a:***@c http://d:***@f"),
        ("hf://NAME@REVISION and 12:30", "hf://NAME@REVISION and 12:30"),
    ],
)
def test_passwords_in_addresses(text: str, shown: str) -> None:
    assert redacted(text) == shown


def test_values_of_secret_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "planted-one")
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "admin:planted-two")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "planted-one-and-more")
    monkeypatch.setenv("HF_TOKEN", "abc")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/etc/keys")
    text = "planted-one-and-more, planted-one, admin:planted-two, planted-two, abc, /etc/keys"
    assert redacted(text) == "***, ***, ***, ***, abc, /etc/keys"
