"""What stands before localstripe so that the adapter of Stripe can talk to it. The argument is localstripe's address; the
address of this is printed.

localstripe refuses parameters that it does not know, Stripe does not: those of REFUSED are left out, and nothing else of a
request is changed. Its PaymentIntents lack two fields without which the adapter believes no answer: they are put in from
localstripe's own objects, what was taken being its charge less what it has given back (also the rest of a capture in part).
"""

import json
import sys
import urllib.error
import urllib.parse
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

WAIT_S = 30
REFUSED = {
    "": {"description", "receipt_email", "return_url"},
    "cancel": {"cancellation_reason"},
    "capture": {"final_capture", "metadata"},
    "refunds": {"reason"},
}
# Of a connection, not of a message.
HOP = {"connection", "content-length", "host", "transfer-encoding", "keep-alive", "date", "server", "accept-encoding"}


def known(path, form):
    """The parameters that localstripe knows."""
    refused = REFUSED[""] | REFUSED.get(path.rsplit("/", 1)[-1], set())
    pairs = urllib.parse.parse_qsl(form, keep_blank_values=True, strict_parsing=True) if form else []
    return urllib.parse.urlencode([(name, value) for name, value in pairs if name.split("[")[0] not in refused])


def completed(intent):
    charge = intent.get("latest_charge")
    taken = isinstance(charge, dict) and intent["status"] == "succeeded"
    intent["amount_received"] = charge["amount"] - charge["amount_refunded"] if taken else 0
    intent["amount_capturable"] = intent["amount"] if intent["status"] == "requires_capture" else 0
    return intent


class Front(BaseHTTPRequestHandler):
    def forward(self):
        length = int(self.headers.get("content-length", 0))
        body = self.rfile.read(length)
        if self.path.startswith("/v1/") and body:
            body = known(self.path, body.decode()).encode()
        headers = {name: value for name, value in self.headers.items() if name.lower() not in HOP}
        request = urllib.request.Request(f"{sys.argv[1]}{self.path}", body or None, headers, method=self.command)
        try:
            with urllib.request.urlopen(request, timeout=WAIT_S) as answer:
                status, text = answer.status, answer.read()
        except urllib.error.HTTPError as error:
            status, text = error.code, error.read()
        if status == 200 and text:
            answered = json.loads(text)
            if answered.get("object") == "payment_intent":
                text = json.dumps(completed(answered)).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    do_GET = do_POST = forward

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Front)
print(f"http://127.0.0.1:{server.server_port}", flush=True)
server.serve_forever()
