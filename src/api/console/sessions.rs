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
/// For so long after that end a form that somebody was filling in is still taken, and nothing is shown any more.
const FORM_GRACE: Duration = Duration::from_secs(15 * 60);
/// So long before that end pages say that it comes.
const END_SAID: Duration = Duration::from_secs(30 * 60);
/// Notices that wait for their pages; one more drops the oldest.
const NOTICES_MAX: usize = 8;
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
    /// What waits to be said, each by the page at a path.
    notices: Mutex<Vec<(String, Notice)>>,
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

    /// Leaves something to be said by the page at `path`: another tab's pages do not say it.
    pub(super) fn leave(&self, path: &str, notice: Notice) {
        let mut notices = self.notices.lock();
        notices.retain(|(left_for, _)| left_for != path);
        if notices.len() >= NOTICES_MAX {
            notices.remove(0);
        }
        notices.push((String::from(path), notice));
    }

    /// Takes what was left for the page at `path`.
    pub(super) fn take_notice(&self, path: &str) -> Option<Notice> {
        let mut notices = self.notices.lock();
        let place = notices.iter().position(|(left_for, _)| left_for == path)?;
        Some(notices.remove(place).1)
    }

    /// Fired when it ends before its time.
    pub(super) fn ended(&self) -> &CancellationToken {
        &self.ended
    }

    /// How long it still has if nobody uses it; zero when it is over.
    pub(super) fn left(&self, now: Monotonic) -> Duration {
        self.idle_left(now).min(self.life_left(now))
    }

    /// How long it still has however much it is used.
    pub(super) fn life_left(&self, now: Monotonic) -> Duration {
        LIFE_MAX.saturating_sub(now.since(self.begun))
    }

    /// Whether its pages say that it ends soon.
    pub(super) fn ends_soon(&self, now: Monotonic) -> bool {
        self.life_left(now) <= END_SAID
    }

    fn idle_left(&self, now: Monotonic) -> Duration {
        IDLE_MAX.saturating_sub(now.since(*self.used.lock()))
    }

    /// How long its forms are still taken if nobody uses it.
    fn left_for_forms(&self, now: Monotonic) -> Duration {
        self.idle_left(now).min((LIFE_MAX + FORM_GRACE).saturating_sub(now.since(self.begun)))
    }
}

