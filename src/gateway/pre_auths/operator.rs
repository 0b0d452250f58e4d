//! What an operator does with any merchant's pre-auths, and what is held the shortest.

use std::sync::Arc;

use serde_json::json;

use crate::domain::audit::{Change, Operator};
use crate::domain::pre_auth::{PreAuth, PreAuthStatus, Rejection};
use crate::gateway::answer::StoredAnswer;
use crate::gateway::audit;
use crate::gateway::command::{CancelPreAuth, CapturePreAuth};
use crate::gateway::error::GatewayError;
use crate::gateway::idempotency::{Origin, Reservation};
use crate::gateway::numbered_list;
use crate::gateway::payments::Payments;
use crate::gateway::payments::rows::parse_due_value;
use crate::gateway::pre_auths::client::{Asked, rejected};
use crate::gateway::pre_auths::views::{self, Form};
use crate::gateway::pre_auths::{Command, PreAuths, check_amount, rows};
use crate::gateway::view::{OperatorPreAuthView, RefundView};
use crate::storage::{Scan, keys, prefix_end};

/// Entries of the due index that are looked at for what is held the shortest.
const DUE_LOOKED_AT_MAX: usize = 2_000;
/// Entries read at once.
const DUE_READ_MAX: usize = 200;

/// What is held the shortest.
#[derive(Clone, Debug, PartialEq)]
pub struct ExpiringPreAuths {
    /// Those whose money is held, by when that ends.
    pub items: Vec<OperatorPreAuthView>,
    /// Whether all that is open was looked at; otherwise only what has something to be done about it soonest.
    pub is_all: bool,
}

impl PreAuths {
    /// Takes what is held of any merchant's pre-auth, or part of it and releases the rest. That it was asked for is in the
    /// audit before the channel is asked. `processing` in what comes back means that the outcome is not known yet.
    ///
    /// # Errors
    /// As for [`PreAuths::capture`].
    pub async fn capture_by(
        &self,
        by: &Operator,
        pre_auth_no: &str,
        command: CapturePreAuth,
    ) -> Result<OperatorPreAuthView, GatewayError> {
        let found: PreAuth = numbered_list::find(&self.0.core, pre_auth_no)?;
        self.0.payments.check_held()?;
        check_amount(command.amount)?;
        if found.status != PreAuthStatus::RequiresCapture {
            return Err(rejected(Rejection::State(found.status)));
        }
        if command.amount.is_some_and(|amount| amount > found.authorized_minor) {
            return Err(GatewayError::AmountTooLarge { max_minor: found.authorized_minor });
        }
        self.0.check_partial(&found, command.amount)?;
        let amount_minor = command.amount.unwrap_or(found.authorized_minor);
        let change = Change::new("pre_auth.capture", format!("{}/{}", found.merchant_id, found.pre_auth_no)).field(
            "amount",
            None,
            Some(json!(amount_minor)),
        );
        let asked = Command::Capture { amount: command.amount };
        self.carry_by(by, found, change, asked, Asked::Capture(Form::Own)).await
    }

    /// Releases what is held of any merchant's pre-auth, or gives up what is not held yet. That it was asked for is in the
    /// audit before the channel is asked.
    ///
    /// # Errors
    /// As for [`PreAuths::cancel`].
    pub async fn cancel_by(
        &self,
        by: &Operator,
        pre_auth_no: &str,
        command: CancelPreAuth,
    ) -> Result<OperatorPreAuthView, GatewayError> {
        let found: PreAuth = numbered_list::find(&self.0.core, pre_auth_no)?;
        Payments::check_reason(command.reason.as_ref())?;
        if found.status.is_final() {
            return Err(rejected(Rejection::State(found.status)));
        }
        let change = Change::new("pre_auth.cancel", format!("{}/{}", found.merchant_id, found.pre_auth_no));
        let change = match &command.reason {
            Some(reason) => change.field("reason", None, Some(json!(reason))),
            None => change,
        };
        self.carry_by(by, found, change, Command::Cancel { reason: command.reason }, Asked::Cancel(Form::Own)).await
    }

