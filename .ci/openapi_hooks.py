"""How schemathesis asks a gateway: every request is signed, or has the operator's token, and some of the numbers that it
makes up are replaced with those of objects that are there."""

import hashlib
import hmac
import json
import os
import time
import uuid
import zlib

import requests
import schemathesis

KNOWN = json.loads(os.environ["TOLLGATE_KNOWN"])


class Signer(requests.auth.AuthBase):
    """Signs what is about to be sent, exactly as it is sent."""

    def __init__(self, key):
        self.key_id, self.secret = key

    def __call__(self, request):
        body = request.body or b""
        body = body.encode() if isinstance(body, str) else body
        timestamp, nonce = str(int(time.time())), uuid.uuid4().hex
        lines = ["v1", self.key_id, timestamp, nonce, request.method, request.path_url,
                 key_of(request.headers.get("Idempotency-Key", "")), hashlib.sha256(body).hexdigest()]
        signature = hmac.new(self.secret.encode(), "\n".join(lines).encode(), hashlib.sha256).hexdigest()
        request.headers.update({"X-Api-Key": self.key_id, "X-Timestamp": timestamp, "X-Nonce": nonce,
                                "X-Signature": f"v1={signature}"})
        return request


class Bearer(requests.auth.AuthBase):
    """Shows the operator's token."""

    def __call__(self, request):
        request.headers["Authorization"] = f"Bearer {os.environ['TOLLGATE_ADMIN_TOKEN']}"
        return request


def key_of(value):
    """What a server sees of a header: nothing where it is not text."""
    text = value.decode("latin-1") if isinstance(value, bytes) else value
    text = text.strip(" \t")
    return text if all(" " <= character <= "~" or character == "\t" for character in text) else ""


@schemathesis.hook
def before_call(context, case, kwargs):
    path = case.operation.path
    if path.startswith("/api/"):
        kwargs["auth"] = Signer(KNOWN["key"])
    elif path.startswith("/admin/") or path == "/metrics":
        kwargs["auth"] = Bearer()
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return
    for name, value in case.path_parameters.items():
        objects = KNOWN["objects"].get(name, [])
        # By the value, so that the same run asks for the same.
        place = zlib.crc32(f"{path} {value}".encode()) % (len(objects) + 1)
        if place < len(objects):
            case.path_parameters[name] = objects[place]
