//! Trades in the Alipay emulator: paying by bar code, QR codes, questions, cancellations, refunds.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::domain::money::{Currency, Money};
use crate::domain::time::Timestamp;
use crate::random::Random;
use crate::sandbox::OBJECTS_MAX;
use crate::sandbox::alipay::amount::{money_of, shown};
use crate::sandbox::alipay::codes::{business, invalid, missing, system_error, waiting};
use crate::sandbox::alipay::payer::{DECLINED, Payer, payer_of};
use crate::sandbox::faults::Draw;
use crate::sandbox::late::Late;
use crate::sandbox::ledger::{LedgerEntry, LedgerOperation};
use crate::sandbox::page::Visit;

/// How long a QR code can be scanned unless the request says so, in minutes.
const QR_CODE_MINUTES: u64 = 120;

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
    /// Trades that are paid by themselves, by when.
    due: BTreeSet<(Timestamp, String)>,
    /// Requests whose clients are gone and that take effect later.
    late: Late<LateCall>,
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
    /// When the code can't be scanned any more.
    expires_at: Timestamp,
}

/// A request that takes effect later.
struct LateCall {
    method: String,
    content: Content,
    base_url: String,
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
    /// It never gets one, and is done later.
    Late,
}

/// Whether a method changes anything.
pub(super) fn has_effect(method: &str) -> bool {
    matches!(method, "alipay.trade.pay" | "alipay.trade.precreate" | "alipay.trade.cancel" | "alipay.trade.refund")
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
    qr_code_timeout_express: Option<String>,
}

impl Trades {
    pub(super) fn new(random: Random, settle_after: Duration) -> Self {
        Self {
            random,
            settle_after,
            trades: HashMap::new(),
            by_trade_no: HashMap::new(),
            offers: HashMap::new(),
            pages: HashMap::new(),
            due: BTreeSet::new(),
            late: Late::new(),
            ledger: Vec::new(),
        }
    }

    /// Lets everything happen that should have happened by now, in its order.
    pub(super) fn catch_up(&mut self, now: Timestamp) {
        while let Some((at, late)) = self.late.pop_due(now) {
            self.settle_due(at);
            // Nobody waits for the answer.
            let _ = self.call(&late.method, &late.content, Draw::default(), &late.base_url, at);
        }
        self.settle_due(now);
    }

    /// Keeps a request that takes effect at `at`.
    pub(super) fn keep_late(&mut self, at: Timestamp, method: &str, content: Content, base_url: String) {
        self.late.keep(at, LateCall { method: method.to_owned(), content, base_url });
    }

    /// Pays trades whose time has come.
    fn settle_due(&mut self, now: Timestamp) {
        while self.due.first().is_some_and(|(at, _)| *at <= now) {
            let Some((at, number)) = self.due.pop_first() else { return };
            self.mark_paid(&number, at);
        }
    }

    pub(super) fn call(&mut self, method: &str, content: &Content, draw: Draw, base_url: &str, now: Timestamp) -> Step {
        let step = match method {
            "alipay.trade.pay" => self.pay(content, draw, now),
            "alipay.trade.precreate" => self.precreate(content, base_url, now),
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

    /// Makes a QR code. That is no trade yet: canceling does not take it back, only its time does.
    fn precreate(&mut self, content: &Content, base_url: &str, now: Timestamp) -> Result<Step, Value> {
        let (number, total) = self.new_trade_of(content)?;
        let expires_at = now.plus(lifetime_of(content)?);
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
        let page = match self.offers.get_mut(&number) {
            Some(offer) if offer.total != total => {
                return Err(business("ACQ.CONTEXT_INCONSISTENT", "The trade's information was changed"));
            }
            Some(offer) => {
                offer.expires_at = expires_at;
                offer.page.clone()
            }
            None => {
                let page = format!("qr{:016x}", self.random.draw_u64());
                let reference = content.body.clone().unwrap_or_default();
                self.pages.insert(page.clone(), number.clone());
                self.offers.insert(number.clone(), Offer { reference, total, page: page.clone(), expires_at });
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

    /// Closes what is not paid and gives back what is. A number without a trade stays as it is: a request with it that
    /// comes later is carried out, and a QR code that was made for it can be scanned.
    fn cancel(&mut self, content: &Content, now: Timestamp) -> Value {
        let Some(number) = self.number_in(content).map(str::to_owned) else {
            return missing("out_trade_no");
        };
        let mut answer = json!({ "code": "10000", "msg": "Success", "out_trade_no": number, "retry_flag": "N" });
        let Some(trade) = self.trades.get_mut(&number) else { return answer };
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
        if self.offers.get(&number).is_some_and(|offer| offer.expires_at <= now) {
            self.offers.remove(&number);
        }
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

/// How long a QR code can be scanned; Alipay takes whole minutes, such as `90m`.
fn lifetime_of(content: &Content) -> Result<Duration, Value> {
    let minutes = match content.qr_code_timeout_express.as_deref() {
        None => Some(QR_CODE_MINUTES),
        Some(text) => text.strip_suffix('m').and_then(|minutes| minutes.parse().ok()),
    };
    let minutes = minutes.filter(|minutes| (1..=24 * 60).contains(minutes));
    let wrong = || business("ACQ.INVALID_PARAMETER", "qr_code_timeout_express is not valid");
    Ok(Duration::from_secs(minutes.ok_or_else(wrong)? * 60))
}
