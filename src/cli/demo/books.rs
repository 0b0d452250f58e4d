//! The demo's payments and deposits beside the books of the emulators that moved their money.

use std::collections::HashMap;

use serde::Serialize;

use super::deposits::SentDeposit;
use super::traffic::SentPayment;
use crate::sandbox::{LedgerEntry, LedgerOperation};

/// What came of the comparison.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Books {
    /// Payments and deposits that have ended.
    pub(super) compared: u64,
    /// Of them, those of which a provider's books say something else; and what only they know of.
    pub(super) differing: u64,
}

/// What was done for one payment or deposit, in minor units.
#[derive(Default)]
struct Done {
    charges: Vec<i64>,
    holds: Vec<i64>,
    captures: Vec<i64>,
    voids: Vec<i64>,
}

impl Books {
    /// Compares what has ended with what the ledgers of all emulators say.
    pub(super) fn compare(ledger: &[LedgerEntry], payments: &[SentPayment], deposits: &[SentDeposit]) -> Self {
        let mut done: HashMap<&str, Done> = HashMap::new();
        for entry in ledger {
            let of_one = done.entry(entry.reference.as_str()).or_default();
            let amounts = match entry.operation {
                LedgerOperation::Charge => &mut of_one.charges,
                LedgerOperation::Hold => &mut of_one.holds,
                LedgerOperation::Capture => &mut of_one.captures,
                LedgerOperation::Void => &mut of_one.voids,
                // The demo gives nothing back.
                LedgerOperation::Refund => continue,
            };
            amounts.push(entry.amount_minor);
        }
        let mut books = Self::default();
        for payment in payments {
            let there = done.remove(payment.payment_no.as_str()).unwrap_or_default();
            if let Some(agrees) = agrees_on_payment(payment, &there) {
                books.note(agrees);
            }
        }
        for deposit in deposits {
            let there = done.remove(deposit.pre_auth_no.as_str()).unwrap_or_default();
            if let Some(agrees) = agrees_on_deposit(deposit, &there) {
                books.note(agrees);
            }
        }
        books.differing += done.len() as u64;
        books
    }

    fn note(&mut self, agrees: bool) {
        self.compared += 1;
        self.differing += u64::from(!agrees);
    }
}

/// `None` as long as the payment has not ended.
fn agrees_on_payment(payment: &SentPayment, there: &Done) -> Option<bool> {
    match payment.status.as_str() {
        "success" => Some(there.charges == [payment.money.amount_minor]),
        "failed" | "canceled" => Some(there.charges.is_empty()),
        _ => None,
    }
}

/// `None` as long as the deposit has not ended.
fn agrees_on_deposit(deposit: &SentDeposit, there: &Done) -> Option<bool> {
    if !deposit.is_final() {
        return None;
    }
    Some(match deposit.status.as_str() {
        "captured" => there.holds == [deposit.authorized_minor] && there.captures == [deposit.captured_minor],
        _ => there.captures.is_empty() && there.holds == there.voids,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::money::{Currency, Money};

    fn line(operation: LedgerOperation, reference: &str, amount_minor: i64) -> LedgerEntry {
        let (provider_no, currency, at) = (String::from("pi_1"), String::from("USD"), String::new());
        LedgerEntry { operation, provider_no, reference: String::from(reference), amount_minor, currency, at }
    }

    fn payment(number: &str, status: &str) -> SentPayment {
        SentPayment {
            payment_no: String::from(number),
            status: String::from(status),
            channel: None,
            money: Money::new(500, Currency::USD),
            country: "US",
            fee_minor: 0,
            answered_at: None,
        }
    }

    fn deposit(number: &str, status: &str, captured_minor: i64) -> SentDeposit {
        SentDeposit {
            pre_auth_no: String::from(number),
            status: String::from(status),
            authorized_minor: 900,
            captured_minor,
        }
    }

    #[test]
    fn books_agree_when_both_say_the_same() {
        use LedgerOperation::{Capture, Charge, Hold, Void};
        let payments = [payment("PY1", "success"), payment("PY2", "failed"), payment("PY3", "processing")];
        let deposits = [deposit("PA1", "captured", 300), deposit("PA2", "canceled", 0)];
        let ledger = [
            line(Charge, "PY1", 500),
            // Not known yet to have ended.
            line(Charge, "PY3", 500),
            line(Hold, "PA1", 900),
            line(Hold, "PA2", 900),
            line(Capture, "PA1", 300),
            line(Void, "PA2", 900),
        ];
        assert_eq!(Books::compare(&ledger, &payments, &deposits), Books { compared: 4, differing: 0 });
    }

    #[test]
    fn every_difference_counts() {
        use LedgerOperation::{Capture, Charge, Hold};
        let payments = [payment("PY1", "success"), payment("PY2", "failed"), payment("PY3", "success")];
        let deposits =
            [deposit("PA1", "captured", 300), deposit("PA2", "canceled", 0), deposit("PA3", "captured", 300)];
        let ledger = [
            line(Charge, "PY1", 500),
            line(Charge, "PY1", 500),
            line(Charge, "PY2", 500),
            line(Hold, "PA1", 900),
            line(Capture, "PA1", 300),
            line(Capture, "PA1", 300),
            // Held on.
            line(Hold, "PA2", 900),
            line(Hold, "PA3", 900),
            line(Capture, "PA3", 301),
            // Nobody knows it.
            line(Charge, "PY9", 500),
        ];
        assert_eq!(Books::compare(&ledger, &payments, &deposits), Books { compared: 6, differing: 7 });
    }
}
