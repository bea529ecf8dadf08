//! Text of the guest's on the user's terminal: one line, and no command to the terminal.

/// The text with everything spelled out that a terminal would act upon: control characters,
/// characters that turn the direction of writing or end a line, and what is no UTF-8.
pub(crate) fn escape(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            if acts_on_terminals(character) {
                text.extend(character.escape_default());
            } else {
                text.push(character);
            }
        }
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}

fn acts_on_terminals(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}')
        || matches!(
            character,
            '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}' | '\u{61c}'
        )
}

#[cfg(test)]
mod tests {
    use super::escape;

    #[test]
    fn harmless_text_stays() {
        assert_eq!(
            escape("naïve ~ \u{20ac} C:\\x".as_bytes()),
            "naïve ~ \u{20ac} C:\\x"
        );
    }

    #[test]
    fn nothing_reaches_the_terminal_but_text() {
        assert_eq!(
            escape(b"a\x1b[31mred\x07\r\n\0\x7f"),
            r"a\u{1b}[31mred\u{7}\r\n\u{0}\u{7f}"
        );
        // The one-byte form of ESC [, as UTF-8 and raw.
        assert_eq!(escape(b"\xc2\x9b0m \x9b0m"), r"\u{9b}0m \x9b0m");
        assert_eq!(
            escape("\u{202e}txt\u{2028}".as_bytes()),
            r"\u{202e}txt\u{2028}"
        );
    }
}
