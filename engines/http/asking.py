"""One request to a server and its whole answer: what it says of itself, whether it is ready."""

from __future__ import annotations

import http.client
import json
from typing import Any

from innerloop.engines.http.client import Address

ASK_S = 10.0
LONGEST = 1 << 22  # bytes of an answer that are read


def ask(address: Address, method: str, path: str, body: Any = None, patience_s: float = ASK_S) -> tuple[int, bytes]:
    """(status, body) of the answer.

    Raises:
        OSError: the server cannot be reached, or does not answer in time.
        http.client.HTTPException: its answer is not HTTP.
    """
    connection = http.client.HTTPConnection(*address, timeout=patience_s)
    try:
        sent = None if body is None else json.dumps(body).encode()
        connection.request(method, path, sent, {"Content-Type": "application/json"} if sent else {})
        response = connection.getresponse()
        return response.status, response.read(LONGEST)
    finally:
        connection.close()


def document(address: Address, path: str) -> dict[str, Any]:
    """The JSON object at a path; empty where the server has none there."""
    try:
        status, body = ask(address, "GET", path)
        found = json.loads(body) if status == 200 else None
    except (OSError, http.client.HTTPException, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def models(address: Address, root: str = "") -> list[dict[str, Any]]:
    """The models that a server lists at /v1/models; empty where it lists none."""
    listed = document(address, root + "/v1/models").get("data")
    return [one for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []
