//! What the methods of the Alipay emulator take.

use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use crate::domain::money::{Currency, Money};
use crate::sandbox::alipay::amount::money_of;
use crate::sandbox::alipay::codes::{business, missing};

/// Every field that one of the methods takes.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Content {
    pub(super) out_trade_no: Option<String>,
    pub(super) trade_no: Option<String>,
    pub(super) total_amount: Option<String>,
    pub(super) subject: Option<String>,
    pub(super) body: Option<String>,
    pub(super) passback_params: Option<String>,
    pub(super) auth_code: Option<String>,
    pub(super) trans_currency: Option<String>,
    pub(super) out_request_no: Option<String>,
    pub(super) refund_amount: Option<String>,
    pub(super) qr_code_timeout_express: Option<String>,
    pub(super) product_code: Option<String>,
    pub(super) auth_no: Option<String>,
    pub(super) auth_confirm_mode: Option<String>,
    pub(super) out_order_no: Option<String>,
    pub(super) operation_id: Option<String>,
    pub(super) operation_type: Option<String>,
    pub(super) order_title: Option<String>,
    pub(super) amount: Option<String>,
    pub(super) auth_code_type: Option<String>,
    pub(super) pay_timeout: Option<String>,
    pub(super) extra_param: Option<String>,
    pub(super) remark: Option<String>,
    /// Where notifications go. It is a parameter of the request and stands outside its content.
    #[serde(skip)]
    pub(super) notify_url: Option<String>,
}

/// A field that has to be there.
pub(super) fn given<'a>(field: &'a Option<String>, name: &str) -> Result<&'a str, Value> {
    field.as_deref().filter(|text| !text.is_empty()).ok_or_else(|| missing(name))
}

/// A number of the merchant's: up to 64 letters, digits and underscores.
pub(super) fn number<'a>(field: &'a Option<String>, name: &str) -> Result<&'a str, Value> {
    let number = given(field, name)?;
    if number.len() > 64 || !number.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        return Err(business("ACQ.INVALID_PARAMETER", &format!("{name} is not valid")));
    }
    Ok(number)
}

/// A title, without the characters that Alipay refuses.
pub(super) fn check_title(field: &Option<String>, name: &str) -> Result<(), Value> {
    match given(field, name)?.contains(['/', '=', '&']) {
        true => Err(business("ACQ.INVALID_PARAMETER", &format!("{name} is not valid"))),
        false => Ok(()),
    }
}

/// An amount in the currency of the request.
pub(super) fn money(field: &Option<String>, name: &str, content: &Content) -> Result<Money, Value> {
    let currency = match content.trans_currency.as_deref() {
        None => Currency::CNY,
        Some(code) => code.parse().map_err(|_| business("ACQ.INVALID_PARAMETER", "trans_currency is not valid"))?,
    };
    money_in(field, name, currency)
}

/// An amount in a currency that is known already.
pub(super) fn money_in(field: &Option<String>, name: &str, currency: Currency) -> Result<Money, Value> {
    let wrong = || business("ACQ.INVALID_PARAMETER", &format!("{name} is not valid"));
    money_of(given(field, name)?, currency).ok_or_else(wrong)
}

/// A time in whole minutes, such as `90m`; `default_minutes` where there is none.
pub(super) fn minutes(field: &Option<String>, name: &str, default_minutes: u64) -> Result<Duration, Value> {
    let minutes = match field.as_deref() {
        None => Some(default_minutes),
        Some(text) => text.strip_suffix('m').and_then(|minutes| minutes.parse().ok()),
    };
    let minutes = minutes.filter(|minutes| (1..=24 * 60).contains(minutes));
    let wrong = || business("ACQ.INVALID_PARAMETER", &format!("{name} is not valid"));
    Ok(Duration::from_secs(minutes.ok_or_else(wrong)? * 60))
}
