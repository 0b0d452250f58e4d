//! The queues in which one endpoint's notifications wait.

use crate::domain::webhook::{AmountClass, Notification};

/// Whether a notification was tried before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LaneKind {
    /// Never.
    First,
    /// It was.
    Again,
}

/// A queue: the notifications of one class that were tried before, or that were not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lane {
    class: AmountClass,
    kind: LaneKind,
}

impl Lane {
    /// How many there are.
    pub const COUNT: usize = 2 * AmountClass::COUNT as usize;

    /// The lane of a class and kind.
    pub const fn new(class: AmountClass, kind: LaneKind) -> Self {
        Self { class, kind }
    }

    /// All lanes, in the order of their bytes.
    pub fn all() -> impl DoubleEndedIterator<Item = Self> + Clone {
        (0..=u8::MAX).take(Self::COUNT).filter_map(Self::from_byte)
    }

    /// The lane in which `notification` waits, if it waits.
    pub const fn of(notification: &Notification) -> Self {
        let kind = if notification.attempts == 0 { LaneKind::First } else { LaneKind::Again };
        Self { class: notification.class, kind }
    }

    /// Its class.
    pub const fn class(self) -> AmountClass {
        self.class
    }

    /// Whether what is in it was tried before.
    pub const fn kind(self) -> LaneKind {
        self.kind
    }

    /// Its place among all, as keys have it: 0 to 7.
    pub const fn byte(self) -> u8 {
        self.class.number() * 2 + self.kind as u8
    }

    /// The lane at a place.
    pub fn from_byte(byte: u8) -> Option<Self> {
        let kind = if byte.is_multiple_of(2) { LaneKind::First } else { LaneKind::Again };
        Some(Self { class: AmountClass::try_from(byte / 2).ok()?, kind })
    }
}

/// Some of the lanes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct LaneSet(u8);

impl LaneSet {
    /// Every lane.
    pub const ALL: Self = Self(u8::MAX);
    /// None.
    pub const NONE: Self = Self(0);

    /// Adds one.
    pub const fn add(&mut self, lane: Lane) {
        self.0 |= 1 << lane.byte();
    }

    /// Takes one out.
    pub const fn remove(&mut self, lane: Lane) {
        self.0 &= !(1 << lane.byte());
    }

    /// Those that are in either.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether a lane is in it.
    pub const fn has(self, lane: Lane) -> bool {
        self.0 & (1 << lane.byte()) != 0
    }

    /// Whether none is.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl From<Lane> for LaneSet {
    fn from(lane: Lane) -> Self {
        let mut set = Self::NONE;
        set.add(lane);
        set
    }
}