    /// Writes down who asks for it, has it done, and says how it stands then. Goes on when nobody waits for it.
    async fn carry_by(
        &self,
        by: &Operator,
        found: PreAuth,
        change: Change,
        command: Command,
        asked: Asked,
    ) -> Result<OperatorPreAuthView, GatewayError> {
        let (pre_auths, by) = (self.clone(), by.clone());
        let work = async move {
            let core = &pre_auths.0.core;
            audit::record(core, &by, &change).await?;
            // Nobody reads this answer: how it stands is read anew.
            let renderer = Arc::new(|_: &_| StoredAnswer { status: 200, body: String::new() });
            let origin = Origin { idempotency: None, claim: None, permit: None, renderer };
            let PreAuth { merchant_id, pre_auth_no, .. } = found;
            let done =
                pre_auths.carry(&merchant_id, pre_auth_no.clone(), command, asked, Reservation::default(), origin);
            Box::pin(done).await?;
            Ok(pre_auths.0.operator_view(&rows::read(core, &merchant_id, &pre_auth_no)?.pre_auth))
        };
        self.0.core.carry(work).await
    }

    /// All refunds of any merchant's pre-auth, newest first; there are few.
    ///
    /// # Errors
    /// [`GatewayError::NotFound`].
    pub fn refunds_of(&self, pre_auth_no: &str) -> Result<Vec<RefundView>, GatewayError> {
        let core = &self.0.core;
        let pre_auth: PreAuth = numbered_list::find(core, pre_auth_no)?;
        let newest_first = pre_auth.refunds.iter().rev();
        Ok(newest_first.map(|refund| views::refund_view(&pre_auth, refund, core.livemode())).collect())
    }

    /// The pre-auth that holds this order number, of every merchant that has one, and whether all merchants
    /// were asked.
    ///
    /// # Errors
    /// When the store can't be read.
    pub fn with_order(&self, order_no: &str) -> Result<(Vec<OperatorPreAuthView>, bool), GatewayError> {
        let (found, is_all) = numbered_list::with_order::<PreAuth>(&self.0.core, order_no)?;
        Ok((found.iter().map(|pre_auth| self.0.operator_view(pre_auth)).collect(), is_all))
    }

    /// What is held the shortest, at most so many.
    ///
    /// # Errors
    /// When the store can't be read.
    pub fn expiring(&self, rows_max: usize) -> Result<ExpiringPreAuths, GatewayError> {
        let core = &self.0.core;
        let end = prefix_end(&keys::pre_auths_due());
        let mut scan = Scan { start: keys::pre_auths_due(), end, limit: DUE_READ_MAX, reverse: false };
        let mut held = Vec::new();
        let mut is_all = false;
        for _ in 0..DUE_LOOKED_AT_MAX / DUE_READ_MAX {
            let due = core.store.scan(&scan)?;
            for row in &due {
                let Some((_, pre_auth_no)) = keys::parse_pre_auth_due(&row.key) else { continue };
                let Some((merchant_id, _)) = parse_due_value(&row.versioned.value) else { continue };
                match rows::read(core, &merchant_id, &pre_auth_no) {
                    Ok(stored) if stored.pre_auth.status == PreAuthStatus::RequiresCapture => {
                        held.push(stored.pre_auth)
                    }
                    // It has gone on since the entry was read.
                    Ok(_) | Err(GatewayError::NotFound(_)) => {}
                    Err(error) => return Err(error),
                }
            }
            match due.last() {
                Some(last) if due.len() == DUE_READ_MAX => scan.start = [last.key.as_slice(), &[0]].concat(),
                _ => {
                    is_all = true;
                    break;
                }
            }
        }
        held.sort_by_key(|pre_auth| (pre_auth.expires_at.is_none(), pre_auth.expires_at));
        held.truncate(rows_max);
        Ok(ExpiringPreAuths { items: held.iter().map(|pre_auth| self.0.operator_view(pre_auth)).collect(), is_all })
    }
}
