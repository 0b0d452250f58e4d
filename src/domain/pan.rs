//! Card numbers have no business here: texts that hold one are refused, so that none is ever stored or logged.
//!
//! One in ten numbers of any kind passes the Luhn check, so that alone would refuse honest references. A card number
//! also begins with what an issuer's scheme uses, and is as long as that scheme's numbers are.

use std::ops::RangeInclusive;

/// Shortest and longest card number in digits (ISO/IEC 7812 with the lengths that schemes issue).
const PAN_DIGITS: RangeInclusive<usize> = 13..=19;
/// Shortest and longest bar code that a payer shows for Alipay, in digits, and how it begins.
const ALIPAY_CODE_DIGITS: RangeInclusive<usize> = 16..=24;
const ALIPAY_CODE_PREFIXES: RangeInclusive<u32> = 25..=30;

/// How card numbers are printed: the lengths of their groups.
const PRINTED_GROUPS: [&[usize]; 2] = [&[4, 4, 4, 4], &[4, 6, 5]];

/// What the card numbers of one scheme look like.
struct Scheme {
    /// How many digits the prefixes below have.
    prefix_digits: usize,
    prefixes: RangeInclusive<u32>,
    lengths: &'static [usize],
}

const fn scheme(prefix_digits: usize, prefixes: RangeInclusive<u32>, lengths: &'static [usize]) -> Scheme {
    Scheme { prefix_digits, prefixes, lengths }
}

const FROM_13: &[usize] = &[13, 14, 15, 16, 17, 18, 19];
const FROM_14: &[usize] = &[14, 15, 16, 17, 18, 19];
const FROM_16: &[usize] = &[16, 17, 18, 19];

/// Prefixes and lengths by scheme.
const SCHEMES: [Scheme; 26] = [
    // Visa
    scheme(1, 4..=4, &[13, 16, 19]),
    // Mastercard
    scheme(2, 51..=55, &[16]),
    scheme(4, 2221..=2720, &[16]),
    // American Express
    scheme(2, 34..=34, &[15]),
    scheme(2, 37..=37, &[15]),
    // Discover
    scheme(4, 6011..=6011, FROM_16),
    scheme(3, 644..=649, FROM_16),
    scheme(2, 65..=65, FROM_16),
    // Diners Club
    scheme(3, 300..=305, FROM_14),
    scheme(4, 3095..=3095, FROM_14),
    scheme(2, 36..=36, FROM_14),
    scheme(2, 38..=39, FROM_14),
    // JCB
    scheme(4, 3528..=3589, FROM_16),
    // UnionPay
    scheme(2, 62..=62, FROM_16),
    scheme(2, 81..=81, FROM_16),
    // Maestro
    scheme(4, 5018..=5018, FROM_13),
    scheme(4, 5020..=5020, FROM_13),
    scheme(4, 5038..=5038, FROM_13),
    scheme(4, 5612..=5612, FROM_13),
    scheme(4, 5893..=5893, FROM_13),
    scheme(4, 6304..=6304, FROM_13),
    scheme(4, 6390..=6390, FROM_13),
    scheme(4, 6759..=6759, FROM_13),
    scheme(4, 6761..=6763, FROM_13),
    scheme(4, 6768..=6768, FROM_13),
    scheme(4, 6771..=6771, FROM_13),
];

/// Whether a text that people write holds a card number, in one piece or in groups with single spaces or hyphens
/// between them, or as cards are printed with any one separator. Groups before or after it, such as a date, do not hide it.
pub fn holds_card_number(text: &str) -> bool {
    if holds_printed_card_number(text) {
        return true;
    }
    let mut groups: Vec<Vec<u8>> = Vec::new();
    let mut separator_before = false;
    for character in text.chars() {
        if let Some(digit) = digit_of(character) {
            match groups.last_mut() {
                Some(group) if !separator_before => group.push(digit),
                _ => groups.push(vec![digit]),
            }
            separator_before = false;
        } else if (character == ' ' || character == '-') && !groups.is_empty() && !separator_before {
            separator_before = true;
        } else {
            if groups_hold_card_number(&groups) {
                return true;
            }
            groups.clear();
            separator_before = false;
        }
    }
    groups_hold_card_number(&groups)
}

/// Whether an identifier holds a card number in one piece, or in the groups in which cards are printed. Otherwise what
/// stands on the two sides of a separator is not read as one number: separators join the parts of identifiers that are
/// numbers of their own.
pub fn identifier_holds_card_number(text: &str) -> bool {
    holds_printed_card_number(text)
        || text
            .split(|character: char| digit_of(character).is_none())
            .any(|run| is_card_number(&run.chars().filter_map(digit_of).collect::<Vec<_>>()))
}

/// Whether a text holds a card number in the groups in which cards are printed, with one kind of separator.
fn holds_printed_card_number(text: &str) -> bool {
    [' ', '-', '.', '_'].into_iter().any(|separator| {
        let parts = text.split(|character: char| character != separator && digit_of(character).is_none());
        parts.flat_map(|part| PRINTED_GROUPS.map(|lengths| (part, lengths))).any(|(part, lengths)| {
            let groups: Vec<Vec<u8>> =
                part.split(separator).map(|group| group.chars().filter_map(digit_of).collect()).collect();
            groups.windows(lengths.len()).any(|printed| {
                printed.iter().map(Vec::len).eq(lengths.iter().copied()) && is_card_number(&printed.concat())
            })
        })
    })
}

