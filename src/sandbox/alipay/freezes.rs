//! Held money in the Alipay emulator: freezing by bar code, by QR code and in the payer's app, unfreezing, canceling and
//! asking. What takes held money is a trade.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use serde_json::{Value, json};

use crate::domain::money::Money;
use crate::domain::time::Timestamp;
use crate::random::Random;
use crate::sandbox::OBJECTS_MAX;
use crate::sandbox::alipay::amount::shown;
use crate::sandbox::alipay::codes::{business, system_error};
use crate::sandbox::alipay::content::{Content, check_title, given, minutes, money, money_in, number};
use crate::sandbox::alipay::notify::Journal;
use crate::sandbox::alipay::payer::{DECLINED, Payer, payer_of};
use crate::sandbox::alipay::trades::Step;
use crate::sandbox::faults::Draw;
use crate::sandbox::ledger::{LedgerEntry, LedgerOperation};
use crate::sandbox::page::{Visit, path_of};

/// How long money is held.
const HELD_FOR: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// How long a payer may take, unless the request says so, in minutes.
const PAY_MINUTES: u64 = 15;
/// The product of a freeze by bar code.
const BAR_CODE_PRODUCT: &str = "PRE_AUTH";
/// The products of a freeze that the payer's app makes.
const APP_PRODUCTS: [&str; 2] = ["PREAUTH_PAY", "PRE_AUTH_ONLINE"];

/// Every freeze that Alipay would know.
pub(super) struct Freezes {
    random: Random,
    settle_after: Duration,
    /// By the merchant's number of the order.
    orders: HashMap<String, Freeze>,
    /// The merchant's number by Alipay's.
    by_auth_no: HashMap<String, String>,
    /// Codes that nobody has followed: not freezes yet.
    offers: HashMap<String, Offer>,
    /// The merchant's numbers by the page of their code.
    pages: HashMap<String, String>,
    /// What happens by itself, by when.
    due: BTreeSet<(Timestamp, String, Due)>,
}

/// What a freeze is made from.
struct Order {
    out_order_no: String,
    out_request_no: String,
    product_code: String,
    reference: String,
    total: Money,
    notify_url: Option<String>,
}

struct Offer {
    order: Order,
    page: String,
    expires_at: Timestamp,
}

struct Freeze {
    order: Order,
    auth_no: String,
    operation_id: String,
    status: Status,
    /// When the payer confirmed it, if ever.
    frozen_at: Option<Timestamp>,
    rest_minor: i64,
    taken_minor: i64,
    /// By the merchant's number of the operation: how much, and Alipay's number of it.
    unfrozen: HashMap<String, (i64, String)>,
    changed_at: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    Waiting,
    Authorized,
    Finished,
    Closed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    /// The payer confirms.
    Confirm,
    /// The payer took too long.
    GiveUp,
    /// It was held for long enough.
    Expire,
}

impl Status {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "INIT",
            Self::Authorized => "AUTHORIZED",
            Self::Finished => "FINISH",
            Self::Closed => "CLOSED",
        }
    }
}

/// A hold that money is to be taken from.
pub(super) struct Holding {
    pub(super) product_code: String,
    /// How much is held.
    pub(super) rest: Money,
    out_order_no: String,
}

/// Whether a method is one of held money that changes anything.
pub(super) fn has_effect(method: &str) -> bool {
    matches!(
        method,
        "alipay.fund.auth.order.freeze"
            | "alipay.fund.auth.order.voucher.create"
            | "alipay.fund.auth.order.unfreeze"
            | "alipay.fund.auth.operation.cancel"
    )
}

impl Freezes {
    pub(super) fn new(random: Random, settle_after: Duration) -> Self {
        Self {
            random,
            settle_after,
            orders: HashMap::new(),
            by_auth_no: HashMap::new(),
            offers: HashMap::new(),
            pages: HashMap::new(),
            due: BTreeSet::new(),
        }
    }

    /// Lets everything happen that should have happened by now, in its order.
    pub(super) fn settle_due(&mut self, now: Timestamp, journal: &mut Journal) {
        while self.due.first().is_some_and(|(at, ..)| *at <= now) {
            let Some((at, number, due)) = self.due.pop_first() else { return };
            match due {
                Due::Confirm => self.mark_frozen(&number, at, journal),
                Due::GiveUp => self.give_up(&number, at),
                Due::Expire => self.let_go(&number, at, journal),
            }
        }
    }

