//! What the demo sends, and when: drawn from a seed, before anything is sent.

use crate::domain::money::{Currency, Money};
use crate::random::Random;

/// A demo merchant, one a tier.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shop {
    pub(super) name: &'static str,
    pub(super) tier: &'static str,
    pub(super) country: &'static str,
    /// Payments out of a thousand that are this shop's.
    share_permille: u32,
    /// Payments a second that its tier carries for long (the limit by minute is the tightest).
    sustained_per_s: f64,
    /// Payments that arrive at once; 1 for an even flow. The smallest shop has a rush above its tier's burst now and
    /// then, so that its limit can be seen at work.
    pub(super) rush: u32,
    /// Requests in flight; below the tier's limit, so that only the rate can be hit.
    pub(super) in_flight_max: usize,
    /// Whether it has deposits held, and in what currency.
    deposits: Option<&'static str>,
}

/// From the smallest to the largest.
pub(super) const SHOPS: [Shop; 4] = [
    Shop {
        name: "Corner Shop",
        tier: "starter",
        country: "DE",
        share_permille: 80,
        sustained_per_s: 8.0,
        rush: 24,
        in_flight_max: 8,
        deposits: None,
    },
    Shop {
        name: "City Hotel",
        tier: "business",
        country: "HK",
        share_permille: 220,
        sustained_per_s: 40.0,
        rush: 1,
        in_flight_max: 24,
        deposits: Some("HKD"),
    },
    Shop {
        name: "Car Rental",
        tier: "enterprise",
        country: "US",
        share_permille: 300,
        sustained_per_s: 160.0,
        rush: 1,
        in_flight_max: 32,
        deposits: Some("USD"),
    },
    Shop {
        name: "Market Place",
        tier: "premium",
        country: "US",
        share_permille: 400,
        sustained_per_s: 400.0,
        rush: 1,
        in_flight_max: 48,
        deposits: None,
    },
];

/// Payers: country, currency, what a dollar is there, and how many of a hundred come from there.
const PAYERS: [(&str, &str, f64, u64); 9] = [
    ("US", "USD", 1.0, 26),
    ("CN", "CNY", 7.2, 22),
    ("DE", "EUR", 0.95, 12),
    ("HK", "HKD", 7.8, 10),
    ("GB", "GBP", 0.8, 9),
    ("JP", "JPY", 156.0, 7),
    ("CA", "CAD", 1.43, 6),
    ("SG", "SGD", 1.35, 5),
    ("AU", "AUD", 1.58, 3),
];

/// Tokens for the emulators, and how many of a thousand payments carry each.
const TOKENS: [(&str, u64); 6] = [
    ("tok_visa", 925),
    ("tok_declined", 30),
    ("tok_insufficient_funds", 20),
    ("tok_stolen_card", 5),
    ("tok_processing", 10),
    ("tok_lost_response", 10),
];

/// One payment to send.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct PlannedPayment {
    /// Milliseconds after the start.
    pub(super) due_ms: u64,
    pub(super) order_no: String,
    pub(super) money: Money,
    pub(super) country: &'static str,
    pub(super) method: Option<&'static str>,
    pub(super) token: &'static str,
}

/// One deposit to have held.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct PlannedDeposit {
    /// Milliseconds after the start.
    pub(super) due_ms: u64,
    pub(super) order_no: String,
    pub(super) money: Money,
    /// Where it is held; where the router says if there is none.
    pub(super) channel: Option<&'static str>,
    pub(super) end: DepositEnd,
}

/// What becomes of a deposit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DepositEnd {
    /// So much is taken, and the rest goes back with it.
    Captured { amount_minor: i64 },
    /// All of it goes back.
    Canceled,
}

/// One deposit for so many payments of a shop ...
const PAYMENTS_A_DEPOSIT: u32 = 10;
/// ... and at most so many.
const DEPOSITS_MAX: u32 = 50;
/// Where deposits are held, in turn. Coins can't be held.
const DEPOSIT_CHANNELS: [Option<&str>; 4] = [Some("stripe"), Some("paypal"), Some("alipay"), None];

