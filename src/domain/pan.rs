//! Card numbers have no business here: texts that hold one are refused, so that none is ever stored or logged.

/// Shortest and longest card number in digits (ISO/IEC 7812 with the lengths that schemes issue).
const PAN_DIGITS: std::ops::RangeInclusive<usize> = 13..=19;

/// Whether `text` holds a run of 13 to 19 digits, spaces and hyphens between them allowed, that passes the Luhn check.
pub fn holds_card_number(text: &str) -> bool {
    let mut digits: Vec<u8> = Vec::new();
    let mut separator_before = false;
    for character in text.chars() {
        if let Some(digit) = character.to_digit(10) {
            digits.push(u8::try_from(digit).unwrap_or(0));
            separator_before = false;
        } else if (character == ' ' || character == '-') && !digits.is_empty() && !separator_before {
            separator_before = true;
        } else {
            if run_holds_card_number(&digits) {
                return true;
            }
            digits.clear();
            separator_before = false;
        }
    }
    run_holds_card_number(&digits)
}

/// Only a whole run counts: parts of a longer one would refuse every tenth long number.
fn run_holds_card_number(digits: &[u8]) -> bool {
    PAN_DIGITS.contains(&digits.len()) && passes_luhn(digits)
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
    sum.is_multiple_of(10) && digits.iter().any(|digit| *digit != 0)
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
            "378282246310005",
            "note:6011111111111117;",
        ] {
            assert!(holds_card_number(text), "{text}");
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
}
