//! Fees against the provider's examples, and against plain long arithmetic.

use proptest::prelude::{any, prop, prop_assert_eq, proptest};

use super::*;
use crate::domain::money::{AMOUNT_MINOR_MAX, Currency, Money};
use crate::domain::time::{Day, Timestamp};

const AT_HOME: FeeCircumstances =
    FeeCircumstances { international: false, conversion: false, fixed_rate: FxRate::ONE, payment_rate: FxRate::ONE };

fn percent(text: &str) -> Percent {
    text.parse().unwrap()
}

fn schedule(text: &str, fixed_minor: i64) -> FeeSchedule {
    FeeSchedule {
        percent: percent(text),
        fixed_minor,
        international_percent: percent("1.5"),
        conversion_percent: percent("1"),
        ..FeeSchedule::default()
    }
}

fn at(day: &str) -> Timestamp {
    day.parse::<Day>().unwrap().start()
}

fn by<'a>(method: Option<&'a str>, day: &str, this_month_minor: i64) -> PricedBy<'a> {
    PricedBy { method, currency: Currency::USD, at: at(day), this_month_minor }
}

fn charges(text: &str, fixed_minor: i64) -> Charges {
    schedule(text, fixed_minor).charges(&by(None, "2026-01-01", 0))
}

#[test]
fn the_documented_cost_case_comes_out_to_the_cent() {
    for (amount_minor, stripe, alipay) in
        [(1_000, 59, 6), (10_000, 320, 60), (100_000, 2_930, 600), (1_000_000, 29_030, 6_000)]
    {
        let money = Money::new(amount_minor, Currency::USD);
        assert_eq!(fee_of(&charges("2.9", 30), money, AT_HOME).amount_minor, stripe);
        assert_eq!(fee_of(&charges("0.6", 0), money, AT_HOME).amount_minor, alipay);
    }
}

#[test]
fn halves_round_up_and_fixed_parts_are_converted() {
    let money = Money::new(1_500, Currency::USD);
    assert_eq!(fee_of(&charges("2.9", 30), money, AT_HOME).amount_minor, 74);
    let yen = Money::new(10_000, "JPY".parse().unwrap());
    let abroad = FeeCircumstances {
        international: true,
        conversion: true,
        fixed_rate: FxRate::ONE,
        payment_rate: "0.01".parse().unwrap(),
    };
    // 5.4 % of 10,000 yen and 0.30 USD at 100 yen a dollar.
    assert_eq!(fee_of(&charges("2.9", 30), yen, abroad).amount_minor, 570);
}

#[test]
fn a_fee_stays_between_the_least_and_the_most() {
    let bounded = Charges { min_minor: Some(50), max_minor: Some(1_000), ..charges("2.9", 0) };
    let fee = |amount_minor| fee_of(&bounded, Money::new(amount_minor, Currency::USD), AT_HOME).amount_minor;
    assert_eq!((fee(100), fee(1_724), fee(1_742), fee(10_000), fee(1_000_000)), (50, 50, 51, 290, 1_000));
    let yen = Money::new(100, "JPY".parse().unwrap());
    let rates = FeeCircumstances { payment_rate: "0.01".parse().unwrap(), ..AT_HOME };
    assert_eq!(fee_of(&bounded, yen, rates).amount_minor, 50, "0.50 USD at 100 yen a dollar");
}

#[test]
fn the_month_s_volume_chooses_the_tier() {
    let tier = |from_minor, text: &str, fixed_minor| FeeTier { from_minor, percent: percent(text), fixed_minor };
    let tiers = vec![tier(100_000, "2.7", None), tier(1_000_000, "2.5", Some(10))];
    let schedule = FeeSchedule { tiers, ..schedule("2.9", 30) };
    for (volume, expected, fixed) in
        [(0, "2.9", 30), (99_999, "2.9", 30), (100_000, "2.7", 30), (999_999, "2.7", 30), (1_000_000, "2.5", 10)]
    {
        let found = schedule.charges(&by(None, "2026-01-01", volume));
        assert_eq!((found.percent, found.fixed_minor), (percent(expected), fixed), "{volume}");
    }
    let next = |volume| schedule.next_tier_minor(at("2026-01-01"), volume);
    assert_eq!([0, 99_999, 100_000].map(next), [Some(100_000), Some(100_000), Some(1_000_000)]);
    assert_eq!(next(1_000_000), None);
}

