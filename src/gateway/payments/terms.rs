//! Checks what a merchant asks for. All problems are named at once.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::config::{ChannelKind, Config, Mode};
use crate::domain::country::is_country;
use crate::domain::ids::ChannelName;
use crate::domain::money::{AMOUNT_MINOR_MAX, Currency, Money};
use crate::domain::pan::{holds_card_number, identifier_holds_card_number, is_alipay_code};
use crate::domain::payment::PaymentTerms;
use crate::gateway::command::CreatePayment;
use crate::gateway::error::{FieldError, GatewayError};

const ORDER_NO_LEN_MAX: usize = 64;
const TEXT_CHARS_MAX: usize = 255;
const METADATA_ENTRIES_MAX: usize = 20;
const METADATA_KEY_CHARS_MAX: usize = 40;
const METADATA_VALUE_CHARS_MAX: usize = 500;
const URL_LEN_MAX: usize = 2048;

/// The sandbox's magic tokens; they are refused in live mode.
const MAGIC_TOKENS: [&str; 10] = [
    "tok_visa",
    "tok_declined",
    "tok_insufficient_funds",
    "tok_stolen_card",
    "tok_3ds",
    "tok_processing",
    "tok_timeout",
    "tok_lost_response",
    "tok_error",
    "tok_processing_error",
];
/// How further ones begin.
const MAGIC_PREFIXES: [&str; 3] = ["tok_stripe_declines:", "tok_alipay_declines:", "tok_paypal_declines:"];

fn is_magic(token: &str) -> bool {
    MAGIC_TOKENS.contains(&token) || MAGIC_PREFIXES.iter().any(|prefix| token.starts_with(prefix))
}

/// The checked terms of a payment.
///
/// # Errors
/// [`GatewayError::InvalidRequest`] with every wrong field, [`GatewayError::CurrencyNotSupported`],
/// [`GatewayError::AmountTooLarge`], [`GatewayError::PanRefused`].
pub(super) fn check(config: &Config, command: &CreatePayment) -> Result<PaymentTerms, GatewayError> {
    refuse_card_numbers(config, command)?;
    let mut errors = check_fields(config, command);
    if command.amount < 1 {
        errors.push(FieldError::new("amount", "must be at least 1 minor unit"));
    }
    let has_currency_form =
        command.currency.len() == 3 && command.currency.bytes().all(|byte| byte.is_ascii_uppercase());
    if !has_currency_form {
        errors.push(FieldError::new("currency", "must be an ISO 4217 code in capitals, such as USD"));
    }
    if !errors.is_empty() {
        return Err(GatewayError::InvalidRequest(errors));
    }
    if command.amount > AMOUNT_MINOR_MAX {
        return Err(GatewayError::AmountTooLarge { max_minor: AMOUNT_MINOR_MAX });
    }
    let currency: Currency =
        command.currency.parse().map_err(|_| GatewayError::CurrencyNotSupported(command.currency.clone()))?;
    Ok(PaymentTerms {
        order_no: command.order_no.clone(),
        money: Money::new(command.amount, currency),
        country: command.country.clone(),
        card_country: command.card_country.clone(),
        method: command.method.clone(),
        requested_channel: command.channel.as_deref().map(ChannelName::new),
        payment_token: command.payment_token.clone(),
        customer_email: command.customer_email.clone(),
        customer_ip: command.customer_ip.clone(),
        description: command.description.clone(),
        metadata: command.metadata.clone().unwrap_or_default(),
        return_url: command.return_url.clone(),
    })
}

