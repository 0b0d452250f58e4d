//! Takes a pre-auth: decides who is to hold the money, stores the intent, and has it sent.

use crate::actors::pre_auth::{Client, PreAuthId, PreAuthMessage};
use crate::domain::ids::{ChannelName, MerchantId, PreAuthNo, dated_number};
use crate::domain::pan::identifier_holds_card_number;
use crate::domain::payment::PaymentTerms;
use crate::domain::pre_auth::{Intent, OperationKind, PreAuth, PreAuthTerms, begin};
use crate::domain::routing::DecisionRecord;
use crate::domain::time::Timestamp;
use crate::gateway::answer::Answered;
use crate::gateway::auth::Caller;
use crate::gateway::command::CreatePreAuth;
use crate::gateway::error::GatewayError;
use crate::gateway::idempotency::{Known, Origin, Reservation, look_up};
use crate::gateway::pre_auths::client::{Asked, WaitingClient};
use crate::gateway::pre_auths::views::Form;
use crate::gateway::pre_auths::{Inner, PreAuths, rows};
use crate::storage::{Batch, StoreError};

/// Longest number that a merchant gives a pre-auth.
const REFERENCE_LEN_MAX: usize = 64;

/// A pre-auth that is about to be.
struct Wish {
    pre_auth_no: PreAuthNo,
    terms: PaymentTerms,
    reference: Option<String>,
    form: Form,
}

impl PreAuths {
    pub(super) async fn take(
        &self,
        caller: &Caller,
        origin: Origin,
        mut command: CreatePreAuth,
        form: Form,
    ) -> Result<Answered, GatewayError> {
        let inner = &self.0;
        let core = &inner.core;
        let began = inner.works.own_times().now();
        let merchant_id = &caller.merchant.merchant_id;
        let reservation = match look_up(core, merchant_id, origin.idempotency.as_ref())? {
            Known::Answered(answer) => return Ok(Answered { answer, replayed: true }),
            Known::Unanswered { object_no, slot } => {
                let pre_auth_no = PreAuthNo::new(object_no.as_str());
                let asked = Asked::Create(form);
                return self.answer_late(merchant_id, &pre_auth_no, &object_no, &slot, &origin, asked).await;
            }
            Known::New(reservation) => reservation,
        };
        inner.payments.check_held()?;
        let pre_auth_no = PreAuthNo::new(dated_number("PA", core.clock.now(), core.random.draw_u64()));
        if command.is_order_unnamed {
            command.wanted.order_no = pre_auth_no.to_string();
        }
        check_reference(command.reference.as_deref())?;
        let terms = inner.payments.checked_terms(caller, &command.wanted)?;
        if let Some(holder) = rows::holder(core, merchant_id, &terms.order_no, command.reference.as_deref())? {
            return Err(order_exists(&holder));
        }
        if core.stopping.is_cancelled() {
            return Err(GatewayError::ShuttingDown);
        }
        let own_time = inner.works.own_times().time(&pre_auth_no, began);
        let wish = Wish { pre_auth_no, terms, reference: command.reference, form };
        let (pre_auths, caller) = (self.clone(), caller.clone());
        let taking = async move {
            let answered = pre_auths.carry_out(&caller, origin, reservation, wish).await;
            drop(own_time);
            answered
        };
        core.carry(taking).await
    }

    /// Stores the intent and hands it to its actor, which sends it.
    async fn carry_out(
        &self,
        caller: &Caller,
        origin: Origin,
        reservation: Reservation,
        wish: Wish,
    ) -> Result<Answered, GatewayError> {
        let inner = &self.0;
        let now = inner.core.clock.now();
        let asked = Asked::Create(wish.form);
        let (place, decision) = inner.payments.decide_hold(caller, &wish.terms, now)?;
        let pre_auth = inner.intent(caller, wish, place.channel().clone(), decision, now);
        let id = PreAuthId { merchant_id: pre_auth.merchant_id.clone(), pre_auth_no: pre_auth.pre_auth_no.clone() };
        // Has its actor made before anything is stored: what there is no room for does not begin.
        inner.send(&id, PreAuthMessage::Reread)?;
        let (mut client, awaited) =
            WaitingClient::new(&inner.core, asked, id.pre_auth_no.as_str(), reservation, origin);
        inner.commit_intent(&pre_auth, &mut client, now).await?;
        inner.works.keep_place(&id.pre_auth_no, place);
        if let Err(error) = inner.send(&id, PreAuthMessage::Carry { client: Box::new(client) }) {
            // Others have taken the room meanwhile. What is stored is asked about when it is due, and answered as unknown.
            inner.works.give_place_back(&id.pre_auth_no);
            tracing::warn!(pre_auth_no = %id.pre_auth_no, %error, "a pre-auth is not sent yet; it will be asked about");
        }
        self.outcome(&id, asked, awaited).await
    }
}

