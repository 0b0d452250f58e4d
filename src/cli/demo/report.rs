//! What happened in a demo, for people and for scripts. Every figure was measured in that run.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::books::Books;
use super::deposits::SentDeposit;
use super::receiver::Tally;
use super::traffic::{Requests, SentPayment};
use crate::cli::table::{Column, table};
use crate::config::Config;
use crate::domain::fees::{FeeCircumstances, FxRate, PricedBy, fee_of};
use crate::domain::money::{Currency, Money};
use crate::domain::time::Timestamp;

/// The channel that the saving is measured against.
const COMPARED_WITH: &str = "stripe";

/// Channels that take payments when routing works ...
const CHANNELS_MIN: usize = 2;
/// ... and so many are sent that it can't be chance that one got them all.
const CHANNELS_MIN_FROM_PAYMENTS: u64 = 50;

/// The whole report.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Report {
    payments: Payments,
    channels: BTreeMap<String, ChannelFigures>,
    /// In minor units of the settlement currency, as all fees here.
    saved_minor: i64,
    settlement_currency: String,
    limits: BTreeMap<String, LimitFigures>,
    pre_auths: PreAuths,
    books: Books,
    webhooks: Webhooks,
    seconds: f64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
struct Payments {
    sent: u64,
    success: u64,
    failed: u64,
    processing: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
struct ChannelFigures {
    payments: u64,
    approved: u64,
    fees_minor: i64,
    stripe_only_fees_minor: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
struct LimitFigures {
    admitted: u64,
    refused: u64,
    per_second: u32,
    burst: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
struct PreAuths {
    created: u64,
    captured: u64,
    canceled: u64,
    /// Not one of these yet, or not held at all.
    other: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
struct Webhooks {
    events: u64,
    delivered: u64,
    attempts: u64,
    retried: u64,
    pending: u64,
    invalid_signatures: u64,
    latency_p50_ms: f64,
    latency_p99_ms: f64,
}

/// What was sent and what arrived.
pub(super) struct Played {
    pub(super) payments: Vec<SentPayment>,
    pub(super) deposits: Vec<SentDeposit>,
    /// By tier.
    pub(super) requests: BTreeMap<String, Requests>,
    pub(super) books: Books,
    pub(super) webhooks: Tally,
    pub(super) elapsed: Duration,
}

impl Report {
    /// Counts what was sent and what arrived.
    pub(super) fn of(config: &Config, played: &Played) -> Self {
        let Played { payments, deposits, requests, books, webhooks, elapsed } = played;
        let channels = channels_of(config, payments);
        let saved_minor = channels.values().map(|figures| figures.stripe_only_fees_minor - figures.fees_minor).sum();
        let limits = requests.iter().filter_map(|(tier, requests)| {
            let limit = config.tiers.get(tier)?;
            let Requests { admitted, refused } = *requests;
            Some((tier.clone(), LimitFigures { admitted, refused, per_second: limit.per_second, burst: limit.burst }))
        });
        Self {
            payments: count(payments),
            channels,
            saved_minor,
            settlement_currency: config.fx.settlement_currency.to_string(),
            limits: limits.collect(),
            pre_auths: count_deposits(deposits),
            books: *books,
            webhooks: webhooks_of(payments, events_of(payments, deposits), webhooks),
            seconds: (elapsed.as_secs_f64() * 1000.0).round() / 1000.0,
        }
    }

    /// What did not go as a demo should, one sentence each; nothing when all went well.
    pub(super) fn shortcomings(&self) -> Vec<String> {
        let mut found = Vec::new();
        let Webhooks { events, pending, invalid_signatures, .. } = self.webhooks;
        if pending > 0 {
            found.push(format!("{pending} of {events} webhooks did not arrive"));
        }
        if invalid_signatures > 0 {
            found.push(format!("the signatures of {invalid_signatures} webhooks did not hold"));
        }
        let PreAuths { created, other, .. } = self.pre_auths;
        if other > 0 {
            found.push(format!("{other} of {created} deposits were neither captured nor canceled"));
        }
        let Books { compared, differing } = self.books;
        if differing > 0 {
            found.push(format!("{differing} differences in the providers' books of {compared} payments and deposits"));
        }
        let used = self.channels.len();
        if used < CHANNELS_MIN && self.payments.sent >= CHANNELS_MIN_FROM_PAYMENTS {
            let names: Vec<&str> = self.channels.keys().map(String::as_str).collect();
            let which = if names.is_empty() { String::from("none") } else { names.join(", ") };
            found.push(format!("fewer than {CHANNELS_MIN} channels took payments ({which})"));
        }
        found
    }