/// The deposits of a shop that sends `payments` payments over `seconds`; none where it takes no deposits.
pub(super) fn plan_deposits(shop: &Shop, payments: u32, seconds: f64, random: &Random) -> Vec<PlannedDeposit> {
    let Some(code) = shop.deposits else { return Vec::new() };
    let currency = code.parse().unwrap_or(Currency::USD);
    let count = payments.div_ceil(PAYMENTS_A_DEPOSIT).min(DEPOSITS_MAX);
    let interval_ms = seconds * 1000.0 / f64::from(count.max(1));
    (0..count)
        .map(|index| {
            // From 100 to 399 of the currency; what was used of the minibar or the tank is less.
            let amount_minor = (100 + (random.draw_u64() % 300) as i64) * currency.minor_per_unit();
            let end = match index % 5 {
                0 => DepositEnd::Canceled,
                1 => DepositEnd::Captured { amount_minor },
                _ => DepositEnd::Captured { amount_minor: amount_minor / 4 },
            };
            PlannedDeposit {
                due_ms: (f64::from(index) * interval_ms) as u64,
                order_no: format!("DEPOSIT-{}-{}", shop.tier, index + 1),
                money: Money::new(amount_minor, currency),
                channel: DEPOSIT_CHANNELS[index as usize % DEPOSIT_CHANNELS.len()],
                end,
            }
        })
        .collect()
}

/// How long `payments` take at a pace that the tiers carry, in seconds.
pub(super) fn default_seconds(payments: u32) -> f64 {
    (f64::from(payments) / 100.0).max(1.0)
}

/// How many of `payments` are each shop's. What a tier can't carry in `seconds` goes to the next larger shop.
pub(super) fn split(payments: u32, seconds: f64) -> [u32; SHOPS.len()] {
    let mut counts = [0; SHOPS.len()];
    let mut rest = payments;
    let last = SHOPS.len() - 1;
    let mut overflow = 0;
    for (index, shop) in SHOPS.iter().enumerate() {
        if index == last {
            counts[index] = rest;
            break;
        }
        let share = payments * shop.share_permille / 1000 + overflow;
        // A float that is too large becomes the largest whole number, which is what is meant.
        let carried = (shop.sustained_per_s * seconds) as u32;
        counts[index] = share.min(carried).min(rest);
        overflow = share - counts[index];
        rest -= counts[index];
    }
    counts
}

/// `count` payments of one shop over `seconds`.
pub(super) fn plan(shop: &Shop, count: u32, seconds: f64, random: &Random) -> Vec<PlannedPayment> {
    let interval_ms = seconds * 1000.0 / f64::from(count.max(1));
    (0..count)
        .map(|index| {
            let rush_begins = index - index % shop.rush;
            payment(shop, index, (f64::from(rush_begins) * interval_ms) as u64, random)
        })
        .collect()
}

fn payment(shop: &Shop, index: u32, due_ms: u64, random: &Random) -> PlannedPayment {
    let (country, code, per_dollar, _) = pick(&PAYERS, |payer| payer.3, random);
    let currency = code.parse().unwrap_or(Currency::USD);
    let (token, _) = pick(&TOKENS, |token| token.1, random);
    PlannedPayment {
        due_ms,
        order_no: format!("DEMO-{}-{}", shop.tier, index + 1),
        money: Money::new(amount_minor(currency, *per_dollar, random), currency),
        country,
        method: method(country, random),
        token,
    }
}

/// Between 3 and 900 dollars' worth, small amounts as frequent as large ones by order of magnitude.
fn amount_minor(currency: Currency, per_dollar: f64, random: &Random) -> i64 {
    let position = random.draw_u64() as f64 / u64::MAX as f64;
    let dollars = 3.0 * 300.0_f64.powf(position);
    let units = dollars * per_dollar;
    ((units * currency.minor_per_unit() as f64).round() as i64).max(1)
}

/// Wallets are common in China and Hong Kong, cards elsewhere; some payers leave it to the gateway.
fn method(country: &str, random: &Random) -> Option<&'static str> {
    let wallets_of_100 = if matches!(country, "CN" | "HK") { 55 } else { 8 };
    match random.draw_u64() % 100 {
        draw if draw < wallets_of_100 => Some("alipay"),
        draw if draw < 75 => Some("card"),
        _ => None,
    }
}

