//! Who is logged in: sessions in memory, of which only hashes of their ids are kept, and which end by themselves.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::domain::time::Monotonic;
use crate::random::Random;

/// A session that nobody used for so long ends. A page that updates itself is no use.
pub(super) const IDLE_MAX: Duration = Duration::from_secs(3_600);
/// And any ends after so long, used or not.
pub(super) const LIFE_MAX: Duration = Duration::from_secs(12 * 3_600);
/// Sessions at once; one more ends the one that was not used for longest.
const SESSIONS_MAX: usize = 256;
/// Bytes of an id and of a token against forged forms.
const SECRET_BYTES: usize = 32;

/// What a page says once about what was done before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Notice {
    /// Whether it was done.
    pub(super) is_good: bool,
    /// One or two sentences.
    pub(super) text: String,
}

/// Somebody who is logged in.
pub(super) struct Session {
    /// The name of the token that was shown.
    pub(super) operator: String,
    /// What every form of this session carries.
    csrf: String,
    hash: [u8; 32],
    begun: Monotonic,
    used: Mutex<Monotonic>,
    notice: Mutex<Option<Notice>>,
    /// Fired when it ends before its time, so that what it is being sent ends with it.
    ended: CancellationToken,
}

impl Session {
    /// What its forms carry.
    pub(super) fn csrf(&self) -> &str {
        &self.csrf
    }

    /// Whether a form that carries `shown` is one of its own.
    pub(super) fn is_csrf(&self, shown: &str) -> bool {
        self.csrf.as_bytes().ct_eq(shown.as_bytes()).into()
    }

    /// Leaves something to be said by its next page.
    pub(super) fn leave(&self, notice: Notice) {
        *self.notice.lock() = Some(notice);
    }

    /// Takes what was left.
    pub(super) fn take_notice(&self) -> Option<Notice> {
        self.notice.lock().take()
    }

    /// Fired when it ends before its time.
    pub(super) fn ended(&self) -> &CancellationToken {
        &self.ended
    }

    /// How long it still has if nobody uses it; zero when it is over.
    pub(super) fn left(&self, now: Monotonic) -> Duration {
        let idle = IDLE_MAX.saturating_sub(now.since(*self.used.lock()));
        idle.min(LIFE_MAX.saturating_sub(now.since(self.begun)))
    }
}

/// All sessions of one gateway.
pub(super) struct Sessions {
    clock: Clock,
    random: Random,
    by_hash: Mutex<HashMap<[u8; 32], Arc<Session>>>,
}

impl Sessions {
    /// Nobody is logged in.
    pub(super) fn new(clock: Clock, random: Random) -> Self {
        Self { clock, random, by_hash: Mutex::new(HashMap::new()) }
    }

    /// Begins one for who showed the token of this name; says its id, which is nowhere kept.
    pub(super) fn begin(&self, operator: &str) -> (String, Arc<Session>) {
        let (id, now) = (self.secret(), self.clock.steady());
        let session = Arc::new(Session {
            operator: String::from(operator),
            csrf: self.secret(),
            hash: hash_of(&id),
            begun: now,
            used: Mutex::new(now),
            notice: Mutex::new(None),
            ended: CancellationToken::new(),
        });
        let mut by_hash = self.by_hash.lock();
        let over: Vec<Arc<Session>> = by_hash.values().filter(|known| known.left(now).is_zero()).cloned().collect();
        over.iter().for_each(|known| end(&mut by_hash, known));
        if by_hash.len() >= SESSIONS_MAX {
            let oldest = by_hash.values().min_by_key(|known| *known.used.lock()).cloned();
            oldest.iter().for_each(|known| end(&mut by_hash, known));
        }
        by_hash.insert(session.hash, Arc::clone(&session));
        (id, session)
    }

    /// The session with this id, which is used by that.
    pub(super) fn find(&self, id: &str) -> Option<Arc<Session>> {
        let session = self.look(id)?;
        *session.used.lock() = self.clock.steady();
        Some(session)
    }

    /// The session with this id, which is used by nobody: a page updates itself.
    pub(super) fn look(&self, id: &str) -> Option<Arc<Session>> {
        let now = self.clock.steady();
        let mut by_hash = self.by_hash.lock();
        let session = Arc::clone(by_hash.get(&hash_of(id))?);
        if session.left(now).is_zero() {
            end(&mut by_hash, &session);
            return None;
        }
        Some(session)
    }