fn check_fields(config: &Config, command: &CreatePayment) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut check = |field: &str, ok: bool, message: &str| {
        if !ok {
            errors.push(FieldError::new(field, message));
        }
    };
    check("order_no", is_order_no(&command.order_no), "must be 1 to 64 characters from A-Z a-z 0-9 _ - .");
    let country = command.country.as_deref();
    check("country", country.is_none_or(is_country), "must be an ISO 3166-1 alpha-2 code in capitals, such as US");
    let card_country = command.card_country.as_deref();
    check(
        "card_country",
        card_country.is_none_or(is_country),
        "must be an ISO 3166-1 alpha-2 code in capitals, such as US",
    );
    let method = command.method.as_deref();
    check("method", method.is_none_or(is_method), "must be 1 to 32 characters from a-z 0-9 _");
    let channel = command.channel.as_deref();
    check("channel", channel.is_none_or(|name| config.channels.contains_key(name)), "there is no such channel");
    let token = command.payment_token.as_deref();
    check("payment_token", token.is_none_or(is_token), "must be 1 to 255 visible ASCII characters");
    let magic_in_live = config.mode == Mode::Live && token.is_some_and(is_magic);
    check("payment_token", !magic_in_live, "is a sandbox token, which live mode does not take");
    let email = command.customer_email.as_deref();
    check("customer_email", email.is_none_or(is_email), "must be an e-mail address of at most 254 characters");
    let ip = command.customer_ip.as_deref();
    check("customer_ip", ip.is_none_or(|text| text.parse::<IpAddr>().is_ok()), "must be an IPv4 or IPv6 address");
    let description = command.description.as_deref();
    check("description", description.is_none_or(is_text), "must have at most 255 characters and no control characters");
    let return_url = command.return_url.as_deref();
    check("return_url", return_url.is_none_or(is_web_url), "must be an http or https URL of at most 2048 characters");
    if let Some(metadata) = &command.metadata {
        errors.extend(check_metadata(metadata));
    }
    errors
}

fn check_metadata(metadata: &BTreeMap<String, String>) -> Option<FieldError> {
    if metadata.len() > METADATA_ENTRIES_MAX {
        return Some(FieldError::new("metadata", format!("must have at most {METADATA_ENTRIES_MAX} entries")));
    }
    let too_long = metadata.iter().find(|(key, value)| {
        key.is_empty()
            || key.chars().count() > METADATA_KEY_CHARS_MAX
            || value.chars().count() > METADATA_VALUE_CHARS_MAX
    });
    too_long.map(|(key, _)| {
        let shown: String = key.chars().take(METADATA_KEY_CHARS_MAX).collect();
        let message = "keys must have 1 to 40 characters, values at most 500";
        FieldError::new(format!("metadata.{shown}"), message)
    })
}