/// Whether a text has the form of the bar code that a payer shows for Alipay, which some card numbers have too.
pub fn is_alipay_code(text: &str) -> bool {
    let digits: Vec<u8> = text.chars().map_while(digit_of).collect();
    digits.len() == text.len()
        && ALIPAY_CODE_DIGITS.contains(&digits.len())
        && ALIPAY_CODE_PREFIXES.contains(&number_of(&digits[..2]))
}

fn digit_of(character: char) -> Option<u8> {
    character.to_digit(10).and_then(|digit| u8::try_from(digit).ok())
}

/// Whether some neighbouring groups, whole ones, make up a card number.
fn groups_hold_card_number(groups: &[Vec<u8>]) -> bool {
    (0..groups.len()).any(|first| {
        let mut digits: Vec<u8> = Vec::with_capacity(*PAN_DIGITS.end());
        for group in &groups[first..] {
            if digits.len() + group.len() > *PAN_DIGITS.end() {
                return false;
            }
            digits.extend_from_slice(group);
            if is_card_number(&digits) {
                return true;
            }
        }
        false
    })
}

fn is_card_number(digits: &[u8]) -> bool {
    PAN_DIGITS.contains(&digits.len()) && is_of_a_scheme(digits) && passes_luhn(digits)
}

fn is_of_a_scheme(digits: &[u8]) -> bool {
    SCHEMES.iter().any(|scheme| {
        scheme.lengths.contains(&digits.len()) && scheme.prefixes.contains(&number_of(&digits[..scheme.prefix_digits]))
    })
}

fn number_of(digits: &[u8]) -> u32 {
    digits.iter().fold(0, |number, digit| number * 10 + u32::from(*digit))
}

fn passes_luhn(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(position, digit)| {
            let value = u32::from(*digit) * if position % 2 == 1 { 2 } else { 1 };
            if value > 9 { value - 9 } else { value }
        })
        .sum();
    sum.is_multiple_of(10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn card_numbers_are_found_in_any_writing() {
        for text in [
            "4242424242424242",
            "card 4242 4242 4242 4242 please",
            "4242-4242-4242-4242",
            "3782 822463 10005",
            "note:6011111111111117;",
            "4242 4242 4242 4242 12/27",
            "12 4242424242424242",
            "4242.4242.4242.4242",
            "no. 3782_822463_10005",
        ] {
            assert!(holds_card_number(text), "{text}");
        }
    }

    #[test]
    fn the_numbers_of_every_scheme_are_found() {
        for text in [
            "4222222222222",
            "5555555555554444",
            "2223003122003222",
            "378282246310005",
            "6011000990139424",
            "6445644564456445",
            "30569309025904",
            "36227206271667",
            "3530111333300000",
            "6200000000000005",
            "8171999927660000",
            "6759649826438453",
            "5018717010103743",
        ] {
            assert!(holds_card_number(text), "{text}");
            assert!(identifier_holds_card_number(text), "{text}");
        }
    }

    #[test]
    fn other_numbers_are_not() {
        for text in
            ["ORDER-12345", "4242424242424241", "2025-01-24T10:30:45Z", "0000000000000000", "+86 138 0013 8000", ""]
        {
            assert!(!holds_card_number(text), "{text}");
        }
    }

    #[test]
    fn times_and_counters_are_never_taken_for_cards() {
        for offset in 0..2_000_u64 {
            for number in [1_700_000_000_000 + offset, 1_700_000_000_000_000 + offset, 20_250_124_123_456 + offset] {
                assert!(!holds_card_number(&number.to_string()), "{number}");
            }
            assert!(!holds_card_number(&format!("20250124{:08}", offset * 7)));
        }
    }

    #[test]
    fn few_honest_numbers_have_the_form_of_a_card_number() {
        // A fixed walk over numbers of 16 digits: one in ten passes the Luhn check, one in forty has a scheme's form too.
        let numbers = (0..20_000_u128).map(|step| (step * 6_180_339_887_498_949 + 1) % 10_000_000_000_000_000);
        let refused = numbers.filter(|number| holds_card_number(&format!("{number:016}"))).count();
        assert!(refused < 20_000 / 33, "{refused} of 20000");
    }

    #[test]
    fn identifiers_are_read_over_their_separators_only_as_cards_are_printed() {
        for text in [
            "INV-4242-424242424242",
            "42-42424242424242",
            "4242-4242.4242-4242",
            "4242--4242-4242-4242",
            "4242:4242:4242:4242",
            // Luhn fails, and no scheme begins like this.
            "4242-4242-4242-4243",
            "1234-5678-9012-3452",
        ] {
            assert!(!identifier_holds_card_number(text), "{text}");
        }
        for text in [
            "4242424242424242",
            "INV-4242424242424242-1",
            "a4242424242424242b",
            "4242-4242-4242-4242",
            "4242.4242.4242.4242",
            "INV_2025-4242-4242-4242-4242-x",
            "3782-822463-10005",
            "order_3782_822463_10005",
        ] {
            assert!(identifier_holds_card_number(text), "{text}");
        }
    }

    #[test]
    fn alipay_codes_are_known_by_form_and_length() {
        for text in ["2512345678901234", "289101234567890123", "301234567890123456789012"] {
            assert!(is_alipay_code(text), "{text}");
        }
        for text in ["251234567890123", "3012345678901234567890123", "2412345678901234", "4242424242424242", "28a", "2"]
        {
            assert!(!is_alipay_code(text), "{text}");
        }
    }
}