    pub(super) fn call(
        &mut self,
        method: &str,
        content: &Content,
        draw: Draw,
        base_url: &str,
        now: Timestamp,
        journal: &mut Journal,
    ) -> Option<Result<Step, Value>> {
        Some(match method {
            "alipay.fund.auth.order.freeze" => self.freeze(content, draw, now, journal),
            "alipay.fund.auth.order.voucher.create" => self.create_voucher(content, base_url, now).map(Step::Done),
            "alipay.fund.auth.order.unfreeze" => self.unfreeze(content, now, journal).map(Step::Done),
            "alipay.fund.auth.operation.cancel" => self.cancel(content, now, journal).map(Step::Done),
            "alipay.fund.auth.operation.detail.query" => self.query(content).map(Step::Done),
            _ => return None,
        })
    }

    fn freeze(&mut self, content: &Content, draw: Draw, now: Timestamp, journal: &mut Journal) -> Result<Step, Value> {
        let order = order_of(content, &[BAR_CODE_PRODUCT])?;
        let timeout = minutes(&content.pay_timeout, "pay_timeout", PAY_MINUTES)?;
        if given(&content.auth_code_type, "auth_code_type")? != "bar_code" {
            return Err(business("ILLEGAL_ARGUMENT", "auth_code_type is not valid"));
        }
        let payer = match payer_of(given(&content.auth_code, "auth_code")?) {
            Some(Payer::Pays | Payer::LosesAnswer) if draw.decline => DECLINED,
            Some(payer) => payer,
            None => return Err(business("ACQ.PAYMENT_AUTH_CODE_INVALID", "The payment code is invalid")),
        };
        let number = order.out_order_no.clone();
        match self.orders.get(&number) {
            Some(known) if !known.order.is_same(&order) => {
                return Err(business("ACQ.CONTEXT_INCONSISTENT", "The order's information was changed"));
            }
            Some(known) if known.status == Status::Closed => {
                return Err(business("ORDER_ALREADY_CLOSED", "The order has been closed"));
            }
            // Its number makes a repetition the same request.
            Some(known) if known.frozen_at.is_some() => return Ok(Step::Done(known.answer())),
            _ => {}
        }
        match payer {
            Payer::Hangs => return Ok(Step::Held),
            Payer::Breaks => return Err(system_error()),
            _ => self.open(order, now.plus(timeout), now)?,
        }
        match payer {
            Payer::Declines(sub_code, message) => Err(business(sub_code, message)),
            Payer::Confirms => {
                self.due.insert((now.plus(self.settle_after), number.clone(), Due::Confirm));
                Ok(Step::Done(self.orders.get(&number).map_or_else(system_error, Freeze::waiting)))
            }
            payer => {
                self.mark_frozen(&number, now, journal);
                let answer = self.orders.get(&number).map_or_else(system_error, Freeze::answer);
                Ok(if matches!(payer, Payer::LosesAnswer) { Step::Lost } else { Step::Done(answer) })
            }
        }
    }

    /// Makes an order that waits for its payer, if there is none.
    fn open(&mut self, order: Order, give_up_at: Timestamp, now: Timestamp) -> Result<(), Value> {
        let number = order.out_order_no.clone();
        if self.orders.contains_key(&number) {
            return Ok(());
        }
        if self.orders.len() >= OBJECTS_MAX {
            return Err(system_error());
        }
        let auth_no = format!("2026{:020}", self.random.draw_u64());
        self.by_auth_no.insert(auth_no.clone(), number.clone());
        let freeze = Freeze {
            order,
            auth_no,
            operation_id: self.new_operation_id(),
            status: Status::Waiting,
            frozen_at: None,
            rest_minor: 0,
            taken_minor: 0,
            unfrozen: HashMap::new(),
            changed_at: now,
        };
        self.orders.insert(number.clone(), freeze);
        self.due.insert((give_up_at, number, Due::GiveUp));
        Ok(())
    }

