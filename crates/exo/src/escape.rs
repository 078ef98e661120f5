//! Text of others on a terminal or in a line of JSON: nothing in it may act as a command.

use std::fmt::Write;

/// Makes a text safe for a terminal: control and direction-changing characters are shown as
/// escapes, line breaks and tabs become spaces.
pub(crate) fn visible(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\r' | '\t' => out.push(' '),
            c if acts(c) => {
                // Writing to a String cannot fail.
                let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out
}

/// Makes a serialised JSON text safe for a terminal without changing its value: such characters
/// occur only inside strings, where an escape means the same.
pub(crate) fn visible_json(json: String) -> String {
    if !json.chars().any(acts) {
        return json;
    }
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        if acts(c) {
            // All of them are in the basic plane: four digits are enough.
            let _ = write!(out, "\\u{:04x}", u32::from(c));
        } else {
            out.push(c);
        }
    }
    out
}

/// Whether a terminal or a reader could be misled by the character: C0 and C1 controls, DEL, and
/// the marks that change the direction of text or are invisible.
fn acts(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// Cuts a text to at most `width` characters, with an ellipsis where it was cut.
pub(crate) fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut out: String = text.chars().take(width.saturating_sub(1)).collect();
    out.push('…');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_drive_a_terminal_is_shown_instead() {
        assert_eq!(visible("a\x1b[2Jb\u{9b}31mc\u{7f}"), "a\\u{1b}[2Jb\\u{9b}31mc\\u{7f}");
        assert_eq!(visible("one\r\ntwo\tthree"), "one  two three");
        assert_eq!(visible("safe\u{202e}txt.exe"), "safe\\u{202e}txt.exe");
        assert_eq!(visible("naïve — 漢字 🙂"), "naïve — 漢字 🙂");
    }

    #[test]
    fn json_keeps_its_value() {
        let value = serde_json::json!({"t": "a\u{9b}b\u{202e}c\u{7f}d\u{1b}"});
        let text = visible_json(value.to_string());
        assert!(!text.chars().any(acts), "{text:?}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).expect("json"), value);
    }

    #[test]
    fn a_cut_text_says_so() {
        assert_eq!(cut("abc", 3), "abc");
        assert_eq!(cut("éèàç", 3), "éè…");
    }
}
