//! The search at the top of every page: by the number of anything, an order number, or a merchant's name.

use askama::Template;
use url::form_urlencoded;

use crate::api::console::call::{ConsoleCall, go_to};
use crate::api::console::page::{Page, Section, show};
use crate::api::console::payments::{self, page_of_object, page_of_refund};
use crate::api::console::pre_auths;
use crate::api::console::table::{Cell, Table, path_part};
use crate::api::console::text::moment;
use crate::api::envelope::Outcome;
use crate::api::error::ApiError;
use crate::api::query::Pages;
use crate::api::routes::{Routes, Verb};
use crate::domain::ids::{EndpointId, NotificationId, PAYMENT_NO_PREFIX, PRE_AUTH_NO_PREFIX, REFUND_NO_PREFIX};
use crate::gateway::Gateway;
use crate::gateway::command::PaymentFilter;
use crate::gateway::error::GatewayError;
use crate::gateway::page::{LIMIT_MAX, Page as Listed, PageRequest, looked_back_to};
use crate::gateway::view::{MerchantView, OperatorPaymentView, OperatorPreAuthView};

/// Longest text that is searched for; no number or name is longer.
const TEXT_MAX: usize = 255;
/// Pages of merchants whose names are looked at.
const MERCHANT_PAGES_MAX: usize = 20;
/// Merchants that are shown.
const MERCHANTS_MAX: usize = 50;

pub(super) fn add_routes(routes: Routes) -> Routes {
    routes.with(Verb::Get, "/console/search", search)
}

