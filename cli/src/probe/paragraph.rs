//! Lines that a terminal of 80 columns shows whole.

/// How wide a report may be.
const COLUMNS: usize = 80;

/// Adds a paragraph to a report: its first line begins with `head`, the others with `indent`
/// blanks. A word that fits nowhere has a line of its own.
pub(super) fn wrap(text: &mut String, head: &str, indent: usize, paragraph: &str) {
    text.push_str(head);
    let mut column = head.len();
    let mut is_first = true;
    for word in paragraph.split_whitespace() {
        let blank = usize::from(!is_first);
        if !is_first && column + blank + word.len() > COLUMNS {
            text.push('\n');
            text.push_str(&" ".repeat(indent));
            column = indent;
        } else if !is_first {
            text.push(' ');
            column += 1;
        }
        text.push_str(word);
        column += word.len();
        is_first = false;
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::wrap;

    #[test]
    fn no_line_is_longer_but_for_a_word() {
        let mut text = String::new();
        wrap(&mut text, "name  ", 6, &"word ".repeat(40));
        assert!(text.starts_with("name  word word"), "{text}");
        assert!(text.contains("word\n      word"), "{text}");
        assert!(text.lines().all(|line| line.len() <= 80), "{text}");
        let long = "x".repeat(100);
        text.clear();
        wrap(&mut text, "", 2, &format!("a {long} b"));
        assert_eq!(text, format!("a\n  {long}\n  b\n"));
    }
}
