"""The emulator of Stripe against `localstripe`, another one, field by field in what that one gets right: the encoding of
forms, authentication, and the life of a charge and of a hold when nothing goes wrong.

The argument is the program; TOLLGATE_LOCALSTRIPE_URL is where localstripe listens. Without it nothing is compared.
localstripe knows no keys, no `amount_capturable` and no `amount_received`, captures what was canceled and gives back more
than was taken, so that none of that is compared.
"""

import base64
import json
import os
import sys
import urllib.error
import urllib.parse
import urllib.request

from sandbox import WAIT_S, sandbox

SECRET_KEY = "sk_test_tollgate_sandbox"
INTENT_FIELDS = ["object", "amount", "currency", "status", "capture_method", "metadata", "next_action", "livemode"]
CHARGE_FIELDS = ["object", "amount", "currency", "status", "captured"]
REFUND_FIELDS = ["object", "amount", "currency", "status", "metadata"]


def ask(base, method, path, form=(), authorization=f"Bearer {SECRET_KEY}"):
    body = urllib.parse.urlencode(form).encode() if method == "POST" else None
    headers = {"Authorization": authorization, "Content-Type": "application/x-www-form-urlencoded"}
    request = urllib.request.Request(f"{base}{path}", body, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=WAIT_S) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def seen(answer, fields):
    status, body = answer
    return {"http": status, "id": body["id"].split("_")[0], **{field: body.get(field) for field in fields}}


def intent(answer):
    """A PaymentIntent, and its charge if it is there as an object."""
    found = seen(answer, INTENT_FIELDS)
    found["has_secret"] = answer[1]["client_secret"].startswith(answer[1]["id"] + "_secret_")
    charge = answer[1].get("latest_charge")
    found["charge"] = {field: charge.get(field) for field in CHARGE_FIELDS} if isinstance(charge, dict) else None
    return found


def story(base):
    """What one emulator says, step by step."""
    common = [
        ("amount", "2000"), ("currency", "usd"), ("payment_method_types[]", "card"), ("expand[]", "latest_charge"),
        ("metadata[gateway_payment_id]", "PA1"), ("metadata[note]", "a & b = c / 100 % ü"),
    ]
    manual = [*common, ("capture_method", "manual")]
    paid = [("payment_method", "pm_card_visa"), ("confirm", "true")]
    intents = "/v1/payment_intents"
    steps = []

    def step(name, found):
        steps.append((name, found))

    def made(form):
        answer = ask(base, "POST", intents, form)
        return answer, f"{intents}/{answer[1].get('id')}"

    step("nobody", ask(base, "GET", f"{intents}/pi_none", authorization="")[0])
    basic = "Basic " + base64.b64encode(f"{SECRET_KEY}:".encode()).decode()
    step("basic", ask(base, "GET", f"{intents}/pi_none", authorization=basic)[0])
    for name, form in [("charge", [*common, ("capture_method", "automatic"), *paid]), ("hold", [*manual, *paid])]:
        answer, path = made(form)
        step(name, intent(answer))
        step(f"{name} read", intent(ask(base, "GET", f"{path}?expand[]=latest_charge")))
        if name == "hold":
            capture = [("amount_to_capture", "1500"), ("expand[]", "latest_charge")]
            step("capture", intent(ask(base, "POST", f"{path}/capture", capture)))
        refund = [("payment_intent", answer[1]["id"]), ("amount", "500"), ("metadata[gateway_refund_id]", "RF1")]
        step(f"{name} refund", seen(ask(base, "POST", "/v1/refunds", refund), REFUND_FIELDS))
    answer, path = made(manual)
    step("open", intent(answer))
    step("open canceled", intent(ask(base, "POST", f"{path}/cancel", [("expand[]", "latest_charge")])))
    answer, path = made([*manual, *paid])
    step("held canceled", intent(ask(base, "POST", f"{path}/cancel"))["status"])
    step("canceled again", ask(base, "POST", f"{path}/cancel")[0])
    step("amount missing", ask(base, "POST", intents, [("currency", "usd")])[0])
    step("amount of nothing", ask(base, "POST", intents, [("amount", "0"), ("currency", "usd")])[0])
    return steps


def main():
    other = os.environ.get("TOLLGATE_LOCALSTRIPE_URL")
    if not other:
        print("TOLLGATE_LOCALSTRIPE_URL is not set: the emulator of Stripe is not compared with localstripe")
        return
    with sandbox(sys.argv[1]) as addresses:
        ours, theirs = story(addresses["stripe"]), story(other.rstrip("/"))
    wrong = [f"{name}:\n  ours   {mine}\n  theirs {others}"
             for (name, mine), (_, others) in zip(ours, theirs, strict=True) if mine != others]
    if wrong:
        raise SystemExit("\n".join(wrong))
    print(f"{len(ours)} steps are the same at localstripe")


main()