/// Card numbers are refused in every text, so that none is ever stored, and whoever sends one is told why.
fn refuse_card_numbers(config: &Config, command: &CreatePayment) -> Result<(), GatewayError> {
    let identifiers = [
        ("order_no", Some(&command.order_no)),
        ("currency", Some(&command.currency)),
        ("country", command.country.as_ref()),
        ("card_country", command.card_country.as_ref()),
        ("method", command.method.as_ref()),
        ("channel", command.channel.as_ref()),
        ("customer_ip", command.customer_ip.as_ref()),
    ];
    let texts = [
        // Where a card number would be put first of all.
        ("payment_token", command.payment_token.as_ref().filter(|token| !is_bar_code(config, command, token))),
        ("customer_email", command.customer_email.as_ref()),
        ("description", command.description.as_ref()),
        ("return_url", command.return_url.as_ref()),
    ];
    let holding = |fields: &[(&'static str, Option<&String>)], holds: fn(&str) -> bool| {
        fields.iter().find(|(_, text)| text.is_some_and(|text| holds(text))).map(|(field, _)| *field)
    };
    let mut metadata = command.metadata.iter().flatten();
    let field =
        holding(&identifiers, identifier_holds_card_number).or_else(|| holding(&texts, holds_card_number)).or_else(
            || metadata.any(|(key, value)| holds_card_number(key) || holds_card_number(value)).then_some("metadata"),
        );
    field.map_or(Ok(()), |field| Err(GatewayError::PanRefused(field.to_owned())))
}

/// Whether a payment token is the bar code that a payer shows for Alipay. Some card numbers have the same form, so the
/// payment must say that it is for Alipay.
fn is_bar_code(config: &Config, command: &CreatePayment, token: &str) -> bool {
    let channel = command.channel.as_deref().and_then(|name| config.channels.get(name));
    let is_for_alipay = channel.is_some_and(|channel| channel.kind == ChannelKind::Alipay)
        || (command.channel.is_none() && command.method.as_deref() == Some("alipay"));
    is_for_alipay && is_alipay_code(token)
}

/// The merchant's reason of a refund, checked.
pub(super) fn check_reason(reason: Option<&String>) -> Result<(), GatewayError> {
    let Some(reason) = reason else { return Ok(()) };
    if holds_card_number(reason) {
        return Err(GatewayError::PanRefused("reason".to_owned()));
    }
    if !is_text(reason) {
        return Err(GatewayError::field("reason", "must have at most 255 characters and no control characters"));
    }
    Ok(())
}

fn is_order_no(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    (1..=ORDER_NO_LEN_MAX).contains(&text.len()) && text.bytes().all(allowed)
}

fn is_method(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    (1..=32).contains(&text.len()) && text.bytes().all(allowed)
}

fn is_token(text: &str) -> bool {
    (1..=TEXT_CHARS_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn is_email(text: &str) -> bool {
    let Some((local, domain)) = text.split_once('@') else { return false };
    let plain = text.chars().all(|character| !character.is_whitespace() && !character.is_control());
    text.len() <= 254 && plain && !local.is_empty() && domain.contains('.') && !domain.contains('@')
}

fn is_text(text: &str) -> bool {
    text.chars().count() <= TEXT_CHARS_MAX && !text.chars().any(char::is_control)
}

fn is_web_url(text: &str) -> bool {
    // The URL standard drops blanks around a URL and line ends within it; what is kept must be what was checked.
    let is_plain = !text.chars().any(|character| character.is_whitespace() || character.is_control());
    is_plain
        && text.len() <= URL_LEN_MAX
        && url::Url::parse(text).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused_field(change: serde_json::Value) -> Option<String> {
        let mut body = serde_json::json!({ "order_no": "O-1", "amount": 100, "currency": "USD" });
        for (field, value) in change.as_object().unwrap() {
            body[field] = value.clone();
        }
        match check(&Config::embedded().unwrap(), &serde_json::from_value(body).unwrap()) {
            Ok(_) => None,
            Err(GatewayError::PanRefused(field)) => Some(field),
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn a_bar_code_of_alipay_is_no_card_number_where_alipay_takes_it() {
        // A Mastercard number by form, and a bar code.
        let code = "2720992593319364";
        for change in [
            serde_json::json!({ "payment_token": code, "method": "alipay" }),
            serde_json::json!({ "payment_token": code, "channel": "alipay" }),
        ] {
            assert_eq!(refused_field(change), None);
        }
        for change in [
            serde_json::json!({ "payment_token": code }),
            serde_json::json!({ "payment_token": code, "method": "card" }),
            serde_json::json!({ "payment_token": code, "method": "alipay", "channel": "stripe" }),
            serde_json::json!({ "payment_token": "4242424242424242", "method": "alipay" }),
        ] {
            assert_eq!(refused_field(change).as_deref(), Some("payment_token"));
        }
        let elsewhere = serde_json::json!({ "order_no": code, "method": "alipay" });
        assert_eq!(refused_field(elsewhere).as_deref(), Some("order_no"));
    }

    #[test]
    fn live_mode_takes_no_token_of_the_emulators() {
        let tokens = MAGIC_TOKENS.into_iter().chain([
            "tok_stripe_declines:lost_card",
            "tok_alipay_declines:X",
            "tok_paypal_declines:X",
        ]);
        for token in tokens {
            let body = serde_json::json!({
                "order_no": "O-1", "amount": 100, "currency": "USD", "payment_token": token,
            });
            let command: CreatePayment = serde_json::from_value(body).unwrap();
            let mut config = Config::embedded().unwrap();
            assert!(check(&config, &command).is_ok(), "{token}");
            config.mode = Mode::Live;
            let refused = check(&config, &command);
            assert!(matches!(refused, Err(GatewayError::InvalidRequest(_))), "{token}: {refused:?}");
        }
    }

    #[test]
    fn card_numbers_in_groups_are_refused_and_other_groups_of_digits_are_order_numbers() {
        for (field, text) in [
            ("order_no", "4242-4242-4242-4242"),
            ("order_no", "INV.3782.822463.10005"),
            ("description", "4242-4242-4242-4242"),
            ("payment_token", "4242-4242-4242-4242"),
            ("payment_token", "42424242-42424242"),
            ("payment_token", "4242.4242.4242.4242"),
        ] {
            assert_eq!(refused_field(serde_json::json!({ field: text })).as_deref(), Some(field), "{text}");
        }
        for order_no in ["42424242-42424242", "2025-0124-1030-4500", "4242-4242-4242"] {
            assert_eq!(refused_field(serde_json::json!({ "order_no": order_no })), None, "{order_no}");
        }
    }
}
