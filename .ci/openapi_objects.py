"""What the requests of openapi.py are about: some of everything, and for each operation that needs an object in a state of
its own a few of them, since most of these can be asked for once."""

from gateway import OPERATOR, ask, basic, until

# How often each operation is asked for what it can do.
TURNS = 3
# A second account at Stripe, whose emulator fails when it is told to; nothing but what names it goes there.
SECOND = "second"
# Whoever is kept waiting for longer than this needs a person, in seconds; the least that can be configured.
REVIEW_AFTER_S = 60
TERMS = {"amount": 5000, "currency": "USD", "method": "card", "payment_token": "tok_visa"}


class Furniture:
    """Makes objects through the API, as whoever may."""

    def __init__(self, listen, admin):
        self.listen, self.admin, self.made = listen, admin, 0

    def operator(self, method, path, data=None):
        return ask(method, f"{self.admin}/admin/v1{path}", OPERATOR, data)

    def merchant(self):
        return self.operator("POST", "/merchants", {"name": "shop", "tier": "unlimited"})

    def post(self, merchant, path, data):
        self.made += 1
        headers = {"Idempotency-Key": f"furnish-{self.made}"}
        return ask("POST", f"{self.listen}/api/v1{path}", basic(merchant["key"]), data, headers)

    def pay(self, merchant, token="tok_visa", **more):
        terms = {**TERMS, "order_no": f"P-{self.made}", "payment_token": token, "customer_email": "jane@shop.example", **more}
        return self.post(merchant, "/payments", terms)

    def hold(self, merchant, **more):
        return self.post(merchant, "/pre-auths", {**TERMS, "order_no": f"H-{self.made}", "channel": "stripe", **more})

    def endpoint(self, merchant, port, **more):
        """Where nothing listens, so that there are notifications to be sent again."""
        return self.post(merchant, "/webhooks/endpoints", {"url": f"http://127.0.0.1:{port}/hook", **more})

    def told(self, merchant, endpoint):
        return self.post(merchant, f"/webhooks/endpoints/{endpoint['id']}/test", {})

    def dead_letters(self, merchant, count):
        """Notifications that were given up."""
        endpoint = self.endpoint(merchant, 3, max_attempts=1)
        told = [self.told(merchant, endpoint)["id"] for _ in range(count)]
        path = f"/webhooks/notifications?endpoint_id={endpoint['id']}&status=failed"
        until("dead letters", lambda: len(self.operator("GET", path)["items"]) >= count)
        return told

    def stuck(self, merchant, fail):
        """Payments, pre-auths and refunds of which nobody will know what became once `fail` was called."""
        terms = {"channel": SECOND, "currency": "NOK"}
        paid = [self.pay(merchant, **terms) for _ in range(TURNS)]
        held = [self.hold(merchant, **terms) for _ in range(TURNS)]
        fail()
        payments = [self.pay(merchant, **terms)["payment_no"] for _ in range(TURNS)]
        refunds = [self.post(merchant, f"/payments/{one['payment_no']}/refunds", {"amount": 100})["refund_no"] for one in paid]
        for one in held:
            self.post(merchant, f"/pre-auths/{one['pre_auth_no']}/capture", {})
        return payments, [one["pre_auth_no"] for one in held], refunds

    def await_review(self, known):
        """Waits until what is stuck needs a person."""
        key = {"id": known["key"][0], "secret": known["key"][1]}
        kinds = [("payments", "resolve_payment", "payment_no"), ("pre-auths", "resolve_pre_auth", "pre_auth_no"),
                 ("refunds", "resolve_refund", "refund_no")]
        for kind, operation, name in kinds:
            for turn in known["turns"][operation]:
                url = f"{self.listen}/api/v1/{kind}/{turn['path'][name]}"
                needs_one = lambda: ask("GET", url, basic(key))["status"] == "needs_review"  # noqa: E731
                until(f"{url} needs a person", needs_one, 2 * REVIEW_AFTER_S)


def at(name, values, **body):
    """Turns that differ by what a path names."""
    return [{"path": {name: value}, "body": body} for value in values]