    fn new_operation_id(&self) -> String {
        format!("2026{:020}", self.random.draw_u64())
    }

    fn mark_frozen(&mut self, number: &str, now: Timestamp, journal: &mut Journal) {
        let freeze = self.orders.get_mut(number).filter(|freeze| freeze.status == Status::Waiting);
        let Some(freeze) = freeze else { return };
        freeze.status = Status::Authorized;
        freeze.frozen_at = Some(now);
        freeze.rest_minor = freeze.order.total.amount_minor;
        freeze.changed_at = now;
        freeze.write(LedgerOperation::Hold, freeze.order.total, now, journal);
        let request = freeze.order.out_request_no.clone();
        let operation_id = freeze.operation_id.clone();
        freeze.tell("FREEZE", &request, &operation_id, freeze.order.total, journal);
        self.due.insert((now.plus(HELD_FOR), number.to_owned(), Due::Expire));
    }

    fn give_up(&mut self, number: &str, now: Timestamp) {
        if let Some(freeze) = self.orders.get_mut(number).filter(|freeze| freeze.status == Status::Waiting) {
            freeze.status = Status::Closed;
            freeze.changed_at = now;
        }
    }

    /// Lets go what is held, and closes the order.
    fn let_go(&mut self, number: &str, now: Timestamp, journal: &mut Journal) {
        let operation_id = self.new_operation_id();
        let freeze = self.orders.get_mut(number).filter(|freeze| freeze.status == Status::Authorized);
        let Some(freeze) = freeze else { return };
        let rest = freeze.rest();
        freeze.status = Status::Closed;
        freeze.rest_minor = 0;
        freeze.changed_at = now;
        freeze.write(LedgerOperation::Void, rest, now, journal);
        freeze.tell("UNFREEZE", &operation_id, &operation_id, rest, journal);
    }

    fn create_voucher(&mut self, content: &Content, base_url: &str, now: Timestamp) -> Result<Value, Value> {
        let order = order_of(content, &APP_PRODUCTS)?;
        let (number, request) = (order.out_order_no.clone(), order.out_request_no.clone());
        let page = self.offer(order, content, now)?;
        let code = format!("{base_url}{}", path_of(&page));
        Ok(json!({
            "code": "10000",
            "msg": "Success",
            "out_order_no": number,
            "out_request_no": request,
            "code_type": "qrcode",
            "code_value": code,
            "code_url": code,
        }))
    }

    /// What the payer's app does with a signed order: it shows the page that this gives.
    pub(super) fn open_app(&mut self, content: &Content, now: Timestamp) -> Result<String, Value> {
        self.offer(order_of(content, &APP_PRODUCTS)?, content, now)
    }

    /// Makes a code that a payer can follow. That is no freeze yet: canceling does not take it back, only its time does.
    fn offer(&mut self, order: Order, content: &Content, now: Timestamp) -> Result<String, Value> {
        let expires_at = now.plus(minutes(&content.pay_timeout, "pay_timeout", PAY_MINUTES)?);
        let number = order.out_order_no.clone();
        if let Some(known) = self.orders.get(&number) {
            return Err(match known.status {
                Status::Closed => business("ORDER_ALREADY_CLOSED", "The order has been closed"),
                _ => business("ORDER_ALREADY_FINISH", "The order has been made"),
            });
        }
        if self.offers.len() >= OBJECTS_MAX {
            return Err(system_error());
        }
        match self.offers.get_mut(&number) {
            Some(offer) if !offer.order.is_same(&order) => {
                Err(business("ACQ.CONTEXT_INCONSISTENT", "The order's information was changed"))
            }
            Some(offer) => {
                offer.expires_at = expires_at;
                Ok(offer.page.clone())
            }
            None => {
                let page = format!("fz{:016x}", self.random.draw_u64());
                self.pages.insert(page.clone(), number.clone());
                self.offers.insert(number, Offer { order, page: page.clone(), expires_at });
                Ok(page)
            }
        }
    }

