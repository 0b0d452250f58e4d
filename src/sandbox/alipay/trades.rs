//! Trades in the Alipay emulator: paying by bar code, QR codes, questions, cancellations, refunds.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::domain::money::{Currency, Money};
use crate::domain::time::Timestamp;
use crate::random::Random;
use crate::sandbox::OBJECTS_MAX;
use crate::sandbox::alipay::codes::{business, invalid, missing, system_error, waiting};
use crate::sandbox::faults::Draw;
use crate::sandbox::ledger::{LedgerEntry, LedgerOperation};
use crate::sandbox::page::Visit;

/// Everything that Alipay would know.
pub(super) struct Trades {
    random: Random,
    settle_after: Duration,
    /// By the merchant's number.
    trades: HashMap<String, Trade>,
    /// The merchant's number by Alipay's.
    by_trade_no: HashMap<String, String>,
    /// QR codes that nobody has scanned: not trades yet.
    offers: HashMap<String, Offer>,
    /// The merchant's numbers by the page of their code.
    pages: HashMap<String, String>,
    /// Numbers that were canceled before there was a trade.
    closed_numbers: HashSet<String>,
    /// Trades that are paid by themselves, by when.
    due: BTreeSet<(Timestamp, String)>,
    pub(super) ledger: Vec<LedgerEntry>,
}

struct Trade {
    trade_no: String,
    out_trade_no: String,
    reference: String,
    total: Money,
    status: Status,
    /// By the merchant's number of the refund.
    refunds: HashMap<String, i64>,
    refunded_minor: i64,
    paid_at: Option<Timestamp>,
}

struct Offer {
    reference: String,
    total: Money,
    page: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    Waiting,
    Paid,
    Closed,
}

impl Status {
    fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "WAIT_BUYER_PAY",
            Self::Paid => "TRADE_SUCCESS",
            Self::Closed => "TRADE_CLOSED",
        }
    }
}

/// What comes of a call.
pub(super) enum Step {
    /// It has this answer.
    Done(Value),
    /// It was done, and its answer gets lost.
    Lost,
    /// It never gets one, and nothing was done.
    Held,
}

/// Every field that one of the methods takes.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Content {
    out_trade_no: Option<String>,
    trade_no: Option<String>,
    total_amount: Option<String>,
    subject: Option<String>,
    body: Option<String>,
    auth_code: Option<String>,
    trans_currency: Option<String>,
    out_request_no: Option<String>,
    refund_amount: Option<String>,
}

/// What a bar code does.
enum Payer {
    Pays,
    LosesAnswer,
    Declines(&'static str, &'static str),
    Confirms,
    Hangs,
    Breaks,
}