def furnish(listen, admin, fail):
    """A merchant's key; the numbers of objects that anything may happen to (`objects`) and of some that nothing does
    (`steady`), by the names that paths give them; for operations by their ids what makes them succeed (`turns`); and the
    version of the routing with all rules."""
    make = Furniture(listen, admin)
    shop, other, steady, *rest = [make.merchant() for _ in range(3 + 4 * TURNS)]
    to_delete, to_erase, to_give_keys, to_take_keys = [rest[turn::4] for turn in range(4)]
    stuck_payments, stuck_holds, stuck_refunds = make.stuck(shop, fail)

    tokens = ["tok_visa", "tok_visa", "tok_declined", "tok_3ds", "tok_processing"]
    payments = [make.pay(shop, token) for token in tokens]
    holds = [make.hold(shop) for _ in range(4 + 7 * TURNS)]
    hold_nos = [hold["pre_auth_no"] for hold in holds]
    channel_nos = [hold["channel_pre_auth_no"] for hold in holds]
    # Each operation has its own.
    part = lambda values, number: values[4 + number * TURNS:][:TURNS]  # noqa: E731
    make.post(shop, f"/pre-auths/{hold_nos[0]}/capture", {"amount": 3000})
    refunds = [make.post(shop, f"/payments/{payments[0]['payment_no']}/refunds", {"amount": 100}),
               make.post(shop, f"/pre-auths/{hold_nos[0]}/refunds", {"amount": 100})]
    paid = make.pay(shop, amount=90_000)["payment_no"]
    taken = part(hold_nos, 5)
    for number in taken:
        make.post(shop, f"/pre-auths/{number}/capture", {})
    waiting = [make.pay(shop, "tok_3ds")["payment_no"] for _ in range(TURNS)]
    customers = [(one, make.pay(one)["payment_no"], make.hold(one)["pre_auth_no"]) for one in to_erase]
    for one, _, number in customers:
        make.post(one, f"/pre-auths/{number}/cancel", {})

    endpoints = [make.endpoint(shop, port) for port in (1, 2)]
    notifications = [make.told(shop, endpoint) for endpoint in endpoints]
    lasting = make.endpoint(shop, 4)
    # Nobody removes this one before the operator's turn.
    foreign = make.endpoint(steady, 6)["id"]
    to_remove = [make.endpoint(shop, 5)["id"] for _ in range(TURNS)]
    dead = make.dead_letters(shop, TURNS)
    # No job of the shop's sends these again, and gives them up meanwhile.
    foreign_dead = make.dead_letters(steady, TURNS)
    late = [make.told(shop, lasting)["id"] for _ in range(TURNS)]
    job = make.post(shop, "/webhooks/notifications/cancel", {"endpoint_id": endpoints[0]["id"]})

    # None of them precedes another one in all that it matches.
    rule = {"methods": ["card"], "channels": ["stripe"]}
    rules = [make.operator("POST", "/rules", {**rule, "name": f"cards of {country}", "card_countries": [country]})["id"]
             for country in ("US", "DE", "FR", "GB", "JP")]
    erasure = make.operator("POST", f"/merchants/{steady['merchant_id']}/erasures", {"customer_id": "nobody"})
    second_keys = [make.operator("POST", f"/merchants/{one['merchant_id']}/keys")["id"] for one in to_take_keys]

    number = lambda values, name: [value[name] for value in values]  # noqa: E731
    objects = {
        "merchant_id": [other["merchant_id"]], "key_id": [other["key"]["id"]],
        "payment_no": number(payments, "payment_no"), "pre_auth_no": hold_nos[:4], "channel_pre_auth_no": channel_nos[:4],
        "refund_no": number(refunds, "refund_no"), "endpoint_id": number(endpoints, "id"),
        "notification_id": number(notifications, "id"), "job_id": [job["id"]], "id": rules[:1],
        "name": ["stripe", "alipay"], "channel": ["alipay", "crypto"],
    }
    nothing_else = {
        "merchant_id": steady["merchant_id"], "key_id": steady["key"]["id"], "payment_no": paid, "pre_auth_no": taken[0],
        "channel_pre_auth_no": channel_nos[-1], "refund_no": refunds[0]["refund_no"], "endpoint_id": lasting["id"],
        "notification_id": dead[0], "job_id": job["id"], "erasure_id": erasure["erasure_id"], "id": rules[1],
        "name": "paypal", "channel": "paypal", "file": "page.css",
    }
    by_channel = {"channel": "stripe", "currency": "USD"}
    turns = {
        "create_payment": [
            {"body": {"order_no": "turn-1"}}, {"body": {"order_no": "turn-2", "payment_token": "tok_declined"}},
            {"body": {"order_no": "turn-3", "payment_token": "tok_3ds"}},
            {"body": {"order_no": "turn-4", "channel": SECOND, "currency": "NOK"}},
        ],
        "create_pre_auth": [{"body": {"order_no": f"turn-{turn}"}} for turn in range(TURNS)],
        "create_channel_pre_auth": [{"body": {"pre_auth_no": f"turn-{turn}"}} for turn in range(TURNS)],
        "cancel_payment": at("payment_no", waiting),
        "create_refund": at("payment_no", [paid] * TURNS, amount=100),
        "capture_pre_auth": at("pre_auth_no", part(hold_nos, 0), amount=4000),
        "cancel_pre_auth": at("pre_auth_no", part(hold_nos, 1)),
        "create_pre_auth_refund": at("pre_auth_no", taken, amount=100),
        "capture_channel_pre_auth": [{"body": {**by_channel, "channel_pre_auth_no": one, "amount": 4000}}
                                     for one in part(channel_nos, 2)],
        "cancel_channel_pre_auth": [{"body": {"channel": "stripe", "channel_pre_auth_no": one}}
                                    for one in part(channel_nos, 3)],
        "get_channel_pre_auth": [{"query": {"channel": "stripe"}}] * TURNS,
        "create_endpoint": [{"body": {"url": f"https://shop.example/{turn}"}} for turn in range(TURNS)],
        "delete_endpoint": at("endpoint_id", to_remove),
        "retry_notification": at("notification_id", dead),
        "cancel_notification": at("notification_id", late),
        **{operation: at("endpoint_id", [foreign] * TURNS) for operation in (
            "get_any_webhook_endpoint", "pause_any_webhook_endpoint", "enable_any_webhook_endpoint",
            "recover_any_endpoint", "reset_any_webhook_endpoint_health")},
        "retry_any_notification": at("notification_id", foreign_dead),
        "list_any_notifications": [{"query": {"merchant_id": shop["merchant_id"]}}] * TURNS,
        "capture_any_pre_auth": at("pre_auth_no", part(hold_nos, 4), amount=4000),
        "cancel_any_pre_auth": at("pre_auth_no", part(hold_nos, 6)),
        "resolve_payment": at("payment_no", stuck_payments),
        "resolve_pre_auth": at("pre_auth_no", stuck_holds),
        "resolve_refund": at("refund_no", stuck_refunds),
        "delete_merchant": at("merchant_id", number(to_delete, "merchant_id")),
        "create_key": at("merchant_id", number(to_give_keys, "merchant_id")),
        "delete_key": [{"path": {"merchant_id": one["merchant_id"], "key_id": key}}
                       for one, key in zip(to_take_keys, second_keys)],
        "erase_payment": [{"path": {"merchant_id": one["merchant_id"], "payment_no": payment}}
                          for one, payment, _ in customers],
        "erase_pre_auth": [{"path": {"merchant_id": one["merchant_id"], "pre_auth_no": hold}}
                           for one, _, hold in customers],
        "erase_customer": at("merchant_id", [one["merchant_id"] for one, *_ in customers]),
        "check_limits": [{"body": {"merchant_id": steady["merchant_id"]}}] * TURNS,
        "create_rule": [{"body": {"name": f"cards of {country}", "card_countries": [country]}}
                        for country in ("CN", "KR", "TW")],
        "delete_rule": at("id", rules[2:]),
    }
    exports = [f"export_{whose}{what}" for whose in ("", "all_") for what in ("payments", "refunds", "fees")]
    turns.update({export: [{"query": {"from": "2025-01-01"}}] * TURNS for export in exports})
    key = [shop["key"]["id"], shop["key"]["secret"]]
    return {"key": key, "objects": objects, "steady": nothing_else, "turns": turns,
            "version": make.operator("GET", "/routing")["version"]}
