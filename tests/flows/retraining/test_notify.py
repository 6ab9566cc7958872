"""Everyone who is to be told is told; one who cannot be reached fails nothing, and no address is shown."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from flows.retraining.notify import WEBHOOK, notify

TOLD: list[Any] = []


class Ear(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        TOLD.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(500 if self.path == "/broken" else 204)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def ear() -> Iterator[str]:
    TOLD.clear()
    with HTTPServer(("127.0.0.1", 0), Ear) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def told(blocks: tuple[str, ...] = ()) -> list[str]:
    said: list[str] = []
    notify("retrain mine", "version 2 is the champion now", {"outcome": "promoted"}, blocks, said.append)
    return said


def test_a_webhook_and_a_block_are_told(ear: str, prefect: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from prefect.blocks.notifications import CustomWebhookNotificationBlock

    block = CustomWebhookNotificationBlock(
        name="team", url=f"{ear}/block", json_data={"title": "{{subject}}", "words": "{{body}}"}
    )
    block.save("team", overwrite=True)
    monkeypatch.setenv(WEBHOOK, f"{ear}/hook?token=secret")
    assert told(("custom-webhook/team",)) == ["retrain mine: version 2 is the champion now"]
    hook, sent = TOLD
    assert hook == {"subject": "retrain mine", "text": "version 2 is the champion now", "outcome": "promoted"}
    assert sent == {"title": "retrain mine", "words": "version 2 is the champion now"}


@pytest.mark.parametrize("url", ["{ear}/broken", "http://127.0.0.1:9/secret", "file:///etc/secret", "secret"])
def test_a_webhook_that_fails_is_named_and_not_shown(ear: str, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv(WEBHOOK, url.format(ear=ear))
    said = told()
    assert said[1].startswith(f"the webhook in {WEBHOOK} was not reached: ")
    assert "secret" not in said[1]


def test_a_block_that_is_not_there_is_named(prefect: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(WEBHOOK, raising=False)
    assert told(("custom-webhook/nobody",))[1:] == ["the notification block custom-webhook/nobody failed: ValueError"]
