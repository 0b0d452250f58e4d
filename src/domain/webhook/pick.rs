//! Which of an endpoint's lanes is sent from next.

use crate::domain::time::Timestamp;
use crate::domain::webhook::{Lane, LaneKind};

/// Of so many picks one is the oldest of all, so that smaller amounts do not wait for ever.
const OLDEST_EVERY: u32 = 4;

/// The first of each lane that can be sent now: when it was due. By the lanes' bytes.
pub type Heads = [Option<Timestamp>; Lane::COUNT];

/// For what there is room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// For what was never tried.
    pub for_first: bool,
    /// For what was.
    pub for_again: bool,
}

impl Room {
    /// For everything.
    pub const ALL: Self = Self { for_first: true, for_again: true };

    const fn is_for(self, lane: Lane) -> bool {
        match lane.kind() {
            LaneKind::First => self.for_first,
            LaneKind::Again => self.for_again,
        }
    }
}

/// Picks one after another: the largest class first, in it what was never tried, and every fourth time the oldest.
#[derive(Clone, Copy, Debug, Default)]
pub struct Picker {
    picks: u32,
}

impl Picker {
    /// The lane to send from next; `None` when nothing can be sent. It is not counted before [`Picker::picked`].
    pub fn choose(self, heads: &Heads, room: Room) -> Option<Lane> {
        let mut ready = Lane::all()
            .filter(|lane| room.is_for(*lane))
            .filter_map(|lane| Some((lane, (*heads.get(usize::from(lane.byte()))?)?)));
        if self.picks % OLDEST_EVERY == OLDEST_EVERY - 1 {
            return ready.min_by_key(|(lane, due_at)| (*due_at, lane.byte())).map(|(lane, _)| lane);
        }
        // Lanes are in this order.
        ready.next().map(|(lane, _)| lane)
    }

    /// What was chosen is being sent.
    pub const fn picked(&mut self) {
        self.picks = self.picks.wrapping_add(1);
    }
}