    /// Ends one.
    pub(super) fn end(&self, session: &Session) {
        end(&mut self.by_hash.lock(), session);
    }

    fn secret(&self) -> String {
        let mut bytes = [0_u8; SECRET_BYTES];
        self.random.fill(&mut bytes);
        hex::encode(bytes)
    }
}

fn end(by_hash: &mut HashMap<[u8; 32], Arc<Session>>, session: &Session) {
    by_hash.remove(&session.hash);
    session.ended.cancel();
}

fn hash_of(id: &str) -> [u8; 32] {
    Sha256::digest(id.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::time::Timestamp;

    fn sessions() -> (Sessions, Clock) {
        let clock = Clock::manual(Timestamp::from_unix_s(1_700_000_000));
        (Sessions::new(clock.clone(), Random::seeded(1)), clock)
    }

    #[test]
    fn an_id_has_256_bits_and_is_found_by_nothing_else() {
        let (sessions, _) = sessions();
        let (id, session) = sessions.begin("admin");
        assert_eq!(id.len(), 64);
        assert_eq!(sessions.find(&id).unwrap().operator, "admin");
        for wrong in ["", &id[1..], &format!("{id}0"), &id.to_uppercase(), session.csrf()] {
            assert!(sessions.find(wrong).is_none(), "{wrong}");
        }
        let (other, second) = sessions.begin("admin");
        assert!(other != id && second.csrf() != session.csrf());
        assert!(session.is_csrf(session.csrf()) && !session.is_csrf(second.csrf()) && !session.is_csrf(""));
    }

    #[test]
    fn nobody_uses_it_and_it_ends() {
        let (sessions, clock) = sessions();
        let (id, _) = sessions.begin("admin");
        clock.advance(IDLE_MAX - Duration::from_millis(1));
        let session = sessions.find(&id).unwrap();
        clock.advance(IDLE_MAX - Duration::from_millis(1));
        assert!(sessions.find(&id).is_some(), "it was used meanwhile");
        clock.advance(IDLE_MAX);
        assert!(sessions.find(&id).is_none());
        assert!(session.ended().is_cancelled());
    }

    #[test]
    fn a_page_that_updates_itself_does_not_use_it() {
        let (sessions, clock) = sessions();
        let (id, _) = sessions.begin("admin");
        clock.advance(IDLE_MAX / 2);
        assert!(sessions.look(&id).is_some());
        clock.advance(IDLE_MAX / 2);
        assert!(sessions.look(&id).is_none());
    }

    #[test]
    fn however_much_it_is_used_it_ends_after_its_life() {
        let (sessions, clock) = sessions();
        let (id, _) = sessions.begin("admin");
        let step = Duration::from_secs(1_800);
        let mut lived = Duration::ZERO;
        while sessions.find(&id).is_some() {
            clock.advance(step);
            lived += step;
            assert!(lived <= LIFE_MAX);
        }
        assert_eq!(lived, LIFE_MAX);
    }

    #[test]
    fn it_can_be_ended_and_there_are_only_so_many() {
        let (sessions, clock) = sessions();
        let (first_id, first) = sessions.begin("admin");
        let (second_id, _) = sessions.begin("admin");
        clock.advance(Duration::from_secs(1));
        assert!(sessions.find(&first_id).is_some());
        let rest: Vec<String> = (2..SESSIONS_MAX).map(|_| sessions.begin("admin").0).collect();
        assert!(rest.iter().all(|id| sessions.find(id).is_some()));
        let (last_id, _) = sessions.begin("admin");
        assert!(sessions.find(&second_id).is_none(), "it was not used for longest");
        assert!(sessions.find(&first_id).is_some() && sessions.find(&last_id).is_some());
        sessions.end(&first);
        assert!(first.ended().is_cancelled() && sessions.find(&first_id).is_none());
    }

    #[test]
    fn a_notice_is_said_once() {
        let (sessions, _) = sessions();
        let (_, session) = sessions.begin("admin");
        let notice = Notice { is_good: true, text: String::from("Done") };
        session.leave(notice.clone());
        assert_eq!(session.take_notice(), Some(notice));
        assert_eq!(session.take_notice(), None);
    }
}
