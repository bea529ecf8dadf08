//! What a guest says reaches the terminal as text, whatever it says.

use vmctx::native::{LOG, MESSAGE_BYTES_MAX, PANIC};

use crate::asm::tell;

const HOSTILE: &[u8] =
    b"red \x1b[31m bell \x07 title \x1b]0;pwned\x07 back\rspace\x08 csi \xc2\x9b2J\n";
const HARMLESS: &str = "red \\u{1b}[31m bell \\u{7} title \\u{1b}]0;pwned\\u{7} back\\rspace\\u{8} csi \
                        \\u{9b}2J\\n\n";

#[test]
fn a_log_line_is_one_line() {
    let outcome = tell(LOG, b"it works");
    assert_eq!(
        (outcome.status, outcome.stderr.as_str()),
        (0, "guest: it works\n")
    );
    assert_eq!(tell(LOG, b"").stderr, "guest: \n");
}

#[test]
fn a_log_line_commands_no_terminal() {
    let outcome = tell(LOG, HOSTILE);
    assert_eq!(outcome.status, 0);
    assert_eq!(outcome.stderr, format!("guest: {HARMLESS}"));
}

#[test]
fn last_words_command_no_terminal() {
    let outcome = tell(PANIC, HOSTILE);
    assert_eq!(outcome.status, 101);
    assert_eq!(
        outcome.stderr,
        format!("cellwall: the guest panicked: {HARMLESS}")
    );
}

#[test]
fn long_lines_are_cut() {
    let limit = usize::try_from(MESSAGE_BYTES_MAX).unwrap();
    // The text is what fits into the test's guest; the length that it claims is longer.
    let outcome = crate::asm::run_code(b"", |code| {
        use iced_x86::code_asm::{eax, r11, rdi, rsi};
        code.mov(rdi, crate::asm::TEXT - 0x1800).unwrap();
        code.mov(rsi, u64::MAX >> 1).unwrap();
        code.mov(eax, LOG).unwrap();
        code.mov(r11, vmctx::map::HOSTCALL).unwrap();
        code.call(r11).unwrap();
        code.ret().unwrap();
    });
    assert_eq!(outcome.status, 0, "{}", outcome.stderr);
    // The text is the guest's own file: an ELF header, then zeros, each of five characters.
    assert!(
        outcome.stderr.starts_with("guest: \\u{7f}ELF\\u{2}"),
        "{}",
        outcome.stderr
    );
    assert_eq!(outcome.stderr.lines().count(), 1);
    assert!(outcome.stderr.len() > limit && outcome.stderr.len() < limit * 6);
}
