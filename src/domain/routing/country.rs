//! Countries by their ISO 3166-1 alpha-2 codes, and sets of them that are asked in constant time.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A country code in capitals, such as `US`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Country([u8; 2]);

/// The text is not two capital letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an ISO 3166-1 alpha-2 country code in capitals, such as US")]
pub struct InvalidCountry;

impl Country {
    /// The code.
    pub fn code(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("ZZ")
    }

    /// Its number among all pairs of letters.
    pub(super) fn index(self) -> usize {
        usize::from(self.0[0] - b'A') * 26 + usize::from(self.0[1] - b'A')
    }
}

impl FromStr for Country {
    type Err = InvalidCountry;

    fn from_str(text: &str) -> Result<Self, InvalidCountry> {
        match text.as_bytes() {
            [first, second] if first.is_ascii_uppercase() && second.is_ascii_uppercase() => Ok(Self([*first, *second])),
            _ => Err(InvalidCountry),
        }
    }
}

impl fmt::Display for Country {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.code())
    }
}

impl fmt::Debug for Country {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.code())
    }
}

impl Serialize for Country {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.code())
    }
}

impl<'de> Deserialize<'de> for Country {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

const WORDS: usize = (26 * 26_usize).div_ceil(64);

/// A set of countries, one bit for each possible code.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CountrySet([u64; WORDS]);

impl CountrySet {
    /// Whether the country is in it.
    pub fn contains(&self, country: Country) -> bool {
        let index = country.index();
        self.0[index / 64] & (1 << (index % 64)) != 0
    }

    /// Whether no country is in it.
    pub fn is_empty(&self) -> bool {
        self.0 == [0; WORDS]
    }

    /// Every code that is possible but those in it.
    #[must_use]
    pub fn complement(&self) -> Self {
        let mut rest = Self(self.0.map(|word| !word));
        // No code has the bits behind the last one.
        rest.0[WORDS - 1] &= (1 << (26 * 26 % 64)) - 1;
        rest
    }

    /// What is in both.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        let mut both = *self;
        for (word, other) in both.0.iter_mut().zip(other.0) {
            *word &= other;
        }
        both
    }
}

impl FromIterator<Country> for CountrySet {
    fn from_iter<I: IntoIterator<Item = Country>>(countries: I) -> Self {
        let mut set = Self::default();
        for country in countries {
            let index = country.index();
            set.0[index / 64] |= 1 << (index % 64);
        }
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_hold_exactly_what_was_put_in() {
        let all: Vec<Country> =
            (b'A'..=b'Z').flat_map(|first| (b'A'..=b'Z').map(move |second| Country([first, second]))).collect();
        for chosen in &all {
            let set = CountrySet::from_iter([*chosen]);
            assert!(all.iter().all(|country| set.contains(*country) == (country == chosen)));
        }
        assert!(CountrySet::default().is_empty());
        let everywhere = CountrySet::default().complement();
        assert_eq!(everywhere, all.iter().copied().collect());
        assert!(everywhere.complement().is_empty());
        assert_eq!(everywhere.intersection(&CountrySet::from_iter([all[5]])), CountrySet::from_iter([all[5]]));
        for text in ["us", "U", "USA", "U1", ""] {
            assert!(text.parse::<Country>().is_err(), "{text:?}");
        }
    }
}