    /// Lets go part of what is held, or all of it.
    fn unfreeze(&mut self, content: &Content, now: Timestamp, journal: &mut Journal) -> Result<Value, Value> {
        let auth_no = given(&content.auth_no, "auth_no")?;
        let request = number(&content.out_request_no, "out_request_no")?.to_owned();
        given(&content.remark, "remark")?;
        let operation_id = self.new_operation_id();
        let order = self.by_auth_no.get(auth_no).and_then(|number| self.orders.get_mut(number));
        let freeze = order.ok_or_else(order_not_there)?;
        let amount = money_in(&content.amount, "amount", freeze.order.total.currency)?;
        match freeze.unfrozen.get(&request) {
            Some((earlier, _)) if *earlier != amount.amount_minor => {
                return Err(business("ACQ.CONTEXT_INCONSISTENT", "The repeated request has another amount"));
            }
            Some(_) => return Ok(freeze.unfrozen_answer(&request, amount)),
            None if request == freeze.order.out_request_no => {
                return Err(business("ACQ.CONTEXT_INCONSISTENT", "The number is that of the freeze"));
            }
            None if freeze.status == Status::Waiting => {
                return Err(business("ACQ.AUTH_ORDER_NOT_PAID", "The order has not been confirmed"));
            }
            None if freeze.rest_minor == 0 => {
                return Err(business("ORDER_ALREADY_FINISH", "Nothing is held any more"));
            }
            None if amount.amount_minor > freeze.rest_minor => {
                return Err(business("REQUEST_AMOUNT_EXCEED", "The amount is more than what is held"));
            }
            None => {}
        }
        freeze.unfrozen.insert(request.clone(), (amount.amount_minor, operation_id.clone()));
        freeze.take_off(amount.amount_minor, now);
        freeze.write(LedgerOperation::Void, amount, now, journal);
        freeze.tell("UNFREEZE", &request, &operation_id, amount, journal);
        Ok(freeze.unfrozen_answer(&request, amount))
    }

    /// The order that a call names, by itself or by Alipay's number.
    fn number_in<'a>(&'a self, content: &'a Content) -> Option<&'a str> {
        match content.auth_no.as_deref() {
            Some(auth_no) => self.by_auth_no.get(auth_no).map(String::as_str),
            None => content.out_order_no.as_deref(),
        }
    }

    /// Closes what is not confirmed and lets go what is. A number without a freeze stays as it is: a request with it that
    /// comes later is carried out, and a code that was made for it can be followed.
    fn cancel(&mut self, content: &Content, now: Timestamp, journal: &mut Journal) -> Result<Value, Value> {
        given(&content.remark, "remark")?;
        let request = given(&content.out_request_no, "out_request_no").or(given(&content.operation_id, "operation_id"));
        let request = request?.to_owned();
        let mut answer = json!({ "code": "10000", "msg": "Success", "out_request_no": request });
        let number = self.number_in(content).map(str::to_owned);
        let freeze = number.as_ref().and_then(|number| self.orders.get_mut(number));
        let (Some(number), Some(freeze)) = (number, freeze) else {
            answer["out_order_no"] = json!(content.out_order_no);
            return Ok(answer);
        };
        if ![&freeze.order.out_request_no, &freeze.operation_id].contains(&&request) {
            return Err(business("AUTH_OPERATION_NOT_EXIST", "The operation does not exist"));
        }
        answer["out_order_no"] = json!(number);
        answer["auth_no"] = json!(freeze.auth_no);
        answer["operation_id"] = json!(freeze.operation_id);
        answer["action"] = json!(match freeze.status {
            _ if freeze.taken_minor > 0 => {
                return Err(business("ORDER_ALREADY_FINISH", "Money has been taken"));
            }
            Status::Finished => return Err(business("ORDER_ALREADY_FINISH", "Nothing is held any more")),
            Status::Authorized => "unfreeze",
            Status::Waiting | Status::Closed => "close",
        });
        self.give_up(&number, now);
        self.let_go(&number, now, journal);
        Ok(answer)
    }

