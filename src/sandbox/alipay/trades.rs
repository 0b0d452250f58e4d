//! Trades in the Alipay emulator: paying by bar code and out of held money, QR codes, questions, cancellations, refunds.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use serde_json::{Value, json};

use crate::domain::money::Money;
use crate::domain::time::Timestamp;
use crate::random::Random;
use crate::sandbox::OBJECTS_MAX;
use crate::sandbox::alipay::amount::shown;
use crate::sandbox::alipay::codes::{business, invalid, missing, system_error, waiting};
use crate::sandbox::alipay::content::{Content, check_title, given, minutes, money, money_in, number};
use crate::sandbox::alipay::freezes::{self, Freezes};
use crate::sandbox::alipay::notify::Journal;
use crate::sandbox::alipay::payer::{DECLINED, Payer, payer_of};
use crate::sandbox::credentials::ALIPAY_SELLER_ID;
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
    pub(super) freezes: Freezes,
    pub(super) journal: Journal,
}

/// What a trade is made from.
struct Order {
    reference: String,
    total: Money,
    /// Sent back with notifications.
    passback: String,
    notify_url: Option<String>,
}

struct Trade {
    trade_no: String,
    out_trade_no: String,
    order: Order,
    status: Status,
    /// By the merchant's number of the refund.
    refunds: HashMap<String, i64>,
    refunded_minor: i64,
    paid_at: Option<Timestamp>,
}

struct Offer {
    order: Order,
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
        || freezes::has_effect(method)
}