impl Inner {
    /// The pre-auth as it is stored before anybody is asked for anything.
    fn intent(
        &self,
        caller: &Caller,
        wish: Wish,
        channel: ChannelName,
        decision: DecisionRecord,
        now: Timestamp,
    ) -> PreAuth {
        let policy = self.works.policy_on(channel.as_str());
        let intent = Intent {
            provider_key: self.provider_keys.key(wish.pre_auth_no.as_str(), OperationKind::Authorize.as_str(), 1),
            pre_auth_no: wish.pre_auth_no,
            merchant_id: caller.merchant.merchant_id.clone(),
            terms: terms_of(wish.terms, wish.reference),
            channel,
            decision,
        };
        begin(intent, &policy, now).pre_auth
    }

    /// Makes the intent durable. Until this returns nothing has begun.
    async fn commit_intent(
        &self,
        pre_auth: &PreAuth,
        client: &mut WaitingClient,
        now: Timestamp,
    ) -> Result<(), GatewayError> {
        let mut batch = Batch::new();
        let claims = rows::insert(&mut batch, pre_auth)?;
        let key_place = client.begin(&mut batch, pre_auth.pre_auth_no.as_str(), now)?;
        match self.core.store.commit(batch).await {
            Ok(committed) => {
                client.begun(committed.sequence);
                Ok(())
            }
            Err(StoreError::Precondition { index }) if Some(index) == key_place => {
                Err(GatewayError::IdempotencyInProgress)
            }
            Err(StoreError::Precondition { index }) if index == claims.order || Some(index) == claims.reference => {
                Err(self.taken(&pre_auth.merchant_id, &pre_auth.terms))
            }
            Err(StoreError::Precondition { .. }) => {
                Err(GatewayError::Internal(format!("pre-auth number {} was drawn twice", pre_auth.pre_auth_no)))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Who was quicker.
    fn taken(&self, merchant_id: &MerchantId, terms: &PreAuthTerms) -> GatewayError {
        match rows::holder(&self.core, merchant_id, &terms.order_no, terms.reference.as_deref()) {
            Ok(Some(holder)) => order_exists(&holder),
            // It has held the order number for a moment only.
            Ok(None) => GatewayError::Overloaded { retry_after_s: 1 },
            Err(error) => error,
        }
    }
}

fn terms_of(terms: PaymentTerms, reference: Option<String>) -> PreAuthTerms {
    PreAuthTerms {
        order_no: terms.order_no,
        money: terms.money,
        country: terms.country,
        method: terms.method,
        requested_channel: terms.requested_channel,
        payment_token: terms.payment_token,
        customer_email: terms.customer_email,
        customer_ip: terms.customer_ip,
        description: terms.description,
        metadata: terms.metadata,
        return_url: terms.return_url,
        reference,
    }
}

fn check_reference(reference: Option<&str>) -> Result<(), GatewayError> {
    let Some(reference) = reference else { return Ok(()) };
    if identifier_holds_card_number(reference) {
        return Err(GatewayError::PanRefused("pre_auth_no".to_owned()));
    }
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    if !(1..=REFERENCE_LEN_MAX).contains(&reference.len()) || !reference.bytes().all(is_allowed) {
        return Err(GatewayError::field("pre_auth_no", "must be 1 to 64 characters from A-Z a-z 0-9 _ -"));
    }
    Ok(())
}

fn order_exists(holder: &PreAuthNo) -> GatewayError {
    GatewayError::OrderExists { field: "pre_auth_no", number: holder.to_string() }
}