fn payer_of(auth_code: &str) -> Option<Payer> {
    Some(match auth_code {
        "tok_visa" => Payer::Pays,
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

const DECLINED: Payer = Payer::Declines("ACQ.PAYMENT_FAIL", "The payment failed");

impl Trades {
    pub(super) fn new(random: Random, settle_after: Duration) -> Self {
        Self {
            random,
            settle_after,
            trades: HashMap::new(),
            by_trade_no: HashMap::new(),
            offers: HashMap::new(),
            pages: HashMap::new(),
            closed_numbers: HashSet::new(),
            due: BTreeSet::new(),
            ledger: Vec::new(),
        }
    }

    /// Pays trades whose time has come.
    pub(super) fn settle_due(&mut self, now: Timestamp) {
        while self.due.first().is_some_and(|(at, _)| *at <= now) {
            let Some((at, number)) = self.due.pop_first() else { return };
            self.mark_paid(&number, at);
        }
    }

    pub(super) fn call(&mut self, method: &str, content: &Content, draw: Draw, base_url: &str, now: Timestamp) -> Step {
        let step = match method {
            "alipay.trade.pay" => self.pay(content, draw, now),
            "alipay.trade.precreate" => self.precreate(content, base_url),
            "alipay.trade.query" => Ok(Step::Done(self.query(content))),
            "alipay.trade.cancel" => Ok(Step::Done(self.cancel(content, now))),
            "alipay.trade.refund" => self.refund(content, now).map(Step::Done),
            "alipay.trade.fastpay.refund.query" => self.query_refund(content).map(Step::Done),
            _ => Ok(Step::Done(invalid("isv.invalid-method", "The method does not exist"))),
        };
        step.unwrap_or_else(Step::Done)
    }

    fn pay(&mut self, content: &Content, draw: Draw, now: Timestamp) -> Result<Step, Value> {
        let (number, total) = self.new_trade_of(content)?;
        let auth_code = content.auth_code.as_deref().ok_or_else(|| missing("auth_code"))?;
        let payer = match payer_of(auth_code) {
            Some(Payer::Pays | Payer::LosesAnswer) if draw.decline => DECLINED,
            Some(payer) => payer,
            None => return Err(business("ACQ.PAYMENT_AUTH_CODE_INVALID", "The payment code is invalid")),
        };
        let known = match self.trades.get(&number) {
            Some(trade) if trade.total != total => {
                return Err(business("ACQ.CONTEXT_INCONSISTENT", "The trade's information was changed"));
            }
            Some(trade) if trade.status == Status::Paid => {
                return Err(business("ACQ.TRADE_HAS_SUCCESS", "The trade has been paid"));
            }
            Some(trade) if trade.status == Status::Closed => {
                return Err(business("ACQ.TRADE_HAS_CLOSE", "The trade has been closed"));
            }
            known => known.is_some(),
        };
        match payer {
            Payer::Hangs => return Ok(Step::Held),
            Payer::Breaks => return Err(system_error()),
            _ if !known => self.open(&number, content, total)?,
            _ => {}
        }
        match payer {
            Payer::Declines(sub_code, message) => Err(business(sub_code, message)),
            Payer::Confirms => {
                self.due.insert((now.plus(self.settle_after), number.clone()));
                Ok(Step::Done(waiting(&number)))
            }
            Payer::LosesAnswer => {
                self.mark_paid(&number, now);
                Ok(Step::Lost)
            }
            _ => {
                self.mark_paid(&number, now);
                Ok(Step::Done(self.paid(&number)))
            }
        }
    }

    /// The number and amount of a trade to be made, if there can be one.
    fn new_trade_of(&self, content: &Content) -> Result<(String, Money), Value> {
        let number = content.out_trade_no.as_deref().filter(|number| !number.is_empty());
        let number = number.ok_or_else(|| missing("out_trade_no"))?;
        if number.len() > 64 || !number.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            return Err(business("ACQ.INVALID_PARAMETER", "out_trade_no is not valid"));
        }
        let subject = content.subject.as_deref().filter(|subject| !subject.is_empty());
        if subject.ok_or_else(|| missing("subject"))?.contains(['/', '=', '&']) {
            return Err(business("ACQ.INVALID_PARAMETER", "subject is not valid"));
        }
        let currency = match content.trans_currency.as_deref() {
            None => Currency::CNY,
            Some(code) => code.parse().map_err(|_| business("ACQ.INVALID_PARAMETER", "trans_currency is not valid"))?,
        };
        let text = content.total_amount.as_deref().ok_or_else(|| missing("total_amount"))?;
        let total =
            money_of(text, currency).ok_or_else(|| business("ACQ.INVALID_PARAMETER", "total_amount is not valid"))?;
        if self.closed_numbers.contains(number) {
            return Err(business("ACQ.TRADE_HAS_CLOSE", "The trade has been closed"));
        }
        Ok((number.to_owned(), total))
    }

    fn open(&mut self, number: &str, content: &Content, total: Money) -> Result<(), Value> {
        let reference = content.body.clone().unwrap_or_default();
        self.open_trade(number, reference, total)
    }

    fn open_trade(&mut self, number: &str, reference: String, total: Money) -> Result<(), Value> {
        if self.trades.len() >= OBJECTS_MAX {
            return Err(system_error());
        }
        let trade_no = format!("2026{:020}", self.random.draw_u64());
        self.by_trade_no.insert(trade_no.clone(), number.to_owned());
        let trade = Trade {
            trade_no,
            out_trade_no: number.to_owned(),
            reference,
            total,
            status: Status::Waiting,
            refunds: HashMap::new(),
            refunded_minor: 0,
            paid_at: None,
        };
        self.trades.insert(number.to_owned(), trade);
        Ok(())
    }

    fn mark_paid(&mut self, number: &str, now: Timestamp) {
        let Some(trade) = self.trades.get_mut(number).filter(|trade| trade.status == Status::Waiting) else { return };
        trade.status = Status::Paid;
        trade.paid_at = Some(now);
        self.ledger.push(LedgerEntry::new(
            LedgerOperation::Charge,
            &trade.trade_no,
            &trade.reference,
            trade.total,
            now,
        ));
    }

    /// The answer that says that a trade is paid.
    fn paid(&self, number: &str) -> Value {
        match self.trades.get(number) {
            Some(trade) => json!({
                "code": "10000",
                "msg": "Success",
                "trade_no": trade.trade_no,
                "out_trade_no": trade.out_trade_no,
                "buyer_logon_id": "san***@sandbox.com",
                "total_amount": shown(trade.total),
                "receipt_amount": shown(trade.total),
                "gmt_payment": trade.paid_at.and_then(super::beijing_time),
                "fund_bill_list": [{ "fund_channel": "ALIPAYACCOUNT", "amount": shown(trade.total) }],
            }),
            None => system_error(),
        }
    }

    fn precreate(&mut self, content: &Content, base_url: &str) -> Result<Step, Value> {
        let (number, total) = self.new_trade_of(content)?;
        match self.trades.get(&number) {
            Some(trade) if trade.status == Status::Paid => {
                return Err(business("ACQ.TRADE_HAS_SUCCESS", "The trade has been paid"));
            }
            Some(_) => return Err(business("ACQ.TRADE_HAS_CLOSE", "The trade has been closed")),
            None => {}
        }
        if self.offers.len() >= OBJECTS_MAX {
            return Err(system_error());
        }
        let page = match self.offers.get(&number) {
            Some(offer) if offer.total != total => {
                return Err(business("ACQ.CONTEXT_INCONSISTENT", "The trade's information was changed"));
            }
            Some(offer) => offer.page.clone(),
            None => {
                let page = format!("qr{:016x}", self.random.draw_u64());
                let reference = content.body.clone().unwrap_or_default();
                self.pages.insert(page.clone(), number.clone());
                self.offers.insert(number.clone(), Offer { reference, total, page: page.clone() });
                page
            }
        };
        Ok(Step::Done(json!({
            "code": "10000",
            "msg": "Success",
            "out_trade_no": number,
            "qr_code": format!("{base_url}{}", crate::sandbox::page::path_of(&page)),
        })))
    }

    /// The merchant's number that a call names, by itself or by Alipay's number.
    fn number_in<'a>(&'a self, content: &'a Content) -> Option<&'a str> {
        match content.trade_no.as_deref() {
            Some(trade_no) => self.by_trade_no.get(trade_no).map(String::as_str),
            None => content.out_trade_no.as_deref(),
        }
    }

    fn query(&self, content: &Content) -> Value {
        let Some(trade) = self.number_in(content).and_then(|number| self.trades.get(number)) else {
            return business("ACQ.TRADE_NOT_EXIST", "The trade does not exist");
        };
        json!({
            "code": "10000",
            "msg": "Success",
            "trade_no": trade.trade_no,
            "out_trade_no": trade.out_trade_no,
            "trade_status": trade.status.as_str(),
            "total_amount": shown(trade.total),
            "trans_currency": trade.total.currency.code(),
            "send_pay_date": trade.paid_at.and_then(super::beijing_time),
        })
    }

    /// Closes what is not paid, gives back what is, and keeps a number that it does not know from ever being used.
    fn cancel(&mut self, content: &Content, now: Timestamp) -> Value {
        let Some(number) = self.number_in(content).map(str::to_owned) else {
            return missing("out_trade_no");
        };
        let mut answer = json!({ "code": "10000", "msg": "Success", "out_trade_no": number, "retry_flag": "N" });
        self.offers.remove(&number);
        let Some(trade) = self.trades.get_mut(&number) else {
            if self.closed_numbers.len() >= OBJECTS_MAX {
                return system_error();
            }
            self.closed_numbers.insert(number);
            return answer;
        };
        answer["trade_no"] = json!(trade.trade_no);
        let left = trade.total.amount_minor - trade.refunded_minor;
        answer["action"] = json!(if trade.status == Status::Paid { "refund" } else { "close" });
        if trade.status == Status::Paid && left > 0 {
            trade.refunded_minor += left;
            let money = Money::new(left, trade.total.currency);
            let entry = LedgerEntry::new(LedgerOperation::Refund, &trade.trade_no, &trade.reference, money, now);
            self.ledger.push(entry);
        }
        trade.status = Status::Closed;
        answer
    }

    fn refund(&mut self, content: &Content, now: Timestamp) -> Result<Value, Value> {
        let number = self.number_in(content).map(str::to_owned);
        let trade = number.and_then(|number| self.trades.get_mut(&number));
        let trade = trade.ok_or_else(|| business("ACQ.TRADE_NOT_EXIST", "The trade does not exist"))?;
        let text = content.refund_amount.as_deref().ok_or_else(|| missing("refund_amount"))?;
        let amount = money_of(text, trade.total.currency)
            .ok_or_else(|| business("ACQ.INVALID_PARAMETER", "refund_amount is not valid"))?;
        let request = content.out_request_no.clone().unwrap_or_else(|| trade.out_trade_no.clone());
        let mut answer = json!({
            "code": "10000",
            "msg": "Success",
            "trade_no": trade.trade_no,
            "out_trade_no": trade.out_trade_no,
            "buyer_logon_id": "san***@sandbox.com",
        });
        let changed = match trade.refunds.get(&request) {
            Some(earlier) if *earlier == amount.amount_minor => false,
            Some(_) => {
                return Err(business("ACQ.DISCORDANT_REPEAT_REQUEST", "The repeated request has another amount"));
            }
            None if trade.paid_at.is_none() => {
                return Err(business("ACQ.TRADE_STATUS_ERROR", "The trade's status does not allow it"));
            }
            None if amount.amount_minor > trade.total.amount_minor - trade.refunded_minor => {
                return Err(business("ACQ.REFUND_AMT_NOT_EQUAL_TOTAL", "The refund is more than what is left"));
            }
            None => {
                trade.refunds.insert(request.clone(), amount.amount_minor);
                trade.refunded_minor += amount.amount_minor;
                if trade.refunded_minor == trade.total.amount_minor {
                    trade.status = Status::Closed;
                }
                let entry = LedgerEntry::new(LedgerOperation::Refund, &request, &trade.reference, amount, now);
                self.ledger.push(entry);
                true
            }
        };
        answer["fund_change"] = json!(if changed { "Y" } else { "N" });
        answer["refund_fee"] = json!(shown(Money::new(trade.refunded_minor, trade.total.currency)));
        Ok(answer)
    }

    fn query_refund(&self, content: &Content) -> Result<Value, Value> {
        let trade = self.number_in(content).and_then(|number| self.trades.get(number));
        let trade = trade.ok_or_else(|| business("ACQ.TRADE_NOT_EXIST", "The trade does not exist"))?;
        let request = content.out_request_no.as_deref().ok_or_else(|| missing("out_request_no"))?;
        let mut answer = json!({ "code": "10000", "msg": "Success" });
        if let Some(amount_minor) = trade.refunds.get(request) {
            answer["trade_no"] = json!(trade.trade_no);
            answer["out_trade_no"] = json!(trade.out_trade_no);
            answer["out_request_no"] = json!(request);
            answer["total_amount"] = json!(shown(trade.total));
            answer["refund_amount"] = json!(shown(Money::new(*amount_minor, trade.total.currency)));
            answer["refund_status"] = json!("REFUND_SUCCESS");
        }
        Ok(answer)
    }

    /// A payer's visit to the page of a QR code. Acting is what makes the trade.
    pub(super) fn visit(&mut self, page: &str, visit: Visit, now: Timestamp) -> (Option<&'static str>, bool) {
        let Some(number) = self.pages.get(page).cloned() else { return (None, false) };
        if visit != Visit::Look
            && let Some(offer) = self.offers.remove(&number)
            && self.open_trade(&number, offer.reference, offer.total).is_ok()
        {
            match visit {
                Visit::Approve => self.mark_paid(&number, now),
                Visit::Look | Visit::Decline => {
                    if let Some(trade) = self.trades.get_mut(&number) {
                        trade.status = Status::Closed;
                    }
                }
            }
        }
        match self.trades.get(&number) {
            Some(trade) => (Some(trade.status.as_str()), false),
            None if self.offers.contains_key(&number) => (Some("not scanned"), true),
            None => (Some(Status::Closed.as_str()), false),
        }
    }
}

/// Two decimals, whatever the currency.
fn shown(money: Money) -> String {
    let hundredths = i128::from(money.amount_minor) * 100 / i128::from(money.currency.minor_per_unit());
    format!("{}.{:02}", hundredths / 100, hundredths % 100)
}

/// Plain decimal text with at most two decimals, from 0.01 on, that is a whole number of minor units.
fn money_of(text: &str, currency: Currency) -> Option<Money> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || whole.len() > 9 || fraction.len() > 2 || !all_digits(whole) || !all_digits(fraction) {
        return None;
    }
    let hundredths: i64 = format!("{whole}{fraction:0<2}").parse().ok()?;
    let scaled = hundredths.checked_mul(currency.minor_per_unit())?;
    (hundredths > 0 && scaled % 100 == 0).then(|| Money::new(scaled / 100, currency))
}
