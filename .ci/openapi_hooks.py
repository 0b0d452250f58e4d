"""How schemathesis asks a gateway: every request is signed, or has the operator's token; some of the numbers that it makes
up are replaced with those of objects that are there, and every other request that is right is made such that it can succeed.
What each operation was answered is written down."""

import collections
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
# With which the emulator of Stripe signs.
STRIPE_SECRET = "whsec_tollgate_sandbox"
EVENT = {"id": "evt_1", "object": "event", "type": "payment_intent.succeeded", "livemode": False,
         "data": {"object": {"id": "pi_nobody", "object": "payment_intent"}}}
# How often requests were right, by operation.
rights = collections.Counter()


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
    if case.meta is not None and case.meta.generation.mode.is_positive:
        operation = case.operation.definition.raw["operationId"]
        turn, is_others = divmod(rights[operation], 2)
        rights[operation] += 1
        turns = KNOWN["turns"].get(operation, [{}, {}, {}])
        if is_others or turn >= len(turns):
            put_known(case)
        elif operation == "receive_callback":
            notify(case)
        else:
            take_turn(case, operation, turn, turns[turn])
    if case.path == "/admin/v1/routing/rollback" and isinstance(case.body, dict) and isinstance(case.body.get("version"), int):
        # Further back the rules are not there that others are about.
        case.body["version"] = KNOWN["version"]
    if isinstance(case.body, dict) and isinstance(case.body.get("destination"), str):
        # Copies are written to wherever the operator says, which here is one folder.
        name = zlib.crc32(case.body["destination"].encode("utf-8", "replace"))
        case.body["destination"] = os.path.join(os.environ["TOLLGATE_COPIES"], str(name))


def put_known(case):
    """Numbers of objects that are there in place of some of those that were made up."""
    for name in case.path_parameters:
        objects = KNOWN["objects"].get(name, [])
        # By the value, so that the same run asks for the same.
        place = zlib.crc32(f"{case.operation.path} {case.path_parameters[name]}".encode()) % (len(objects) + 1)
        if place < len(objects):
            case.path_parameters[name] = objects[place]


def take_turn(case, operation, turn, wanted):
    """What can succeed: the document's own example about an object that allows it, the first time without anything that was
    made up, and only with parameters that are needed."""
    for name in case.path_parameters:
        case.path_parameters[name] = wanted.get("path", {}).get(name) or KNOWN["steady"][name]
    case.query = wanted.get("query", {})
    for name in [name for name in case.headers if name.lower() == "idempotency-key"]:
        case.headers[name] = f"turn-{operation}-{turn}"
    content = case.operation.definition.raw.get("requestBody", {}).get("content", {}).get("application/json")
    if content:
        made_up = case.body if turn and isinstance(case.body, dict) else {}
        case.body, case.media_type = {**made_up, **content["example"], **wanted.get("body", {})}, "application/json"


def notify(case):
    """What the provider itself could have sent."""
    body, timestamp = json.dumps(EVENT), str(int(time.time()))
    signature = hmac.new(STRIPE_SECRET.encode(), f"{timestamp}.{body}".encode(), hashlib.sha256).hexdigest()
    case.path_parameters["channel"], case.body, case.media_type = "stripe", body, "text/plain"
    case.headers["Stripe-Signature"] = f"t={timestamp},v1={signature}"


@schemathesis.hook
def after_call(context, case, response):
    with open(os.environ["TOLLGATE_SEEN"], "a") as file:
        file.write(f"{case.operation.definition.raw['operationId']} {response.status_code}\n")