/// One of `items`, in proportion to their weights.
fn pick<'a, T>(items: &'a [T], weight: impl Fn(&T) -> u64, random: &Random) -> &'a T {
    let total: u64 = items.iter().map(&weight).sum();
    let mut draw = random.draw_u64() % total.max(1);
    for item in items {
        if draw < weight(item) {
            return item;
        }
        draw -= weight(item);
    }
    &items[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_payments_are_given_to_somebody() {
        for payments in [0, 1, 7, 500, 100_000] {
            for seconds in [0.1, 5.0, 60.0] {
                assert_eq!(split(payments, seconds).iter().sum::<u32>(), payments);
            }
        }
        assert_eq!(split(500, default_seconds(500)), [40, 110, 150, 200]);
        assert_eq!(split(10_000, 10.0), [80, 400, 1_600, 7_920], "small tiers take what they carry");
    }

    #[test]
    fn the_same_seed_gives_the_same_plan_in_the_order_of_time() {
        for shop in &SHOPS {
            let one = plan(shop, 200, 10.0, &Random::seeded(7));
            assert_eq!(one, plan(shop, 200, 10.0, &Random::seeded(7)));
            assert_ne!(one, plan(shop, 200, 10.0, &Random::seeded(8)));
            assert!(one.is_sorted_by_key(|payment| payment.due_ms));
            assert!(one.iter().all(|payment| payment.due_ms < 10_000 && payment.money.amount_minor > 0));
        }
    }

    #[test]
    fn the_hotel_and_the_car_rental_have_deposits_held_at_every_channel_that_holds_money() {
        let of = |shop: &Shop, payments| plan_deposits(shop, payments, 5.0, &Random::seeded(1));
        assert!(of(&SHOPS[0], 500).is_empty() && of(&SHOPS[3], 500).is_empty());
        for shop in &SHOPS[1..3] {
            let deposits = of(shop, 110);
            assert_eq!((deposits.len(), of(shop, 100_000).len(), of(shop, 0).len()), (11, 50, 0));
            assert!(deposits.is_sorted_by_key(|deposit| deposit.due_ms) && deposits[10].due_ms < 5_000);
            for channel in [Some("stripe"), Some("paypal"), Some("alipay"), None] {
                assert!(deposits.iter().any(|deposit| deposit.channel == channel), "{channel:?}");
            }
            let canceled = deposits.iter().filter(|deposit| deposit.end == DepositEnd::Canceled).count();
            assert_eq!(canceled, 3);
            for deposit in &deposits {
                if let DepositEnd::Captured { amount_minor } = deposit.end {
                    assert!((1..=deposit.money.amount_minor).contains(&amount_minor), "{deposit:?}");
                }
            }
        }
    }

    #[test]
    fn traffic_is_mixed() {
        let payments = plan(&SHOPS[3], 2_000, 10.0, &Random::seeded(1));
        let of = |wanted: &dyn Fn(&PlannedPayment) -> bool| payments.iter().filter(|payment| wanted(payment)).count();
        for code in ["USD", "EUR", "CNY", "HKD", "JPY"] {
            assert!(of(&|payment| payment.money.currency.code() == code) > 50, "{code}");
        }
        for method in [Some("card"), Some("alipay"), None] {
            assert!(of(&|payment| payment.method == method) > 100, "{method:?}");
        }
        let declined = of(&|payment| payment.token == "tok_declined");
        assert!((20..150).contains(&declined), "{declined}");
    }

    #[test]
    fn the_smallest_shop_has_rushes_and_the_others_an_even_flow() {
        let rush = plan(&SHOPS[0], 40, 5.0, &Random::seeded(1));
        assert_eq!(rush.iter().filter(|payment| payment.due_ms == 0).count(), 24);
        let even = plan(&SHOPS[1], 40, 5.0, &Random::seeded(1));
        assert!(even.windows(2).all(|pair| pair[0].due_ms < pair[1].due_ms));
    }
}
