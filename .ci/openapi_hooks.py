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

    def __init__(self, key_id, secret):
        self.key_id, self.secret = key_id, secret

    def __call__(self, request):
        body = request.body or b""
        body = body.encode() if isinstance(body, str) else body
        timestamp, nonce = str(int(time.time())), uuid.uuid4().hex
        lines = ["v1", self.key_id, timestamp, nonce, request.method, request.path_url,
                 seen(request.headers.get("Idempotency-Key", "")), hashlib.sha256(body).hexdigest()]
        signature = hmac.new(self.secret.encode(), "\n".join(lines).encode(), hashlib.sha256).hexdigest()
        request.headers.update({"X-Api-Key": self.key_id, "X-Timestamp": timestamp, "X-Nonce": nonce,
                                "X-Signature": f"v1={signature}"})
        return request


class Bearer(requests.auth.AuthBase):
    """Shows the operator's token."""

    def __call__(self, request):
        request.headers["Authorization"] = f"Bearer {os.environ['TOLLGATE_ADMIN_TOKEN']}"
        return request


def seen(value):
    """What a server sees of a header: nothing where it is not text."""
    text = (value.decode("latin-1") if isinstance(value, bytes) else value).strip(" \t")
    return text if all(" " <= character <= "~" or character == "\t" for character in text) else ""


schemathesis.auth.set_from_requests(Signer(*KNOWN["key"])).apply_to(path_regex="^/api/")
schemathesis.auth.set_from_requests(Bearer()).apply_to(path_regex="^/(admin/|metrics$)")


@schemathesis.hook
def filter_query(context, query):
    """A parameter without a value counts as absent, which a schema can't say."""
    return all(value != "" for value in (query or {}).values())


@schemathesis.hook
def before_call(context, case, kwargs):
    if isinstance(case.body, dict) and isinstance(case.body.get("destination"), str):
        # Copies are written to wherever the operator says, which here is one folder.
        name = zlib.crc32(case.body["destination"].encode("utf-8", "replace"))
        case.body["destination"] = os.path.join(os.environ["TOLLGATE_COPIES"], str(name))
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return
    for name, value in case.path_parameters.items():
        objects = KNOWN["objects"].get(name, [])
        # By the value, so that the same run asks for the same.
        place = zlib.crc32(f"{case.operation.path} {value}".encode()) % (len(objects) + 1)
        if place < len(objects):
            case.path_parameters[name] = objects[place]
