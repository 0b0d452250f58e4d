//! Payers by the bar code that they show.

/// What a bar code does.
#[derive(Clone, Copy, Debug)]
pub(super) enum Payer {
    Pays,
    LosesAnswer,
    Declines(&'static str, &'static str),
    Confirms,
    Hangs,
    Breaks,
}

/// How a token begins that names the reason of its refusal, without `ACQ.`.
const NAMED_DECLINE: &str = "tok_alipay_declines:";
/// How tokens begin that others refuse; here they pay.
const DECLINED_BY_OTHERS: [&str; 2] = ["tok_paypal_declines:", "tok_stripe_declines:"];
/// Reasons that can be asked for.
const REASONS: [&str; 32] = [
    "ACQ.ACCESS_FORBIDDEN",
    "ACQ.BEYOND_PAY_RESTRICTION",
    "ACQ.BEYOND_PER_RECEIPT_RESTRICTION",
    "ACQ.BUYER_BALANCE_NOT_ENOUGH",
    "ACQ.BUYER_BANKCARD_BALANCE_NOT_ENOUGH",
    "ACQ.BUYER_BANKCARD_FORBID",
    "ACQ.BUYER_ENABLE_STATUS_FORBID",
    "ACQ.BUYER_PAYMENT_AMOUNT_DAY_LIMIT_ERROR",
    "ACQ.BUYER_PAYMENT_AMOUNT_MONTH_LIMIT_ERROR",
    "ACQ.BUYER_SELLER_EQUAL",
    "ACQ.CONCURRENT_REQUEST",
    "ACQ.ERROR_BALANCE_PAYMENT_DISABLE",
    "ACQ.ERROR_BUYER_CERTIFY_LEVEL_LIMIT",
    "ACQ.EXIST_FORBIDDEN_WORD",
    "ACQ.INVALID_PARAMETER",
    "ACQ.INVALID_RECEIVE_ACCOUNT",
    "ACQ.MOBILE_PAYMENT_SWITCH_OFF",
    "ACQ.NO_PAYMENT_INSTRUMENTS_AVAILABLE",
    "ACQ.PARTNER_ERROR",
    "ACQ.PAYMENT_AUTH_CODE_INVALID",
    "ACQ.PAYMENT_FAIL",
    "ACQ.PAYMENT_REQUEST_HAS_RISK",
    "ACQ.PULL_MOBILE_CASHIER_FAIL",
    "ACQ.SELLER_BEEN_BLOCKED",
    "ACQ.SELLER_NOT_EXIST",
    "ACQ.SOUNDWAVE_PARSER_FAIL",
    "ACQ.SUBJECT_CAN_NOT_BE_EMPTY",
    "ACQ.SYSTEM_ERROR",
    "ACQ.TOTAL_FEE_EXCEED",
    "ACQ.TRADE_BUYER_NOT_MATCH",
    "ACQ.UNHEARD_OF",
    "ACQ.USER_FACE_PAYMENT_SWITCH_OFF",
];

/// What the payer behind a bar code does; `None` for what is no bar code.
pub(super) fn payer_of(auth_code: &str) -> Option<Payer> {
    if let Some(reason) = auth_code.strip_prefix(NAMED_DECLINE) {
        let known = REASONS.iter().find(|known| known.strip_prefix("ACQ.") == Some(reason));
        return known.map(|known| Payer::Declines(known, "The payment was refused"));
    }
    if DECLINED_BY_OTHERS.iter().any(|prefix| auth_code.starts_with(prefix)) {
        return Some(Payer::Pays);
    }
    Some(match auth_code {
        // Refused by Stripe through a fault of its own, which is nothing to Alipay.
        "tok_visa" | "tok_processing_error" => Payer::Pays,
        "tok_declined" => DECLINED,
        "tok_insufficient_funds" => {
            Payer::Declines("ACQ.BUYER_BALANCE_NOT_ENOUGH", "The buyer's balance is not enough")
        }
        "tok_stolen_card" => Payer::Declines("ACQ.PAYMENT_REQUEST_HAS_RISK", "The payment request has risk"),
        "tok_3ds" | "tok_processing" => Payer::Confirms,
        "tok_timeout" => Payer::Hangs,
        "tok_lost_response" => Payer::LosesAnswer,
        "tok_error" => Payer::Breaks,
        // What a payer's app really shows: 16 to 24 digits that begin with 25 to 30.
        code if (16..=24).contains(&code.len()) && code.bytes().all(|byte| byte.is_ascii_digit()) => {
            match code[..2].parse::<u8>() {
                Ok(25..=30) => Payer::Pays,
                _ => return None,
            }
        }
        _ => return None,
    })
}

/// Refused without a reason.
pub(super) const DECLINED: Payer = Payer::Declines("ACQ.PAYMENT_FAIL", "The payment failed");
