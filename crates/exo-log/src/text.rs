//! Small pieces of the text formats: numbers, base64, control characters.

use data_encoding::BASE64;

/// A number in ASCII decimal without leading zeros; `None` for anything else.
pub(crate) fn decimal(text: &str) -> Option<u64> {
    let canonical = text == "0" || !text.starts_with('0');
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if canonical && digits { text.parse().ok() } else { None }
}

/// Standard base64 with padding (RFC 4648 section 4); `None` for anything that would not be written so.
pub(crate) fn base64(text: &str) -> Option<Vec<u8>> {
    // The library takes padded pieces one behind the other for one text.
    if text.trim_end_matches('=').contains('=') {
        return None;
    }
    BASE64.decode(text.as_bytes()).ok()
}

/// Whether the text has a character that no line of a note may have.
pub(crate) fn has_control(text: &str) -> bool {
    text.bytes().any(|byte| byte < b' ')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_one_base64() {
        assert_eq!(base64("YWI="), Some(b"ab".to_vec()));
        assert_eq!(base64(""), Some(Vec::new()));
        for text in
            ["YWI", "YWJ=", "YWI=YWI=", "YQ==YWJj", "YWI\n", "YWI= ", "====", "Y-I=", "YW_="]
        {
            assert_eq!(base64(text), None, "{text}");
        }
    }

    #[test]
    fn a_number_has_one_text() {
        for number in [0, 1, 10, 255, u64::MAX] {
            assert_eq!(decimal(&number.to_string()), Some(number));
        }
        for text in ["", "00", "01", "+1", "-1", "1 ", " 1", "1e3", "٣", "18446744073709551616"] {
            assert_eq!(decimal(text), None, "{text}");
        }
    }
}
