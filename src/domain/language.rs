//! The languages in which people are told something.

/// A language of messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Language {
    /// Unless the reader says otherwise.
    #[default]
    English,
    /// For readers of Chinese.
    Chinese,
}

impl Language {
    /// Chooses the text in this language.
    pub const fn choose<'a>(self, english: &'a str, chinese: &'a str) -> &'a str {
        match self {
            Self::English => english,
            Self::Chinese => chinese,
        }
    }
}
