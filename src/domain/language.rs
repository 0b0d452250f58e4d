//! The language of messages: English, or Chinese where the client prefers it.

/// The language that a client reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Language {
    /// Unless the client says otherwise.
    #[default]
    English,
    /// Where `Accept-Language` prefers `zh`.
    Chinese,
}

/// Ranges of one header that are looked at; the rest is ignored, so that a long header costs no more than a short one.
const RANGES_MAX: usize = 32;

impl Language {
    /// Reads the values of `Accept-Language`. Anything that can't be read counts as not said.
    pub fn preferred<'a>(values: impl Iterator<Item = &'a str>) -> Self {
        let ranges = values.flat_map(|value| value.split(','));
        let mut chinese = None;
        let mut english = None;
        let mut any_other = None;
        for (position, range) in ranges.take(RANGES_MAX).enumerate() {
            let Some((tag, quality)) = read_range(range) else { continue };
            // Earlier ranges win among equals.
            let wish = (quality, RANGES_MAX - position);
            let slot = match primary_subtag(tag) {
                Some("zh") => &mut chinese,
                Some("en") => &mut english,
                Some("*") => &mut any_other,
                _ => continue,
            };
            *slot = (*slot).max(Some(wish));
        }
        // `*` speaks for a language that is not named; with nothing else said it means English.
        let english = english.or(any_other);
        match chinese {
            Some(wish) if wish.0 > 0 && Some(wish) > english => Self::Chinese,
            _ => Self::English,
        }
    }

    /// Chooses the text in this language.
    pub const fn choose<'a>(self, english: &'a str, chinese: &'a str) -> &'a str {
        match self {
            Self::English => english,
            Self::Chinese => chinese,
        }
    }
}

/// A language range and its quality in thousandths.
fn read_range(range: &str) -> Option<(&str, u32)> {
    let mut parts = range.split(';').map(str::trim);
    let tag = parts.next().filter(|tag| !tag.is_empty())?;
    let quality = match parts.next() {
        None => 1000,
        Some(parameter) => read_quality(parameter.strip_prefix("q=").or_else(|| parameter.strip_prefix("Q="))?)?,
    };
    Some((tag, quality))
}

/// `0`, `0.7`, `1.000` in thousandths.
fn read_quality(text: &str) -> Option<u32> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if !matches!(whole, "0" | "1") || fraction.len() > 3 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let thousandths: u32 = format!("{whole}{fraction:0<3}").parse().ok()?;
    (thousandths <= 1000).then_some(thousandths)
}

fn primary_subtag(tag: &str) -> Option<&'static str> {
    let primary = tag.split('-').next()?;
    ["zh", "en", "*"].into_iter().find(|known| primary.eq_ignore_ascii_case(known))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn language(value: &str) -> Language {
        Language::preferred([value].into_iter())
    }

    #[test]
    fn chinese_where_it_is_preferred() {
        for value in ["zh", "zh-CN", "ZH-hant-TW", "zh-CN,zh;q=0.9,en;q=0.8", "fr, zh;q=0.5", "en;q=0.1, zh;q=0.2"] {
            assert_eq!(language(value), Language::Chinese, "{value}");
        }
        assert_eq!(language("zh,en"), Language::Chinese, "the first of equals");
        assert_eq!(language("zh, *;q=0.5"), Language::Chinese);
    }

    #[test]
    fn english_otherwise() {
        assert_eq!(Language::preferred(std::iter::empty()), Language::English);
        for value in [
            "",
            "*",
            "en",
            "fr",
            "en-US,en;q=0.9,zh;q=0.8",
            "en,zh",
            "zh;q=0",
            "zh;q=2",
            "zh;q=0.1234",
            "zh;q=x",
            "zhx",
            "de,*;q=0.5,zh;q=0.1",
            ",,;;",
        ] {
            assert_eq!(language(value), Language::English, "{value}");
        }
    }

    #[test]
    fn only_so_many_ranges_are_read() {
        let long = format!("{}zh", "fr,".repeat(RANGES_MAX));
        assert_eq!(language(&long), Language::English);
    }
}