    /// Tables for people.
    pub(super) fn text(&self, settlement: Currency) -> String {
        let Payments { sent, success, failed, processing } = self.payments;
        let open = if processing == 0 { String::new() } else { format!(", {processing} not decided yet") };
        let invalid = self.webhooks.invalid_signatures;
        let signatures = if invalid == 0 {
            String::from("every signature held")
        } else {
            format!("{invalid} SIGNATURES DID NOT HOLD")
        };
        let (webhooks, books) = (&self.webhooks, &self.books);
        let PreAuths { created, captured, canceled, other } = self.pre_auths;
        let others = if other == 0 { String::new() } else { format!(", {other} NEITHER") };
        format!(
            "{sent} payments in {:.1} s: {success} approved, {failed} declined{open}\n\n{}\n\n{}\n\n\
             Deposits: {created} held, {captured} captured, {canceled} canceled{others}\n\
             Providers' books: {} payments and deposits compared, {} differences\n\
             Webhooks: {} events, {} delivered with {} attempts ({} retried), {} pending; {signatures}\n\
             From a payment's answer to its accepted webhook: p50 {:.1} ms, p99 {:.1} ms\n",
            self.seconds,
            self.channels_table(settlement),
            self.limits_table(),
            books.compared,
            books.differing,
            webhooks.events,
            webhooks.delivered,
            webhooks.attempts,
            webhooks.retried,
            webhooks.pending,
            webhooks.latency_p50_ms,
            webhooks.latency_p99_ms,
        )
    }

    fn channels_table(&self, settlement: Currency) -> String {
        let columns = [
            Column::Left("channel"),
            Column::Right("payments"),
            Column::Right("approved"),
            Column::Right("approval"),
            Column::Right("fees"),
            Column::Right("stripe only"),
            Column::Right("saved"),
        ];
        let mut total = ChannelFigures::default();
        let mut rows = Vec::with_capacity(self.channels.len() + 1);
        for (name, figures) in &self.channels {
            rows.push(channel_row(name, figures, settlement));
            total.payments += figures.payments;
            total.approved += figures.approved;
            total.fees_minor += figures.fees_minor;
            total.stripe_only_fees_minor += figures.stripe_only_fees_minor;
        }
        rows.push(channel_row("all", &total, settlement));
        format!("{}\n(fees in {settlement}, of approved payments)", table(&columns, &rows))
    }