#[test]
fn a_change_replaces_everything_from_its_day_on() {
    let tiers = vec![FeeTier { from_minor: 0, percent: percent("2"), fixed_minor: None }];
    let change = |day: &str, text: &str| FeeSchedule { valid_from: Some(day.parse().unwrap()), ..schedule(text, 5) };
    let changes = vec![change("2026-01-01", "2.4"), change("2026-03-01", "2.2")];
    let schedule = FeeSchedule { tiers, changes, ..schedule("2.9", 30) };
    for (day, expected, fixed) in [
        ("2025-12-31", "2", 30),
        ("2026-01-01", "2.4", 5),
        ("2026-02-28", "2.4", 5),
        ("2026-03-01", "2.2", 5),
        ("2030-01-01", "2.2", 5),
    ] {
        let found = schedule.charges(&by(None, day, 7));
        assert_eq!((found.percent, found.fixed_minor), (percent(expected), fixed), "{day}");
    }
    let last_moment = Timestamp::from_unix_ms(at("2026-01-01").unix_ms() - 1);
    let found = schedule.charges(&PricedBy { at: last_moment, ..by(None, "2026-01-01", 7) });
    assert_eq!(found.percent, percent("2"), "a day begins at midnight UTC");
}

#[test]
fn a_method_s_own_goes_before_a_currency_s_and_both_before_tiers() {
    let own = |text: &str, fixed_minor| FeeOverride { percent: percent(text), fixed_minor };
    let schedule = FeeSchedule {
        tiers: vec![FeeTier { from_minor: 0, percent: percent("2"), fixed_minor: None }],
        by_method: [("wallet".to_owned(), own("1.1", 1))].into(),
        by_currency: [("EUR".parse().unwrap(), own("1.4", 25))].into(),
        ..schedule("2.9", 30)
    };
    let found = |method: Option<&str>, currency: &str| {
        let currency = currency.parse().unwrap();
        let charges = schedule.charges(&PricedBy { currency, ..by(method, "2026-01-01", 0) });
        assert_eq!(charges.international_percent, percent("1.5"), "surcharges stay");
        (charges.percent, charges.fixed_minor)
    };
    assert_eq!(found(Some("wallet"), "EUR"), (percent("1.1"), 1));
    assert_eq!(found(Some("card"), "EUR"), (percent("1.4"), 25));
    assert_eq!(found(None, "USD"), (percent("2"), 30));
}

#[test]
fn a_schedule_is_written_as_it_is_read() {
    let text = r#"
percent = "2.9"
fixed_minor = 30
max_minor = 900
tiers = [{ from_minor = 5, percent = "2.7" }]
by_method = { card = { percent = "1.2", fixed_minor = 3 } }
by_currency = { EUR = { percent = "1.4" } }
[[changes]]
valid_from = "2026-01-01"
percent = "2.5"
"#;
    let read: FeeSchedule = toml::from_str(text).unwrap();
    assert_eq!(read.changes[0].valid_from.map(|day| day.to_string()).as_deref(), Some("2026-01-01"));
    assert!(read.tiers.len() == 1 && read.tiers[0].fixed_minor.is_none());
    assert_eq!(toml::from_str::<FeeSchedule>(&toml::to_string(&read).unwrap()).unwrap(), read);
    let through_json: FeeSchedule = serde_json::from_value(serde_json::to_value(&read).unwrap()).unwrap();
    assert_eq!(through_json, read);
    let number = serde_json::from_str::<FeeSchedule>("{\"percent\":2.5}").unwrap_err().to_string();
    assert!(number.contains("expected a percentage in quotes"), "{number}");
    for wrong in ["valid_from = \"2026-02-30\"", "valid_from = \"soon\"", "min = 3"] {
        assert!(toml::from_str::<FeeSchedule>(&format!("percent = \"1\"\n{wrong}")).is_err(), "{wrong}");
    }
}

/// A natural number of any size, in decimal digits with the last one first; slow and plain.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Natural(Vec<u8>);

impl Natural {
    fn new(mut value: u128) -> Self {
        let mut digits = Vec::new();
        while value > 0 {
            digits.push(u8::try_from(value % 10).unwrap());
            value /= 10;
        }
        Self(digits)
    }

    fn trimmed(mut self) -> Self {
        while self.0.last() == Some(&0) {
            self.0.pop();
        }
        self
    }

    fn digit(&self, place: usize) -> u8 {
        self.0.get(place).copied().unwrap_or(0)
    }

    fn plus(&self, other: &Self) -> Self {
        let mut digits = Vec::new();
        let mut carry = 0;
        for place in 0..=self.0.len().max(other.0.len()) {
            let sum = self.digit(place) + other.digit(place) + carry;
            digits.push(sum % 10);
            carry = sum / 10;
        }
        Self(digits).trimmed()
    }

    fn times(&self, other: &Self) -> Self {
        let mut digits = vec![0_u32; self.0.len() + other.0.len() + 1];
        for (left, a) in self.0.iter().enumerate() {
            for (right, b) in other.0.iter().enumerate() {
                digits[left + right] += u32::from(*a) * u32::from(*b);
            }
        }
        let mut carry = 0;
        for digit in &mut digits {
            let sum = *digit + carry;
            (*digit, carry) = (sum % 10, sum / 10);
        }
        Self(digits.into_iter().map(|digit| u8::try_from(digit).unwrap()).collect()).trimmed()
    }

