"""Stripe's own library for Python against the emulator of Stripe: an emulator that it accepts does not test its own
misreadings. The argument is the program.

Money is held, captured in part, canceled and given back; a key gives its first answer again; a declined hold can be
confirmed with another card; and the events that the emulator sends are accepted by the library's check of signatures.
"""

import json
import queue
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import stripe

from sandbox import WAIT_S, control, sandbox

SECRET_KEY = "sk_test_tollgate_sandbox"
WEBHOOK_SECRET = "whsec_tollgate_sandbox"
HOLD = {
    "amount": 2000,
    "currency": "usd",
    "capture_method": "manual",
    "payment_method_types": ["card"],
    "metadata": {"gateway_payment_id": "PA1", "gateway_merchant": "m_1"},
}
deliveries = queue.Queue()


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        deliveries.put((self.path, self.headers["stripe-signature"], body))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        pass


def refused(kind, call):
    """The error of a call that has to be refused."""
    try:
        call()
    except kind as error:
        return error
    raise SystemExit(f"not refused with {kind.__name__}")


def holds(client, stranger):
    intents = client.v1.payment_intents
    held = intents.create(HOLD, {"idempotency_key": "hold-1"})
    assert held.status == "requires_payment_method", held
    held = intents.confirm(held.id, {"payment_method": "pm_card_visa", "expand": ["latest_charge"]})
    assert (held.status, held.amount_capturable, held.amount_received) == ("requires_capture", 2000, 0), held
    assert held.latest_charge.payment_method_details.card.capture_before > held.created
    captured = intents.capture(held.id, {"amount_to_capture": 1500}, {"idempotency_key": "capture-1"})
    assert (captured.status, captured.amount_capturable, captured.amount_received) == ("succeeded", 0, 1500), captured
    again = intents.capture(held.id, {"amount_to_capture": 1500}, {"idempotency_key": "capture-1"})
    assert again.last_response.body == captured.last_response.body
    assert again.last_response.headers["idempotent-replayed"] == "true"
    error = refused(stripe.InvalidRequestError, lambda: intents.capture(held.id))
    assert error.code == "payment_intent_unexpected_state" and error.error.payment_intent.id == held.id
    error = refused(stripe.InvalidRequestError, lambda: intents.cancel(held.id))
    assert error.error.payment_intent.status == "succeeded"
    refund = client.v1.refunds.create({"payment_intent": held.id, "amount": 500})
    assert (refund.status, refund.amount, refund.payment_intent) == ("succeeded", 500, held.id)
    refused(stripe.InvalidRequestError, lambda: client.v1.refunds.create({"payment_intent": held.id, "amount": 1001}))

    canceled = intents.create({**HOLD, "payment_method": "pm_card_visa", "confirm": True})
    canceled = intents.cancel(canceled.id, {"cancellation_reason": "requested_by_customer"})
    assert (canceled.status, canceled.cancellation_reason) == ("canceled", "requested_by_customer"), canceled

    declining = {**HOLD, "payment_method": "pm_card_chargeDeclined", "confirm": True}
    error = refused(stripe.CardError, lambda: intents.create(declining, {"idempotency_key": "declined-1"}))
    left = error.error.payment_intent
    assert (left.status, error.code) == ("requires_payment_method", "card_declined")
    refused(stripe.CardError, lambda: intents.create(declining, {"idempotency_key": "declined-1"}))
    assert intents.confirm(left.id, {"payment_method": "pm_card_visa"}).status == "requires_capture"
    other = {**HOLD, "amount": 2001}
    refused(stripe.IdempotencyError, lambda: intents.create(other, {"idempotency_key": "hold-1"}))
    refused(stripe.AuthenticationError, lambda: stranger.v1.payment_intents.retrieve(held.id))
    listed = intents.list({"limit": 2})
    assert [intent.capture_method for intent in listed.data] == ["manual", "manual"] and listed.has_more


def ledger(addresses):
    """What the emulator did with money."""
    lines = control("GET", f"{addresses['control']}/stripe/ledger")["items"]
    done = [(line["operation"], line["amount_minor"]) for line in lines]
    expected = [("hold", 2000), ("capture", 1500), ("refund", 500), ("hold", 2000), ("void", 2000), ("hold", 2000)]
    assert done == expected, done


def notifications(client, addresses):
    receiver = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    Thread(target=receiver.serve_forever, daemon=True).start()
    base = f"http://127.0.0.1:{receiver.server_port}"
    control("PUT", f"{addresses['control']}/callbacks", {"url": base})
    held = client.v1.payment_intents.create({**HOLD, "payment_method": "pm_card_visa", "confirm": True})
    missing = {"payment_intent.created", "charge.succeeded", "payment_intent.amount_capturable_updated"}
    while missing:
        path, signature, body = deliveries.get(timeout=WAIT_S)
        assert path == "/callbacks/stripe", path
        event = stripe.Webhook.construct_event(body, signature, WEBHOOK_SECRET)
        # What happened before this began to listen may come too.
        if held.id in body.decode():
            missing.discard(event.type)
        refused(stripe.SignatureVerificationError,
                lambda: stripe.Webhook.construct_event(body + b" ", signature, WEBHOOK_SECRET))
        refused(stripe.SignatureVerificationError,
                lambda: stripe.Webhook.construct_event(body, signature, "whsec_other"))
        assert json.loads(body)["livemode"] is False


def main():
    with sandbox(sys.argv[1]) as addresses:
        at = {"base_addresses": {"api": addresses["stripe"]}, "max_network_retries": 0}
        client = stripe.StripeClient(SECRET_KEY, **at)
        holds(client, stripe.StripeClient("sk_test_other", **at))
        ledger(addresses)
        notifications(client, addresses)
    print(f"stripe {stripe.VERSION} accepts the emulator")


main()
