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

/// What the payer behind a bar code does; `None` for what is no bar code.
pub(super) fn payer_of(auth_code: &str) -> Option<Payer> {
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
