"""Whether a Weights & Biases run can be online, found out in seconds and without a question.

Asked itself, W&B prompts for a missing key on a terminal, and waits a minute and a half for a
server that does not answer, and once more when the process ends.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import threading
import urllib.error
import urllib.request
from urllib.parse import urlsplit

import wandb

from unlearning.run.tracking.secrets import logins

CHOSEN = "offline was chosen"
OFFLINE = ("offline", "dryrun")
PATIENCE, LATER_PATIENCE = 8.0, 4.0  # seconds for an answer of the server


class Connection:
    """To W&B's server: made out once, and again before what would wait for it.

    Args:
        chosen: the configuration says offline.
    """

    def __init__(self, chosen: bool) -> None:
        self.chosen, self._asked = chosen, False
        self.offline: str | None = None

    def ask(self) -> str | None:
        """Why runs are offline; a server that did not answer is not asked a second time."""
        if not self._asked:
            self._asked = True
            self.offline = offline_because(self.chosen)
            self.chosen = self.offline == CHOSEN
        return self.offline

    def is_lost(self) -> bool:
        """Whether it was there, and is gone."""
        if self.offline is None:
            self.offline = offline_because(False, LATER_PATIENCE)
            return self.offline is not None
        return False


def offline_because(chosen: bool, patience: float = PATIENCE) -> str | None:
    """Why runs have to be offline, in words; None where they can be online.

    Args:
        chosen: the configuration says so.
        patience: seconds to wait for the server.
    """
    if chosen or os.environ.get("WANDB_MODE") in OFFLINE:
        return CHOSEN
    address = os.environ.get("WANDB_BASE_URL") or wandb.setup().settings.base_url
    address = address.rstrip("/")
    key = _key(address)
    if key is None and not os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return "no key: set WANDB_API_KEY, or run `wandb login` once"
    answers: list[str | None] = []
    # In a thread, because looking up a name has no time limit.
    asking = threading.Thread(target=lambda: answers.append(_refusal(address, key, patience)))
    asking.daemon = True
    asking.start()
    asking.join(patience + 1)
    return answers[0] if answers else f"{address} does not answer"


def _key(address: str) -> str | None:
    """From the environment, or the login for this server."""
    if key := os.environ.get("WANDB_API_KEY"):
        return key
    host = urlsplit(address).hostname
    return next((secret for name, secret in logins() if name == host), None)


def _refusal(address: str, key: str | None, patience: float) -> str | None:
    """What the server has against us; None where it knows the key."""
    headers = {"Content-Type": "application/json"}
    if key is not None:
        headers["Authorization"] = f"Basic {base64.b64encode(f'api:{key}'.encode()).decode()}"
    query = json.dumps({"query": "query Viewer { viewer { id } }"}).encode()
    request = urllib.request.Request(f"{address}/graphql", query, headers)
    try:
        with urllib.request.urlopen(request, timeout=patience) as response:
            answer = json.load(response)
    except urllib.error.HTTPError as error:
        if error.code in (401, 403):
            return f"{address} does not know the key"
        return f"{address} answers with an error ({error.code})" if error.code >= 500 else None
    except (OSError, ValueError, http.client.HTTPException) as error:
        return f"{address} cannot be reached ({getattr(error, 'reason', error)})"
    known = isinstance(answer, dict) and (answer.get("data") or {}).get("viewer")
    return None if known or key is None else f"{address} does not know the key"