#[derive(Template)]
#[template(path = "search.html")]
struct SearchPage {
    page: Page,
    wanted: String,
    payments: Option<Table>,
    pre_auths: Option<Table>,
    merchants: Option<Table>,
    /// Where somebody who knows the merchant finds what has the order number; none where all merchants were asked.
    by_merchant: Option<String>,
    /// Lists that were not looked through to their end, each with what it is of, what was looked through, and the way on.
    partly: Vec<(&'static str, String, String)>,
}

async fn search(call: ConsoleCall) -> Outcome {
    let query = call.query(&["q"], Pages::No)?;
    let wanted: String = query.text("q").unwrap_or_default().trim().chars().take(TEXT_MAX).collect();
    let gateway = call.gateway();
    if let Some(path) = page_of_number(gateway, &wanted)? {
        return go_to(&path);
    }
    let found = if wanted.is_empty() { Found::default() } else { find(gateway, &wanted)? };
    if let Some(path) = found.only() {
        return go_to(&path);
    }
    let Found { payments, pre_auths, merchants, is_partial, payments_after, pre_auths_after } = found;
    let by_merchant = is_partial.then(|| format!("{}?order_no={}", payments::PATH, path_part(&wanted)));
    let ways_on = [("payments", payments::PATH, payments_after), ("pre-auths", pre_auths::PATH, pre_auths_after)];
    let partly = ways_on.into_iter().filter_map(|(what, path, after)| {
        let cursor = after?;
        let back_to = looked_back_to(&cursor).map(|at| moment(&at.rfc3339())).unwrap_or_default();
        let mut query = form_urlencoded::Serializer::new(String::new());
        let query = query.append_pair("order_no", &wanted).append_pair("cursor", &cursor).finish();
        Some((what, back_to, format!("{path}?{query}")))
    });
    show(&SearchPage {
        page: call.page(Section::Payments, "Search"),
        partly: partly.collect(),
        by_merchant,
        payments: (!payments.is_empty()).then(|| payments::table(&payments, "")),
        pre_auths: (!pre_auths.is_empty()).then(|| pre_auths::table(&pre_auths, "")),
        merchants: (!merchants.is_empty()).then(|| merchants_table(&merchants)),
        wanted,
    })
}

/// The page of what has this number, if there is such a thing.
fn page_of_number(gateway: &Gateway, number: &str) -> Result<Option<String>, ApiError> {
    let begins = |prefix: &str| number.starts_with(prefix);
    let page = if begins(PAYMENT_NO_PREFIX) {
        gateway.payments().find(number).map(|_| page_of_object(number))
    } else if begins(PRE_AUTH_NO_PREFIX) {
        gateway.pre_auths().find(number).map(|_| page_of_object(number))
    } else if begins(REFUND_NO_PREFIX) {
        page_of_refund(gateway, number)
    } else if begins("wn_") {
        let found = gateway.webhooks().find_notification(&NotificationId::new(number));
        found.map(|_| format!("/console/webhooks/notifications/{}", path_part(number)))
    } else if begins("we_") {
        let found = gateway.webhooks().find_endpoint(&EndpointId::new(number));
        found.map(|_| format!("/console/webhooks/endpoints/{}", path_part(number)))
    } else {
        let found = gateway.merchants().get(number);
        found.map(|_| page_of_merchant(number))
    };
    match page {
        Ok(page) => Ok(Some(page)),
        // It may be an order number all the same.
        Err(GatewayError::NotFound(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn page_of_merchant(merchant_id: &str) -> String {
    format!("/console/limits/{}", path_part(merchant_id))
}

#[derive(Default)]
struct Found {
    payments: Vec<OperatorPaymentView>,
    pre_auths: Vec<OperatorPreAuthView>,
    merchants: Vec<MerchantView>,
    /// Whether there were too many merchants to ask them all for the order number.
    is_partial: bool,
    /// Where earlier payments and pre-auths of the order number may be that were not looked for.
    payments_after: Option<String>,
    pre_auths_after: Option<String>,
}

impl Found {
    /// The page of the only thing that was found.
    fn only(&self) -> Option<String> {
        if self.is_partial {
            return None;
        }
        match (self.payments.as_slice(), self.pre_auths.as_slice(), self.merchants.as_slice()) {
            ([one], [], []) => Some(page_of_object(&one.payment.payment_no)),
            ([], [one], []) => Some(page_of_object(&one.pre_auth.pre_auth_no)),
            ([], [], [one]) => Some(page_of_merchant(&one.merchant_id)),
            _ => None,
        }
    }
}

/// By order number: those that hold it, and earlier ones that had it as far as they are among the newest. By a part of a
/// merchant's name.
fn find(gateway: &Gateway, wanted: &str) -> Result<Found, ApiError> {
    let filter = PaymentFilter { order_no: Some(String::from(wanted)), ..PaymentFilter::default() };
    let (mut payments, payments_are_all) = gateway.payments().with_order(wanted)?;
    let earlier = all_of(|page| gateway.payments().list_all(None, &filter, page))?;
    for earlier in earlier.items {
        if payments.iter().all(|known| known.payment.payment_no != earlier.payment.payment_no) {
            payments.push(earlier);
        }
    }
    let (mut pre_auths, pre_auths_are_all) = gateway.pre_auths().with_order(wanted)?;
    let earlier_pre_auths = all_of(|page| gateway.pre_auths().list_all(None, &filter, page))?;
    for earlier in earlier_pre_auths.items {
        if pre_auths.iter().all(|known| known.pre_auth.pre_auth_no != earlier.pre_auth.pre_auth_no) {
            pre_auths.push(earlier);
        }
    }
    Ok(Found {
        payments,
        pre_auths,
        merchants: merchants_named(gateway, wanted)?,
        is_partial: !(payments_are_all && pre_auths_are_all),
        payments_after: earlier.next_cursor,
        pre_auths_after: earlier_pre_auths.next_cursor,
    })
}

/// The first two pages of a list with an order number: those that hold it, then earlier ones.
fn all_of<T>(list: impl Fn(&PageRequest) -> Result<Listed<T>, GatewayError>) -> Result<Listed<T>, GatewayError> {
    let mut page = PageRequest { limit: Some(LIMIT_MAX), cursor: None };
    let first = list(&page)?;
    page.cursor = first.next_cursor;
    if page.cursor.is_none() {
        return Ok(Listed { items: first.items, next_cursor: None });
    }
    let mut found = list(&page)?;
    found.items.extend(first.items);
    Ok(found)
}

fn merchants_named(gateway: &Gateway, wanted: &str) -> Result<Vec<MerchantView>, ApiError> {
    let wanted = wanted.to_lowercase();
    let mut found = Vec::new();
    let mut page = PageRequest { limit: Some(LIMIT_MAX), cursor: None };
    for _ in 0..MERCHANT_PAGES_MAX {
        let merchants = gateway.merchants().list(&page)?;
        found.extend(merchants.items.into_iter().filter(|merchant| merchant.name.to_lowercase().contains(&wanted)));
        if merchants.next_cursor.is_none() || found.len() >= MERCHANTS_MAX {
            break;
        }
        page.cursor = merchants.next_cursor;
    }
    found.truncate(MERCHANTS_MAX);
    Ok(found)
}

fn merchants_table(merchants: &[MerchantView]) -> Table {
    let row = |merchant: &MerchantView| {
        vec![
            Cell::link("/console/limits", &merchant.merchant_id),
            Cell::text(&merchant.name),
            Cell::text(&merchant.tier),
            Cell::status(&merchant.status),
            Cell::Link {
                href: format!("{}?merchant_id={}", payments::PATH, path_part(&merchant.merchant_id)),
                text: String::from("its payments"),
            },
        ]
    };
    let columns = ["Merchant", "Name", "Tier", "Status", "More"];
    Table::new("Merchants", &columns, "None.").with_rows(merchants.iter().map(row))
}
