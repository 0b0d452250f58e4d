//! Starts the endpoints' actors, and starts them again when they fail.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use ractor::{Actor, ActorId, ActorProcessingErr, ActorRef, SupervisionEvent};

use crate::actors::webhook::Engine;
use crate::actors::webhook::endpoint::EndpointActor;
use crate::actors::webhook::sweep::{SWEEP_INTERVAL, Sweep};
use crate::domain::ids::EndpointId;
use crate::domain::webhook::LaneSet;
use crate::storage::{Scan, StoreError, keys, prefix_end};

/// Wait before a failed actor is started again; doubles with each failure in a row.
const RESTART_FIRST: Duration = Duration::from_millis(100);
/// The wait doubles this often at most, to about 50 s.
const RESTART_DOUBLINGS_MAX: u32 = 9;
/// An actor that was asked for is there by then; more than the longest wait before it is started again.
pub(super) const START_WITHIN: Duration = Duration::from_secs(90);
/// How often endpoints that were turned away are looked for.
const TURNED_AWAY_INTERVAL: Duration = Duration::from_secs(5);
/// Endpoints found before other tasks get their turn.
const FOUND_BEFORE_YIELD: usize = 64;

/// What the supervisor is told.
#[derive(Debug)]
pub(super) enum SupervisorMessage {
    /// An endpoint needs an actor. The directory has its entry already.
    Start(EndpointId),
    /// Endpoints were turned away; look for them in a while.
    LookForTurnedAwayLater,
    /// Look for them now.
    LookForTurnedAway,
    /// Look for endpoints that have something due and that nobody sees to.
    Sweep,
}

/// See the module.
pub(super) struct Supervisor;

/// What the supervisor knows.
pub(super) struct SupervisorState {
    engine: Arc<Engine>,
    children: HashMap<ActorId, EndpointId>,
    sweep: Sweep,
}

impl Actor for Supervisor {
    type Msg = SupervisorMessage;
    type State = SupervisorState;
    type Arguments = Arc<Engine>;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        engine: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        drop(myself.send_after(SWEEP_INTERVAL, || SupervisorMessage::Sweep));
        Ok(SupervisorState { engine, children: HashMap::new(), sweep: Sweep::default() })
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            SupervisorMessage::Start(endpoint_id) => start(&myself, state, endpoint_id).await,
            SupervisorMessage::LookForTurnedAwayLater => {
                state.engine.directory.poke_all_actors();
                drop(myself.send_after(TURNED_AWAY_INTERVAL, || SupervisorMessage::LookForTurnedAway));
            }
            SupervisorMessage::LookForTurnedAway => {
                state.engine.directory.begin_to_look_for_turned_away();
                if let Err(error) = poke_all_due(&state.engine).await {
                    tracing::error!(%error, "due webhooks can't be read");
                    drop(myself.send_after(TURNED_AWAY_INTERVAL, || SupervisorMessage::LookForTurnedAway));
                }
            }
            SupervisorMessage::Sweep => {
                if let Err(error) = state.sweep.pass(&state.engine).await {
                    tracing::error!(%error, "due webhooks can't be read");
                }
                drop(myself.send_after(SWEEP_INTERVAL, || SupervisorMessage::Sweep));
            }
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<Self::Msg>,
        event: SupervisionEvent,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        match event {
            SupervisionEvent::ActorTerminated(actor, _, _) => ended(&myself, state, actor.get_id(), None),
            SupervisionEvent::ActorFailed(actor, error) => ended(&myself, state, actor.get_id(), Some(&error)),
            SupervisionEvent::ActorStarted(_) | SupervisionEvent::ProcessGroupChanged(_) => {}
        }
        Ok(())
    }
}

async fn start(myself: &ActorRef<SupervisorMessage>, state: &mut SupervisorState, endpoint_id: EndpointId) {
    // Asked for twice when it was thought to be lost.
    if state.engine.stopping.is_cancelled() || !state.engine.directory.needs_actor(&endpoint_id) {
        return;
    }
    let arguments = (Arc::clone(&state.engine), endpoint_id.clone());
    match Actor::spawn_linked(None, EndpointActor, arguments, myself.get_cell()).await {
        Ok((actor, _)) => {
            state.children.insert(actor.get_id(), endpoint_id.clone());
            state.engine.directory.attach(&endpoint_id, actor);
        }
        Err(error) => {
            tracing::error!(%endpoint_id, %error, "a webhook actor could not be started");
            start_again(myself, state, endpoint_id, None);
        }
    }
}

fn ended(
    myself: &ActorRef<SupervisorMessage>,
    state: &mut SupervisorState,
    actor_id: ActorId,
    error: Option<&ActorProcessingErr>,
) {
    let Some(endpoint_id) = state.children.remove(&actor_id) else { return };
    if let Some(error) = error {
        tracing::error!(%endpoint_id, %error, "a webhook actor failed and is started again");
    }
    start_again(myself, state, endpoint_id, Some(actor_id));
}

fn start_again(
    myself: &ActorRef<SupervisorMessage>,
    state: &SupervisorState,
    endpoint_id: EndpointId,
    actor_id: Option<ActorId>,
) {
    let Some(failures) = state.engine.directory.lost(&endpoint_id, actor_id) else { return };
    let doublings = failures.saturating_sub(1).min(RESTART_DOUBLINGS_MAX);
    let wait = RESTART_FIRST * 2_u32.pow(doublings);
    drop(myself.send_after(wait, move || SupervisorMessage::Start(endpoint_id)));
}

/// Which endpoints are poked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Due {
    Now,
    Later,
}

/// Pokes every endpoint that has anything due: first those that have it now, so that they get the room that there is.
/// One read for each of its lanes and pass, however much it has.
pub(super) async fn poke_all_due(engine: &Engine) -> Result<(), StoreError> {
    poke_due(engine, Due::Now).await?;
    poke_due(engine, Due::Later).await
}

async fn poke_due(engine: &Engine, wanted: Due) -> Result<(), StoreError> {
    let now = engine.due_now();
    let end = prefix_end(&keys::notifications_due());
    let mut start = keys::notifications_due();
    for found in 1_usize.. {
        let scan = Scan { start, end: end.clone(), limit: 1, reverse: false };
        let Some(row) = engine.parts.store.scan(&scan)?.pop() else { break };
        let Some((endpoint_id, lane, due_at, _)) = keys::parse_notification_due(&row.key) else {
            engine.unreadable.report(&row.key, "its key has no lane, time and notification");
            start = [row.key.as_slice(), &[0]].concat();
            continue;
        };
        let due = if due_at <= now { Due::Now } else { Due::Later };
        if due == wanted {
            engine.directory.poke(&endpoint_id, LaneSet::ALL);
        }
        let Some(next) = prefix_end(&keys::notifications_due_in(&endpoint_id, lane)) else { break };
        start = next;
        if found % FOUND_BEFORE_YIELD == 0 {
            tokio::task::yield_now().await;
        }
    }
    Ok(())
}
