"""PayPal's own library for Python against the emulator of PayPal. The argument is the program.

Money is taken, held, taken in part, let go and given back, with stored means of payment and with the payer's approval; an
id gives what it made again; refusals arrive as the library's errors. The library has no setting for another address, so
that its table of addresses is changed here; all else is as it was installed. It knows nothing of notifications.
"""

import base64
import sys
import urllib.request

from paypalserversdk.configuration import Configuration, Environment, Server
from paypalserversdk.exceptions.error_exception import ErrorException
from paypalserversdk.exceptions.o_auth_provider_exception import OAuthProviderException
from paypalserversdk.http.auth.o_auth_2 import ClientCredentialsAuthCredentials
from paypalserversdk.models.amount_with_breakdown import AmountWithBreakdown
from paypalserversdk.models.capture_request import CaptureRequest
from paypalserversdk.models.checkout_payment_intent import CheckoutPaymentIntent
from paypalserversdk.models.money import Money
from paypalserversdk.models.order_request import OrderRequest
from paypalserversdk.models.payment_source import PaymentSource
from paypalserversdk.models.paypal_wallet import PaypalWallet
from paypalserversdk.models.purchase_unit_request import PurchaseUnitRequest
from paypalserversdk.models.refund_request import RefundRequest
from paypalserversdk.paypal_serversdk_client import PaypalServersdkClient

from sandbox import WAIT_S, control, sandbox

FULL = "return=representation"


def client():
    credentials = ClientCredentialsAuthCredentials("tollgate-sandbox-client", "tollgate-sandbox-secret")
    return PaypalServersdkClient(environment=Environment.SANDBOX, timeout=WAIT_S,
                                 client_credentials_auth_credentials=credentials)


def order(intent, token=None):
    unit = PurchaseUnitRequest(amount=AmountWithBreakdown("USD", "20.00"), custom_id="PA1~m_1")
    stored = {"payment_source": PaymentSource(paypal=PaypalWallet(vault_id=token))} if token else {}
    return OrderRequest(intent=intent, purchase_units=[unit], **stored)


def refused(issue, call):
    """The call has to be refused for this issue."""
    try:
        call()
    except ErrorException as error:
        found = [detail.issue for detail in error.details]
        assert error.response_code == 422 and found == [issue] and error.debug_id, (error.response_code, found)
        return
    raise SystemExit(f"not refused with {issue}")


def payments(api):
    body = order(CheckoutPaymentIntent.CAPTURE, "tok_visa")
    asked = {"body": body, "paypal_request_id": "key-1", "prefer": FULL}
    made = api.orders.create_order(asked)
    paid = made.body.purchase_units[0].payments.captures[0]
    assert (made.status_code, made.body.status, paid.status) == (201, "COMPLETED", "COMPLETED"), made.text
    again = api.orders.create_order(asked)
    assert (again.status_code, again.body.id) == (200, made.body.id), again.text
    fee = paid.seller_receivable_breakdown.paypal_fee
    assert (fee.currency_code, fee.value) == ("USD", "1.19"), made.text
    part = RefundRequest(amount=Money("USD", "5.00"), invoice_id="RF1")
    refund = {"capture_id": paid.id, "body": part, "paypal_request_id": "refund-1", "prefer": FULL}
    given = api.payments.refund_captured_payment(refund).body
    assert (given.status, given.amount.value) == ("COMPLETED", "5.00")
    assert api.payments.refund_captured_payment(refund).body.id == given.id
    assert api.payments.get_refund({"refund_id": given.id}).body.amount.value == "5.00"
    assert api.payments.get_captured_payment({"capture_id": paid.id}).body.status == "PARTIALLY_REFUNDED"
    declined = order(CheckoutPaymentIntent.CAPTURE, "tok_declined")
    refused("INSTRUMENT_DECLINED",
            lambda: api.orders.create_order({"body": declined, "paypal_request_id": "key-2"}))
    wish = '{"mock_application_codes":"PAYER_ACCOUNT_RESTRICTED"}'
    refused("PAYER_ACCOUNT_RESTRICTED",
            lambda: api.orders.create_order({"body": body, "paypal_mock_response": wish}))


def holds(api, page):
    body = order(CheckoutPaymentIntent.AUTHORIZE, "tok_visa")
    made = api.orders.create_order({"body": body, "paypal_request_id": "key-3", "prefer": FULL}).body
    held = made.purchase_units[0].payments.authorizations[0]
    assert (held.status, held.amount.value) == ("CREATED", "20.00") and held.expiration_time > held.create_time
    part = CaptureRequest(amount=Money("USD", "15.00"), final_capture=True)
    asked = {"authorization_id": held.id, "body": part, "paypal_request_id": "capture-1", "prefer": FULL}
    taken = api.payments.capture_authorized_payment(asked).body
    assert (taken.status, taken.amount.value, taken.final_capture) == ("COMPLETED", "15.00", True)
    assert api.payments.get_authorized_payment({"authorization_id": held.id}).body.status == "CAPTURED"
    refused("PREVIOUSLY_CAPTURED", lambda: api.payments.void_payment({"authorization_id": held.id}))

    # The payer approves first.
    waiting = api.orders.create_order({"body": order(CheckoutPaymentIntent.AUTHORIZE), "prefer": FULL}).body
    refused("ORDER_NOT_APPROVED", lambda: api.orders.authorize_order({"id": waiting.id}))
    approve = next(link.href for link in waiting.links if link.rel == "approve")
    assert approve.startswith(page), approve
    urllib.request.urlopen(urllib.request.Request(f"{approve}/approve", method="POST"), timeout=WAIT_S).close()
    assert api.orders.get_order({"id": waiting.id}).body.status == "APPROVED"
    asked = {"id": waiting.id, "paypal_request_id": "authorize-1", "prefer": FULL}
    held = api.orders.authorize_order(asked).body.purchase_units[0].payments.authorizations[0]
    assert held.status == "CREATED"
    voided = api.payments.void_payment({"authorization_id": held.id, "prefer": FULL})
    assert (voided.status_code, voided.body.status) == (200, "VOIDED"), voided.text
    refused("PREVIOUSLY_VOIDED", lambda: api.payments.void_payment({"authorization_id": held.id}))


def main():
    with sandbox(sys.argv[1]) as addresses:
        Configuration.environments[Environment.SANDBOX][Server.DEFAULT] = addresses["paypal"]
        api = client()
        payments(api)
        holds(api, addresses["paypal"])
        authorization = "Basic " + base64.b64encode(b"tollgate-sandbox-client:wrong").decode()
        try:
            api.o_auth_authorization.request_token({"authorization": authorization})
            raise SystemExit("a wrong secret is accepted")
        except OAuthProviderException as error:
            assert (error.response_code, error.error) == (401, "invalid_client"), error
        lines = control("GET", f"{addresses['control']}/paypal/ledger")["items"]
        done = [(line["operation"], line["amount_minor"]) for line in lines]
        expected = [("charge", 2000), ("refund", 500), ("hold", 2000), ("capture", 1500), ("hold", 2000), ("void", 2000)]
        assert done == expected, done
    print("paypal-server-sdk accepts the emulator")


main()