impl Trades {
    pub(super) fn new(random: Random, settle_after: Duration) -> Self {
        Self {
            freezes: Freezes::new(random.clone(), settle_after),
            random,
            settle_after,
            trades: HashMap::new(),
            by_trade_no: HashMap::new(),
            offers: HashMap::new(),
            pages: HashMap::new(),
            due: BTreeSet::new(),
            late: Late::new(),
            journal: Journal::default(),
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

    /// Pays trades whose time has come, and lets freezes go on.
    fn settle_due(&mut self, now: Timestamp) {
        self.freezes.settle_due(now, &mut self.journal);
        while self.due.first().is_some_and(|(at, _)| *at <= now) {
            let Some((at, number)) = self.due.pop_first() else { return };
            self.mark_paid(&number, at);
        }
    }

    pub(super) fn call(&mut self, method: &str, content: &Content, draw: Draw, base_url: &str, now: Timestamp) -> Step {
        if let Some(step) = self.freezes.call(method, content, draw, base_url, now, &mut self.journal) {
            return step.unwrap_or_else(Step::Done);
        }
        let step = match method {
            "alipay.trade.pay" if content.auth_no.is_some() => self.capture(content, now).map(Step::Done),
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
        let (number, order) = new_trade_of(content)?;
        let auth_code = content.auth_code.as_deref().ok_or_else(|| missing("auth_code"))?;
        let payer = match payer_of(auth_code) {
            Some(Payer::Pays | Payer::LosesAnswer) if draw.decline => DECLINED,
            Some(payer) => payer,
            None => return Err(business("ACQ.PAYMENT_AUTH_CODE_INVALID", "The payment code is invalid")),
        };
        let is_known = self.check_number(&number, order.total)?;
        match payer {
            Payer::Hangs => return Ok(Step::Held),
            Payer::Breaks => return Err(system_error()),
            _ if !is_known => self.open(&number, order)?,
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

    /// Takes money that is held, with a trade of its own.
    fn capture(&mut self, content: &Content, now: Timestamp) -> Result<Value, Value> {
        let (number, order) = new_trade_of(content)?;
        let auth_no = given(&content.auth_no, "auth_no")?;
        let product_code = given(&content.product_code, "product_code")?;
        let completes = match content.auth_confirm_mode.as_deref() {
            Some("COMPLETE") => true,
            None | Some("NOT_COMPLETE") => false,
            Some(_) => return Err(business("ACQ.INVALID_PARAMETER", "auth_confirm_mode is not valid")),
        };
        if self.check_number(&number, order.total)? {
            return Err(business("ACQ.CONTEXT_INCONSISTENT", "The trade's information was changed"));
        }
        let holding = self.freezes.holding(auth_no)?;
        if holding.product_code != product_code {
            return Err(business(
                "ACQ.PRE_AUTH_PROD_CODE_INCONSISTENT",
                "The product is not that of the authorization",
            ));
        }
        if holding.rest.currency != order.total.currency {
            return Err(business("ACQ.INVALID_PARAMETER", "trans_currency is not that of the authorization"));
        }
        let total = order.total;
        self.open(&number, order)?;
        if total.amount_minor > holding.rest.amount_minor {
            // The number is used up all the same.
            if let Some(trade) = self.trades.get_mut(&number) {
                trade.status = Status::Closed;
            }
            return Err(business("ACQ.AUTH_AMOUNT_NOT_ENOUGH", "The amount is more than what is held"));
        }
        self.freezes.take(&holding, total, completes, now);
        self.pay_by(&number, LedgerOperation::Capture, now);
        Ok(self.paid(&number))
    }

    /// Whether there is a trade with this number that can still be paid; a number that was used is refused.
    fn check_number(&self, number: &str, total: Money) -> Result<bool, Value> {
        match self.trades.get(number) {
            Some(trade) if trade.order.total != total => {
                Err(business("ACQ.CONTEXT_INCONSISTENT", "The trade's information was changed"))
            }
            Some(trade) if trade.status == Status::Paid => {
                Err(business("ACQ.TRADE_HAS_SUCCESS", "The trade has been paid"))
            }
            Some(trade) if trade.status == Status::Closed => {
                Err(business("ACQ.TRADE_HAS_CLOSE", "The trade has been closed"))
            }
            known => Ok(known.is_some()),
        }
    }

    fn open(&mut self, number: &str, order: Order) -> Result<(), Value> {
        if self.trades.len() >= OBJECTS_MAX {
            return Err(system_error());
        }
        let trade_no = format!("2026{:020}", self.random.draw_u64());
        self.by_trade_no.insert(trade_no.clone(), number.to_owned());
        let trade = Trade {
            trade_no,
            out_trade_no: number.to_owned(),
            order,
            status: Status::Waiting,
            refunds: HashMap::new(),
            refunded_minor: 0,
            paid_at: None,
        };
        self.trades.insert(number.to_owned(), trade);
        Ok(())
    }

    fn mark_paid(&mut self, number: &str, now: Timestamp) {
        self.pay_by(number, LedgerOperation::Charge, now);
    }

    fn pay_by(&mut self, number: &str, operation: LedgerOperation, now: Timestamp) {
        let Some(trade) = self.trades.get_mut(number).filter(|trade| trade.status == Status::Waiting) else { return };
        trade.status = Status::Paid;
        trade.paid_at = Some(now);
        let order = &trade.order;
        let entry = LedgerEntry::new(operation, &trade.trade_no, &order.reference, order.total, now);
        self.journal.ledger.push(entry);
        self.journal.tell("trade_status_sync", order.notify_url.as_ref(), trade.told());
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
                "total_amount": shown(trade.order.total),
                "receipt_amount": shown(trade.order.total),
                "gmt_payment": trade.paid_at.and_then(super::beijing_time),
                "fund_bill_list": [{ "fund_channel": "ALIPAYACCOUNT", "amount": shown(trade.order.total) }],
            }),
            None => system_error(),
        }
    }

    /// Makes a QR code. That is no trade yet: canceling does not take it back, only its time does.
    fn precreate(&mut self, content: &Content, base_url: &str, now: Timestamp) -> Result<Step, Value> {
        let (number, order) = new_trade_of(content)?;
        let lifetime = minutes(&content.qr_code_timeout_express, "qr_code_timeout_express", QR_CODE_MINUTES)?;
        let expires_at = now.plus(lifetime);
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
            Some(offer) if offer.order.total != order.total => {
                return Err(business("ACQ.CONTEXT_INCONSISTENT", "The trade's information was changed"));
            }
            Some(offer) => {
                offer.expires_at = expires_at;
                offer.page.clone()
            }
            None => {
                let page = format!("qr{:016x}", self.random.draw_u64());
                self.pages.insert(page.clone(), number.clone());
                self.offers.insert(number.clone(), Offer { order, page: page.clone(), expires_at });
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
            "total_amount": shown(trade.order.total),
            "trans_currency": trade.order.total.currency.code(),
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
        let left = trade.order.total.amount_minor - trade.refunded_minor;
        answer["action"] = json!(if trade.status == Status::Paid { "refund" } else { "close" });
        if trade.status == Status::Paid && left > 0 {
            trade.refunded_minor += left;
            let money = Money::new(left, trade.order.total.currency);
            let entry = LedgerEntry::new(LedgerOperation::Refund, &trade.trade_no, &trade.order.reference, money, now);
            self.journal.ledger.push(entry);
        }
        trade.status = Status::Closed;
        answer
    }

    fn refund(&mut self, content: &Content, now: Timestamp) -> Result<Value, Value> {
        let number = self.number_in(content).map(str::to_owned);
        let trade = number.and_then(|number| self.trades.get_mut(&number));
        let trade = trade.ok_or_else(|| business("ACQ.TRADE_NOT_EXIST", "The trade does not exist"))?;
        let amount = money_in(&content.refund_amount, "refund_amount", trade.order.total.currency)?;
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
            None if amount.amount_minor > trade.order.total.amount_minor - trade.refunded_minor => {
                return Err(business("ACQ.REFUND_AMT_NOT_EQUAL_TOTAL", "The refund is more than what is left"));
            }
            None => {
                trade.refunds.insert(request.clone(), amount.amount_minor);
                trade.refunded_minor += amount.amount_minor;
                if trade.refunded_minor == trade.order.total.amount_minor {
                    trade.status = Status::Closed;
                }
                let entry = LedgerEntry::new(LedgerOperation::Refund, &request, &trade.order.reference, amount, now);
                self.journal.ledger.push(entry);
                true
            }
        };
        answer["fund_change"] = json!(if changed { "Y" } else { "N" });
        answer["refund_fee"] = json!(shown(Money::new(trade.refunded_minor, trade.order.total.currency)));
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
            answer["total_amount"] = json!(shown(trade.order.total));
            answer["refund_amount"] = json!(shown(Money::new(*amount_minor, trade.order.total.currency)));
            answer["refund_status"] = json!("REFUND_SUCCESS");
        }
        Ok(answer)
    }

    /// A payer's visit to the page of a QR code. Acting is what makes the trade.
    pub(super) fn visit(&mut self, page: &str, visit: Visit, now: Timestamp) -> (Option<&'static str>, bool) {
        let Some(number) = self.pages.get(page).cloned() else {
            return self.freezes.visit(page, visit, now, &mut self.journal);
        };
        if self.offers.get(&number).is_some_and(|offer| offer.expires_at <= now) {
            self.offers.remove(&number);
        }
        if visit != Visit::Look
            && let Some(offer) = self.offers.remove(&number)
            && self.open(&number, offer.order).is_ok()
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

impl Trade {
    /// What a notification says about it.
    fn told(&self) -> Vec<(&'static str, String)> {
        let total = shown(self.order.total);
        let paid_at = self.paid_at.and_then(super::beijing_time).unwrap_or_default();
        vec![
            ("trade_no", self.trade_no.clone()),
            ("out_trade_no", self.out_trade_no.clone()),
            ("trade_status", self.status.as_str().to_owned()),
            ("total_amount", total.clone()),
            ("receipt_amount", total.clone()),
            ("buyer_pay_amount", total),
            ("trans_currency", self.order.total.currency.code().to_owned()),
            ("body", self.order.reference.clone()),
            ("passback_params", self.order.passback.clone()),
            ("buyer_logon_id", String::from("san***@sandbox.com")),
            ("seller_id", ALIPAY_SELLER_ID.to_owned()),
            ("gmt_create", paid_at.clone()),
            ("gmt_payment", paid_at),
        ]
    }
}

/// The number of a trade to be made, and what it is made from, if there can be one.
fn new_trade_of(content: &Content) -> Result<(String, Order), Value> {
    let number = number(&content.out_trade_no, "out_trade_no")?.to_owned();
    check_title(&content.subject, "subject")?;
    let order = Order {
        total: money(&content.total_amount, "total_amount", content)?,
        reference: content.body.clone().unwrap_or_default(),
        passback: content.passback_params.clone().unwrap_or_default(),
        notify_url: content.notify_url.clone(),
    };
    Ok((number, order))
}