/// What somebody wants of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// A page is asked for.
    Page,
    /// A form was sent. Who began it before the session's end can send it a while after.
    Form,
    /// A page updates itself, which is no use of the session.
    Update,
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
    /// What the session before it had not said yet it says.
    pub(super) fn begin_after(&self, before: Option<&Session>, operator: &str) -> (String, Arc<Session>) {
        let (id, session) = self.begin(operator);
        if let Some(before) = before {
            self.end(before);
            if before.operator == session.operator {
                *session.notices.lock() = std::mem::take(&mut *before.notices.lock());
            }
        }
        (id, session)
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
            notices: Mutex::default(),
            ended: CancellationToken::new(),
        });
        let mut by_hash = self.by_hash.lock();
        let over: Vec<Arc<Session>> =
            by_hash.values().filter(|known| known.left_for_forms(now).is_zero()).cloned().collect();
        over.iter().for_each(|known| end(&mut by_hash, known));
        if by_hash.len() >= SESSIONS_MAX {
            let oldest = by_hash.values().min_by_key(|known| *known.used.lock()).cloned();
            oldest.iter().for_each(|known| end(&mut by_hash, known));
        }
        by_hash.insert(session.hash, Arc::clone(&session));
        (id, session)
    }

    /// The session with this id, if it has not ended for what is wanted of it.
    pub(super) fn find(&self, id: &str, wanted: Use) -> Option<Arc<Session>> {
        let now = self.clock.steady();
        let mut by_hash = self.by_hash.lock();
        let session = Arc::clone(by_hash.get(&hash_of(id))?);
        if session.left_for_forms(now).is_zero() {
            end(&mut by_hash, &session);
            return None;
        }
        if session.left(now).is_zero() && wanted != Use::Form {
            session.ended.cancel();
            return None;
        }
        if wanted != Use::Update {
            *session.used.lock() = now;
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
        assert_eq!(sessions.find(&id, Use::Page).unwrap().operator, "admin");
        for wrong in ["", &id[1..], &format!("{id}0"), &id.to_uppercase(), session.csrf()] {
            assert!(sessions.find(wrong, Use::Form).is_none(), "{wrong}");
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
        let session = sessions.find(&id, Use::Page).unwrap();
        clock.advance(IDLE_MAX - Duration::from_millis(1));
        assert!(sessions.find(&id, Use::Form).is_some(), "it was used meanwhile");
        clock.advance(IDLE_MAX);
        assert!(sessions.find(&id, Use::Form).is_none(), "nor for forms");
        assert!(session.ended().is_cancelled());
    }

    #[test]
    fn a_page_that_updates_itself_does_not_use_it() {
        let (sessions, clock) = sessions();
        let (id, _) = sessions.begin("admin");
        clock.advance(IDLE_MAX / 2);
        assert!(sessions.find(&id, Use::Update).is_some());
        clock.advance(IDLE_MAX / 2);
        assert!(sessions.find(&id, Use::Update).is_none());
    }

    #[test]
    fn however_much_it_is_used_it_ends_after_its_life() {
        let (sessions, clock) = sessions();
        let (id, _) = sessions.begin("admin");
        let step = Duration::from_secs(1_800);
        let mut lived = Duration::ZERO;
        while sessions.find(&id, Use::Page).is_some() {
            clock.advance(step);
            lived += step;
            assert!(lived <= LIFE_MAX);
        }
        assert_eq!(lived, LIFE_MAX);
    }

    #[test]
    fn who_was_filling_in_a_form_at_its_end_can_send_it_a_while_after() {
        let (sessions, clock) = sessions();
        let (id, session) = sessions.begin("admin");
        let work = |until: Duration| {
            while clock.steady().since(session.begun) < until {
                assert!(sessions.find(&id, Use::Page).is_some());
                clock.advance(Duration::from_secs(600));
            }
        };
        work(LIFE_MAX - END_SAID - Duration::from_secs(600));
        assert!(!session.ends_soon(clock.steady()));
        work(LIFE_MAX - END_SAID);
        assert!(session.ends_soon(clock.steady()), "it is said");
        work(LIFE_MAX);
        assert!(sessions.find(&id, Use::Page).is_none() && sessions.find(&id, Use::Update).is_none());
        assert!(session.ended().is_cancelled(), "what it was being sent ends");
        clock.advance(FORM_GRACE - Duration::from_millis(1));
        assert!(sessions.find(&id, Use::Form).is_some());
        assert!(sessions.find(&id, Use::Page).is_none(), "a form does not make it longer");
        clock.advance(Duration::from_millis(1));
        assert!(sessions.find(&id, Use::Form).is_none());
    }

    #[test]
    fn it_can_be_ended_and_there_are_only_so_many() {
        let (sessions, clock) = sessions();
        let (first_id, first) = sessions.begin("admin");
        let (second_id, _) = sessions.begin("admin");
        clock.advance(Duration::from_secs(1));
        let find = |id: &String| sessions.find(id, Use::Page);
        assert!(find(&first_id).is_some());
        let rest: Vec<String> = (2..SESSIONS_MAX).map(|_| sessions.begin("admin").0).collect();
        assert!(rest.iter().all(|id| find(id).is_some()));
        let (last_id, _) = sessions.begin("admin");
        assert!(find(&second_id).is_none(), "it was not used for longest");
        assert!(find(&first_id).is_some() && find(&last_id).is_some());
        sessions.end(&first);
        assert!(first.ended().is_cancelled() && find(&first_id).is_none());
    }

    #[test]
    fn a_notice_is_said_once_by_its_page_alone() {
        let (sessions, _) = sessions();
        let (_, session) = sessions.begin("admin");
        let notice = |text: &str| Notice { is_good: true, text: String::from(text) };
        session.leave("/a", notice("1"));
        session.leave("/a", notice("2"));
        session.leave("/b", notice("3"));
        assert_eq!(session.take_notice("/c"), None);
        assert_eq!(session.take_notice("/a"), Some(notice("2")));
        assert_eq!(session.take_notice("/a"), None);
        for number in 0..=NOTICES_MAX {
            session.leave(&format!("/{number}"), notice("x"));
        }
        assert_eq!(session.take_notice("/b"), None, "the oldest are dropped");
        assert!(session.take_notice("/1").is_some());
        // Who logs in again is told what was not said before, and nobody else is.
        let (_, other) = sessions.begin_after(None, "other");
        let (_, next) = sessions.begin_after(Some(&session), "admin");
        assert!(session.ended().is_cancelled() && next.take_notice("/2").is_some());
        let (_, stranger) = sessions.begin_after(Some(&next), "stranger");
        assert!(stranger.take_notice("/3").is_none() && other.take_notice("/3").is_none());
    }
}