    fn is_at_most(&self, other: &Self) -> bool {
        let places = self.0.len().max(other.0.len());
        let compared = (0..places).rev().map(|place| self.digit(place).cmp(&other.digit(place)));
        compared.into_iter().find(|order| order.is_ne()).is_none_or(std::cmp::Ordering::is_lt)
    }

    fn of(factors: &[u128]) -> Self {
        factors.iter().fold(Self::new(1), |product, factor| product.times(&Self::new(*factor)))
    }
}

const CURRENCIES: [&str; 4] = ["JPY", "USD", "KWD", "CLF"];

proptest! {
    #[test]
    fn every_fee_is_the_exact_one_rounded_half_up(
        (amount, fixed) in (0..=AMOUNT_MINOR_MAX, prop::sample::select(vec![0, 30, AMOUNT_MINOR_MAX])),
        least in prop::option::of(0..=AMOUNT_MINOR_MAX),
        most in prop::option::of(0..=AMOUNT_MINOR_MAX),
        ppms in prop::array::uniform3(0..=1_000_000_u32),
        (own, other) in (0..4_usize, 0..4_usize),
        rates in prop::array::uniform2(prop::sample::select(vec!["0.000000001", "0.0064", "1", "3.3", "999999.999999999"])),
        (international, conversion) in (any::<bool>(), any::<bool>()),
    ) {
        let currency = |place: usize| CURRENCIES[place].parse::<Currency>().unwrap();
        // In one currency both rates are the same one.
        let rates: [FxRate; 2] = if own == other { [FxRate::ONE; 2] } else { rates.map(|rate| rate.parse().unwrap()) };
        let charges = Charges {
            percent: Percent::from_ppm(ppms[0]),
            international_percent: Percent::from_ppm(ppms[1]),
            conversion_percent: Percent::from_ppm(ppms[2]),
            fixed_minor: fixed,
            fixed_currency: currency(other),
            min_minor: least,
            max_minor: most,
        };
        let circumstances = FeeCircumstances { international, conversion, fixed_rate: rates[0], payment_rate: rates[1] };
        let fee = fee_of(&charges, Money::new(amount, currency(own)), circumstances).amount_minor;

        let wide = |value: i64| u128::try_from(value).unwrap();
        let ppm = u128::from(ppms[0])
            + if international { u128::from(ppms[1]) } else { 0 }
            + if conversion { u128::from(ppms[2]) } else { 0 };
        let scale = [u128::from(rates[1].billionths()), wide(currency(other).minor_per_unit())];
        let part = |minor: i64| {
            let per_minor = u128::from(rates[0].billionths());
            Natural::of(&[wide(minor), per_minor, wide(currency(own).minor_per_unit()), 1_000_000])
        };
        let mut exact = Natural::of(&[wide(amount), ppm, scale[0], scale[1]]).plus(&part(fixed));
        if let Some(least) = least.map(part).filter(|least| exact.is_at_most(least)) {
            exact = least;
        }
        if let Some(most) = most.map(part).filter(|most| most.is_at_most(&exact)) {
            exact = most;
        }
        // Rounded half up: 2 fee - 1 <= 2 exact < 2 fee + 1, over the denominator; far too large ones end at the largest.
        let denominator = Natural::of(&[1_000_000, scale[0], scale[1]]);
        let doubled = exact.times(&Natural::new(2));
        let bound = |halves: u128| denominator.times(&Natural::new(halves));
        if fee > 0 {
            prop_assert_eq!(bound(2 * wide(fee) - 1).is_at_most(&doubled), true, "too much: {}", fee);
        }
        if fee < i64::MAX {
            prop_assert_eq!(bound(2 * wide(fee) + 1).is_at_most(&doubled), false, "too little: {}", fee);
        }
    }

    #[test]
    fn nothing_overflows_whatever_the_figures(
        amount in any::<i64>(),
        fixed in any::<i64>(),
        bounds in prop::array::uniform2(prop::option::of(any::<i64>())),
        ppms in prop::array::uniform3(0..=1_000_000_u32),
        same in any::<bool>(),
    ) {
        let charges = Charges {
            percent: Percent::from_ppm(ppms[0]),
            international_percent: Percent::from_ppm(ppms[1]),
            conversion_percent: Percent::from_ppm(ppms[2]),
            fixed_minor: fixed,
            fixed_currency: if same { "CLF".parse().unwrap() } else { Currency::USD },
            min_minor: bounds[0],
            max_minor: bounds[1],
        };
        let widest: FxRate = "999999.999999999".parse().unwrap();
        let circumstances =
            FeeCircumstances { international: true, conversion: true, fixed_rate: widest, payment_rate: widest };
        let fee = fee_of(&charges, Money::new(amount, "CLF".parse().unwrap()), circumstances);
        prop_assert_eq!(fee.amount_minor >= 0, true);
    }
}
