//! How much a notification is about, in a few classes.

use serde::{Deserialize, Serialize};

/// A class of amounts: 0 is the largest, 3 the smallest, and that of what is about no money.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct AmountClass(u8);

impl AmountClass {
    /// How many there are.
    pub const COUNT: u8 = 4;
    /// The last.
    pub const SMALLEST: Self = Self(Self::COUNT - 1);

    /// The class of an amount that is worth so much, if that is known. `bounds_minor` fall, in the same currency.
    pub fn of(worth_minor: Option<i64>, bounds_minor: [i64; 3]) -> Self {
        let reached = |worth: i64| (0..).zip(bounds_minor).find(|(_, bound)| worth >= *bound);
        worth_minor.and_then(reached).map_or(Self::SMALLEST, |(class, _)| Self(class))
    }

    /// 0 to 3.
    pub const fn number(self) -> u8 {
        self.0
    }
}

impl Default for AmountClass {
    fn default() -> Self {
        Self::SMALLEST
    }
}

impl From<AmountClass> for u8 {
    fn from(class: AmountClass) -> Self {
        class.0
    }
}

impl TryFrom<u8> for AmountClass {
    type Error = &'static str;

    fn try_from(number: u8) -> Result<Self, Self::Error> {
        if number < Self::COUNT { Ok(Self(number)) } else { Err("a class of amounts is 0 to 3") }
    }
}
