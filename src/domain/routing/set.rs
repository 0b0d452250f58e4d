//! A set of a table's channels, by their places in it.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Most channels of one table.
pub const CHANNELS_MAX: usize = 32;

/// Some of a table's channels. Written as the list of their places.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ChannelSet(u32);

impl ChannelSet {
    /// Adds the channel at a place below [`CHANNELS_MAX`].
    pub fn insert(&mut self, place: usize) {
        if place < CHANNELS_MAX {
            self.0 |= 1 << place;
        }
    }

    /// Whether the channel at a place is in it.
    pub const fn contains(self, place: usize) -> bool {
        place < CHANNELS_MAX && self.0 & (1 << place) != 0
    }

    /// How many channels are in it.
    pub const fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// Whether none is.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Those that are in both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Those that are not in the other.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// A number that differs from set to set of the same table.
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// The first place, if any.
    pub fn first(self) -> Option<usize> {
        self.iter().next()
    }

    /// The places in the table's order.
    pub fn iter(self) -> impl Iterator<Item = usize> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            if rest == 0 {
                return None;
            }
            let place = rest.trailing_zeros() as usize;
            rest &= rest - 1;
            Some(place)
        })
    }
}

impl FromIterator<usize> for ChannelSet {
    fn from_iter<I: IntoIterator<Item = usize>>(places: I) -> Self {
        let mut set = Self::default();
        for place in places {
            set.insert(place);
        }
        set
    }
}

impl Serialize for ChannelSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl<'de> Deserialize<'de> for ChannelSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Vec::<usize>::deserialize(deserializer)?.into_iter().collect())
    }
}