    fn limits_table(&self) -> String {
        let columns = [
            Column::Left("tier"),
            Column::Right("per second"),
            Column::Right("burst"),
            Column::Right("requests admitted"),
            Column::Right("refused, then sent again"),
        ];
        let mut tiers: Vec<_> = self.limits.iter().collect();
        tiers.sort_by_key(|(_, figures)| figures.per_second);
        let rows: Vec<Vec<String>> = tiers
            .into_iter()
            .map(|(tier, figures)| {
                let counts =
                    [u64::from(figures.per_second), u64::from(figures.burst), figures.admitted, figures.refused];
                std::iter::once(tier.clone()).chain(counts.map(|count| count.to_string())).collect()
            })
            .collect();
        table(&columns, &rows)
    }
}

fn channel_row(name: &str, figures: &ChannelFigures, settlement: Currency) -> Vec<String> {
    let money = |minor: i64| Money::new(minor, settlement).decimal();
    let approval = match figures.payments {
        0 => String::from("-"),
        payments => format!("{:.1} %", figures.approved as f64 * 100.0 / payments as f64),
    };
    vec![
        String::from(name),
        figures.payments.to_string(),
        figures.approved.to_string(),
        approval,
        money(figures.fees_minor),
        money(figures.stripe_only_fees_minor),
        money(figures.stripe_only_fees_minor - figures.fees_minor),
    ]
}

fn count(payments: &[SentPayment]) -> Payments {
    let mut counts = Payments { sent: payments.len() as u64, ..Payments::default() };
    for payment in payments {
        match payment.status.as_str() {
            "success" => counts.success += 1,
            "failed" | "canceled" => counts.failed += 1,
            _ => counts.processing += 1,
        }
    }
    counts
}

fn count_deposits(deposits: &[SentDeposit]) -> PreAuths {
    let mut counts = PreAuths { created: deposits.len() as u64, ..PreAuths::default() };
    for deposit in deposits {
        match deposit.status.as_str() {
            "captured" => counts.captured += 1,
            "canceled" => counts.canceled += 1,
            _ => counts.other += 1,
        }
    }
    counts
}

fn channels_of(config: &Config, payments: &[SentPayment]) -> BTreeMap<String, ChannelFigures> {
    let mut channels: BTreeMap<String, ChannelFigures> = BTreeMap::new();
    for payment in payments {
        let Some(channel) = &payment.channel else { continue };
        let figures = channels.entry(channel.clone()).or_default();
        figures.payments += 1;
        if payment.status == "success" {
            figures.approved += 1;
            figures.fees_minor += settled(config, Money::new(payment.fee_minor, payment.money.currency));
            figures.stripe_only_fees_minor += settled(config, fee_on_stripe(config, payment));
        }
    }
    channels
}

/// What Stripe would have taken for a payment, whatever its method.
fn fee_on_stripe(config: &Config, payment: &SentPayment) -> Money {
    let none = Money::new(0, payment.money.currency);
    let Some(stripe) = config.channels.get(COMPARED_WITH) else { return none };
    let charges = stripe.fees.charges(&PricedBy {
        method: Some("card"),
        currency: payment.money.currency,
        at: Timestamp::from_unix_ms(i64::MAX),
        this_month_minor: 0,
    });
    let circumstances = FeeCircumstances {
        international: !stripe.local_countries.iter().any(|country| country == payment.country),
        conversion: payment.money.currency != config.fx.settlement_currency,
        fixed_rate: rate_of(config, charges.fixed_currency),
        payment_rate: rate_of(config, payment.money.currency),
    };
    fee_of(&charges, payment.money, circumstances)
}

fn rate_of(config: &Config, currency: Currency) -> FxRate {
    config.fx.rates.get(&currency).copied().unwrap_or(FxRate::ONE)
}

/// An amount in minor units of the settlement currency, rounded half up.
fn settled(config: &Config, money: Money) -> i64 {
    let settlement = config.fx.settlement_currency;
    let numerator = i128::from(money.amount_minor)
        * i128::from(rate_of(config, money.currency).billionths())
        * i128::from(settlement.minor_per_unit());
    let denominator = i128::from(FxRate::ONE.billionths()) * i128::from(money.currency.minor_per_unit());
    i64::try_from((2 * numerator + denominator).div_euclid(2 * denominator)).unwrap_or(i64::MAX)
}

/// Events that some webhook tells of: the ends of payments, and what became of deposits.
pub(super) fn events_of(payments: &[SentPayment], deposits: &[SentDeposit]) -> u64 {
    let ended = |payment: &&SentPayment| matches!(payment.status.as_str(), "success" | "failed" | "canceled");
    payments.iter().filter(ended).count() as u64 + deposits.iter().map(SentDeposit::events).sum::<u64>()
}

fn webhooks_of(payments: &[SentPayment], events: u64, tally: &Tally) -> Webhooks {
    let delivered = tally.delivered.len() as u64;
    let mut latencies_ms: Vec<f64> = payments
        .iter()
        .filter_map(|payment| {
            let taken_at = tally.taken_at.get(&payment.payment_no)?;
            // A webhook may overtake the answer to the request that caused it; that is no time at all.
            Some(taken_at.since(payment.answered_at?).as_secs_f64() * 1000.0)
        })
        .collect();
    latencies_ms.sort_by(f64::total_cmp);
    Webhooks {
        events,
        delivered,
        attempts: tally.attempts,
        retried: tally.retried,
        pending: events.saturating_sub(delivered),
        invalid_signatures: tally.invalid,
        latency_p50_ms: percentile(&latencies_ms, 50),
        latency_p99_ms: percentile(&latencies_ms, 99),
    }
}

/// The value that `percent` of the sorted values do not exceed; 0 when there is none. To a hundredth.
fn percentile(sorted: &[f64], percent: usize) -> f64 {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    let value = sorted.get(rank - 1).copied().unwrap_or(0.0);
    (value * 100.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::time::Monotonic;

    fn payment(number: u64, status: &str, channel: &str, money: Money, fee_minor: i64) -> SentPayment {
        SentPayment {
            payment_no: format!("PY{number}"),
            status: String::from(status),
            channel: Some(String::from(channel)),
            money,
            country: "US",
            fee_minor,
            answered_at: Some(Monotonic::from_micros(1_000)),
        }
    }

    fn report() -> Report {
        let dollars = Money::new(10_000, Currency::USD);
        let payments = vec![
            payment(1, "success", "stripe", dollars, 320),
            payment(2, "success", "alipay", dollars, 60),
            payment(3, "failed", "alipay", dollars, 60),
            payment(4, "processing", "stripe", dollars, 320),
        ];
        let deposit = |status: &str, captured_minor| SentDeposit {
            pre_auth_no: format!("PA{status}"),
            status: String::from(status),
            authorized_minor: 900,
            captured_minor,
        };
        let deposits = vec![deposit("captured", 300), deposit("canceled", 0), deposit("captured", 900)];
        let requests = BTreeMap::from([(String::from("starter"), Requests { admitted: 5, refused: 2 })]);
        let mut webhooks = Tally { attempts: 10, retried: 1, ..Tally::default() };
        for (number, micros) in [(1, 3_000), (2, 500)] {
            webhooks.delivered.insert(format!("wn_{number}"));
            webhooks.taken_at.insert(format!("PY{number}"), Monotonic::from_micros(micros));
        }
        webhooks.delivered.extend((3..=8).map(|number| format!("wn_{number}")));
        let (books, elapsed) = (Books { compared: 6, differing: 0 }, Duration::from_millis(1_500));
        let played = Played { payments, deposits, requests, books, webhooks, elapsed };
        Report::of(&Config::embedded().unwrap(), &played)
    }

    #[test]
    fn the_json_has_the_documented_fields() {
        let json = serde_json::to_value(report()).unwrap();
        assert_eq!(json["payments"], serde_json::json!({ "sent": 4, "success": 2, "failed": 1, "processing": 1 }));
        assert_eq!(json["channels"]["alipay"]["payments"], 2);
        assert_eq!(json["channels"]["alipay"]["approved"], 1);
        assert_eq!(json["channels"]["alipay"]["fees_minor"], 60);
        assert_eq!(json["saved_minor"], 260);
        assert_eq!(json["limits"]["starter"]["admitted"], 5);
        assert_eq!(json["limits"]["starter"]["refused"], 2);
        assert_eq!(json["pre_auths"], serde_json::json!({ "created": 3, "captured": 2, "canceled": 1, "other": 0 }));
        assert_eq!(json["books"], serde_json::json!({ "compared": 6, "differing": 0 }));
        assert_eq!(json["webhooks"]["events"], 9);
        assert_eq!(json["webhooks"]["delivered"], 8);
        assert_eq!(json["webhooks"]["attempts"], 10);
        assert_eq!(json["webhooks"]["pending"], 1);
        assert_eq!(json["webhooks"]["latency_p50_ms"], 0.0);
        assert_eq!(json["webhooks"]["latency_p99_ms"], 2.0);
        assert_eq!(json["seconds"], 1.5);
    }

    #[test]
    fn the_tables_say_the_same() {
        let text = report().text(Currency::USD);
        assert!(text.starts_with("4 payments in 1.5 s: 2 approved, 1 declined, 1 not decided yet\n"), "{text}");
        let line = |beginning: &str| {
            let found = text.lines().find(|line| line.trim_start().starts_with(beginning));
            found.unwrap().split_whitespace().map(String::from).collect::<Vec<_>>()
        };
        assert_eq!(line("all"), ["all", "4", "2", "50.0", "%", "3.80", "6.40", "2.60"]);
        assert_eq!(line("starter"), ["starter", "10", "20", "5", "2"]);
        assert!(text.contains("Deposits: 3 held, 2 captured, 1 canceled\n"), "{text}");
        assert!(text.contains("books: 6 payments and deposits compared, 0 differences\n"), "{text}");
        assert!(text.contains("8 delivered with 10 attempts (1 retried), 1 pending; every signature held"), "{text}");
    }

    #[test]
    fn what_went_wrong_is_named() {
        assert_eq!(report().shortcomings(), ["1 of 9 webhooks did not arrive"]);
        let mut wrong = report();
        wrong.webhooks = Webhooks { pending: 0, invalid_signatures: 3, ..wrong.webhooks };
        assert_eq!(wrong.shortcomings(), ["the signatures of 3 webhooks did not hold"]);
        wrong.webhooks.invalid_signatures = 0;
        (wrong.pre_auths.other, wrong.books.differing) = (1, 2);
        let named = wrong.shortcomings();
        assert_eq!(named[0], "1 of 3 deposits were neither captured nor canceled");
        assert_eq!(named[1..], ["2 differences in the providers' books of 6 payments and deposits"]);
        (wrong.pre_auths.other, wrong.books.differing) = (0, 0);
        assert!(wrong.shortcomings().is_empty());
        wrong.channels.remove("alipay");
        assert!(wrong.shortcomings().is_empty(), "a few payments may well go one way");
        wrong.payments.sent = 50;
        assert_eq!(wrong.shortcomings(), ["fewer than 2 channels took payments (stripe)"]);
    }

    #[test]
    fn foreign_fees_are_converted() {
        let config = Config::embedded().unwrap();
        let yuan = Money::new(10_000, Currency::CNY);
        assert_eq!(settled(&config, yuan), 1_380);
        assert_eq!(settled(&config, Money::new(1_000, "JPY".parse().unwrap())), 640);
        let mut abroad = payment(1, "success", "alipay", yuan, 60);
        abroad.country = "CN";
        // 2.9 % + 1.5 % international + 1 % conversion of 100 yuan, and 0.30 USD at 0.138 USD a yuan.
        assert_eq!(fee_on_stripe(&config, &abroad).amount_minor, 540 + 217);
    }

    #[test]
    fn percentiles_are_values_that_occurred() {
        let values: Vec<f64> = (1..=200).map(f64::from).collect();
        assert_eq!((percentile(&values, 50), percentile(&values, 99)), (100.0, 198.0));
        assert_eq!((percentile(&[], 50), percentile(&[7.0], 99)), (0.0, 7.0));
    }
}