    fn query(&self, content: &Content) -> Result<Value, Value> {
        let freeze = self.number_in(content).and_then(|number| self.orders.get(number));
        let freeze = freeze.ok_or_else(order_not_there)?;
        let request =
            given(&content.out_request_no, "out_request_no").or(given(&content.operation_id, "operation_id"))?;
        let not_there = || business("AUTH_OPERATION_NOT_EXIST", "The operation does not exist");
        let (operation, id, amount) =
            if [&freeze.order.out_request_no, &freeze.operation_id].iter().any(|n| *n == request) {
                ("FREEZE", freeze.operation_id.as_str(), freeze.order.total)
            } else {
                let unfrozen = freeze.unfrozen.iter().find(|(number, (_, id))| *number == request || id == request);
                let (_, (amount_minor, id)) = unfrozen.ok_or_else(not_there)?;
                ("UNFREEZE", id.as_str(), Money::new(*amount_minor, freeze.order.total.currency))
            };
        if content.operation_type.as_deref().is_some_and(|asked| asked != operation) {
            return Err(not_there());
        }
        let mut answer = freeze.answer();
        answer["order_status"] = json!(freeze.status.as_str());
        answer["operation_id"] = json!(id);
        answer["out_request_no"] = json!(request);
        answer["operation_type"] = json!(operation);
        answer["amount"] = json!(shown(amount));
        for (name, value) in freeze.totals() {
            answer[name] = json!(value);
        }
        Ok(answer)
    }

    /// What is held under Alipay's number, if money can be taken from it.
    pub(super) fn holding(&self, auth_no: &str) -> Result<Holding, Value> {
        let freeze = self.by_auth_no.get(auth_no).and_then(|number| self.orders.get(number));
        let freeze = freeze.ok_or_else(|| business("ACQ.AUTH_NO_ERROR", "The authorization does not exist"))?;
        match freeze.status {
            Status::Waiting => Err(business("ACQ.AUTH_ORDER_NOT_PAID", "The order has not been confirmed")),
            Status::Finished => Err(business("ACQ.AUTH_ORDER_HAS_FINISHED", "The order has been finished")),
            Status::Closed => Err(business("ACQ.AUTH_ORDER_HAS_CLOSED", "The order has been closed")),
            Status::Authorized => Ok(Holding {
                product_code: freeze.order.product_code.clone(),
                rest: freeze.rest(),
                out_order_no: freeze.order.out_order_no.clone(),
            }),
        }
    }

    /// Takes money; what is left stays held unless the order is complete with it.
    pub(super) fn take(&mut self, holding: &Holding, amount: Money, completes: bool, now: Timestamp) {
        let Some(freeze) = self.orders.get_mut(&holding.out_order_no) else { return };
        freeze.taken_minor += amount.amount_minor;
        let off_minor = if completes { freeze.rest_minor } else { amount.amount_minor };
        freeze.take_off(off_minor, now);
    }

    /// A payer's visit to the page of a code. Acting is what makes the freeze.
    pub(super) fn visit(
        &mut self,
        page: &str,
        visit: Visit,
        now: Timestamp,
        journal: &mut Journal,
    ) -> (Option<&'static str>, bool) {
        let Some(number) = self.pages.get(page).cloned() else { return (None, false) };
        if self.offers.get(&number).is_some_and(|offer| offer.expires_at <= now) {
            self.offers.remove(&number);
        }
        if visit != Visit::Look
            && let Some(offer) = self.offers.remove(&number)
            && self.open(offer.order, offer.expires_at, now).is_ok()
        {
            match visit {
                Visit::Approve => self.mark_frozen(&number, now, journal),
                Visit::Look | Visit::Decline => self.give_up(&number, now),
            }
        }
        match self.orders.get(&number) {
            Some(freeze) => (Some(freeze.status.as_str()), false),
            None if self.offers.contains_key(&number) => (Some("not scanned"), true),
            None => (Some(Status::Closed.as_str()), false),
        }
    }
}

impl Order {
    /// Whether a request is a repetition of the one that made this.
    fn is_same(&self, other: &Self) -> bool {
        self.out_request_no == other.out_request_no && self.total == other.total
    }
}

impl Freeze {
    fn rest(&self) -> Money {
        Money::new(self.rest_minor, self.order.total.currency)
    }

    fn take_off(&mut self, amount_minor: i64, now: Timestamp) {
        self.rest_minor -= amount_minor;
        self.changed_at = now;
        if self.rest_minor == 0 {
            self.status = Status::Finished;
        }
    }

    fn write(&self, operation: LedgerOperation, money: Money, now: Timestamp, journal: &mut Journal) {
        journal.ledger.push(LedgerEntry::new(operation, &self.auth_no, &self.order.reference, money, now));
    }

    fn totals(&self) -> [(&'static str, String); 4] {
        let total = self.order.total;
        let show = |amount_minor: i64| shown(Money::new(amount_minor, total.currency));
        let frozen_minor = if self.frozen_at.is_some() { total.amount_minor } else { 0 };
        [
            ("total_freeze_amount", show(frozen_minor)),
            ("total_pay_amount", show(self.taken_minor)),
            ("total_unfreeze_amount", show(frozen_minor - self.taken_minor - self.rest_minor)),
            ("rest_amount", show(self.rest_minor)),
        ]
    }

    fn tell(&self, operation: &str, request: &str, operation_id: &str, amount: Money, journal: &mut Journal) {
        let changed_at = super::beijing_time(self.changed_at).unwrap_or_default();
        let mut fields = vec![
            ("operation_type", operation.to_owned()),
            ("status", String::from("SUCCESS")),
            ("auth_no", self.auth_no.clone()),
            ("operation_id", operation_id.to_owned()),
            ("out_order_no", self.order.out_order_no.clone()),
            ("out_request_no", request.to_owned()),
            ("amount", shown(amount)),
            ("trans_currency", self.order.total.currency.code().to_owned()),
            ("payer_logon_id", String::from("san***@sandbox.com")),
            ("payee_user_id", crate::sandbox::credentials::ALIPAY_SELLER_ID.to_owned()),
            ("gmt_create", changed_at.clone()),
            ("gmt_trans", changed_at),
        ];
        fields.extend(self.totals());
        let kind = if operation == "FREEZE" { "fund_auth_freeze" } else { "fund_auth_unfreeze" };
        journal.tell(kind, self.order.notify_url.as_ref(), fields);
    }

    /// What every answer about it has; alone, it answers the freeze.
    fn answer(&self) -> Value {
        json!({
            "code": "10000",
            "msg": "Success",
            "auth_no": self.auth_no,
            "out_order_no": self.order.out_order_no,
            "operation_id": self.operation_id,
            "out_request_no": self.order.out_request_no,
            "amount": shown(self.order.total),
            "status": if self.frozen_at.is_some() { "SUCCESS" } else { self.status.as_str() },
            "payer_logon_id": "san***@sandbox.com",
            "gmt_trans": self.frozen_at.and_then(super::beijing_time),
        })
    }

    /// The answer that says that the payer has to confirm on the telephone.
    fn waiting(&self) -> Value {
        let mut answer = self.answer();
        answer["code"] = json!("10003");
        answer["msg"] = json!(" order success pay inprocess");
        answer
    }

    fn unfrozen_answer(&self, request: &str, amount: Money) -> Value {
        let mut answer = self.answer();
        answer["out_request_no"] = json!(request);
        answer["operation_id"] = json!(self.unfrozen.get(request).map(|(_, id)| id));
        answer["amount"] = json!(shown(amount));
        answer
    }
}

fn order_not_there() -> Value {
    business("AUTH_ORDER_NOT_EXIST", "The order does not exist")
}

/// What a freeze is to be made from, if there can be one.
fn order_of(content: &Content, products: &[&str]) -> Result<Order, Value> {
    let out_order_no = number(&content.out_order_no, "out_order_no")?.to_owned();
    let out_request_no = number(&content.out_request_no, "out_request_no")?.to_owned();
    check_title(&content.order_title, "order_title")?;
    let total = money(&content.amount, "amount", content)?;
    let product_code = given(&content.product_code, "product_code")?.to_owned();
    if !products.contains(&product_code.as_str()) {
        return Err(business("ILLEGAL_ARGUMENT", "product_code is not valid"));
    }
    let extra: Value = match content.extra_param.as_deref() {
        None => Value::Null,
        Some(text) => {
            serde_json::from_str(text).map_err(|_| business("ILLEGAL_ARGUMENT", "extra_param is not valid"))?
        }
    };
    let reference = extra["reference"].as_str().unwrap_or_default().to_owned();
    let notify_url = content.notify_url.clone();
    Ok(Order { out_order_no, out_request_no, product_code, reference, total, notify_url })
}
