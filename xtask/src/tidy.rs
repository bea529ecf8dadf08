//! The style as a test: what reviewers would otherwise have to look for.

use std::fs;
use std::path::{Path, PathBuf};

use crate::Failure;

/// A file that grows past this is usually two ideas.
const FILE_LINES_MAX: usize = 400;

/// A function longer than this is usually two steps.
const FUNCTION_LINES_MAX: usize = 80;

/// As wide as rustfmt makes code; comments it leaves alone.
const COMMENT_COLUMNS_MAX: usize = 100;

/// The files that may contain unsafe code, one path a line. A file that is not listed fails, and
/// so does a listed one that contains none any more.
const UNSAFE_FILES: &str = "xtask/unsafe-files.txt";

/// Words that say that something is not finished.
const LEFTOVERS: [&str; 4] = ["todo!(", "unimplemented!(", "dbg!(", "FIXME"];

pub(crate) fn run(root: &Path) -> Result<(), Failure> {
    let listed = fs::read_to_string(root.join(UNSAFE_FILES))?;
    let listed: Vec<&str> = listed
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .collect();
    let mut findings = Vec::new();
    let mut with_unsafe = Vec::new();
    let mut files = Vec::new();
    rust_files(root, &mut files)?;
    files.sort();
    for file in &files {
        let name = file.strip_prefix(root)?.to_string_lossy().into_owned();
        let text = fs::read_to_string(file)?;
        check_file(&name, &text, &mut findings);
        // This file and the builder's test hold such words in strings.
        let quoted = ["xtask/src/tidy.rs", "freestanding/tests/images.rs"];
        if has_unsafe(&text) && !quoted.contains(&name.as_str()) {
            with_unsafe.push(name);
        }
    }
    for name in &with_unsafe {
        if !listed.contains(&name.as_str()) {
            findings.push(format!(
                "{name}: unsafe code, but not listed in {UNSAFE_FILES}"
            ));
        }
    }
    for name in listed {
        if !with_unsafe.iter().any(|found| found == name) {
            findings.push(format!(
                "{name}: listed in {UNSAFE_FILES}, but has no unsafe code"
            ));
        }
    }
    if findings.is_empty() {
        println!("tidy: {} files", files.len());
        return Ok(());
    }
    for finding in &findings {
        eprintln!("{finding}");
    }
    Err(format!("{} findings", findings.len()).into())
}

/// Whether a file has unsafe code of its own.
fn has_unsafe(text: &str) -> bool {
    let forms = [
        "unsafe {",
        "unsafe fn",
        "unsafe impl",
        "unsafe extern",
        "#[unsafe(",
    ];
    let first = text.split(']').next().unwrap_or("");
    if first.starts_with("#![expect(") && first.contains("unsafe_code") {
        return true;
    }
    // Files below one with the attribute have none of their own.
    text.lines()
        .map(str::trim_start)
        .filter(|line| !line.starts_with("//"))
        .any(|line| {
            forms
                .iter()
                .any(|form| line.contains(form) && !line.contains('"'))
        })
}

/// The name and length of each function that is too long to be seen at once.
fn long_functions(text: &str) -> Vec<(String, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let indent = line.len() - line.trim_start().len();
        let Some((_, rest)) = line.split_once("fn ") else {
            continue;
        };
        if line.trim_start().starts_with("//") || !rest.contains('(') {
            continue;
        }
        let close = format!("{}}}", " ".repeat(indent));
        let end = lines.iter().skip(start).position(|line| *line == close);
        if let Some(length) = end.filter(|length| *length > FUNCTION_LINES_MAX) {
            let name = rest.split(['(', '<']).next().unwrap_or(rest);
            found.push((name.to_owned(), length));
        }
    }
    found
}

fn check_file(name: &str, text: &str, findings: &mut Vec<String>) {
    let lines = text.lines().count();
    if lines > FILE_LINES_MAX {
        findings.push(format!(
            "{name}: {lines} lines; over {FILE_LINES_MAX} it is two ideas"
        ));
    }
    for (function, lines) in long_functions(text) {
        findings.push(format!(
            "{name}: `{function}` has {lines} lines; over {FUNCTION_LINES_MAX} it is two steps"
        ));
    }
    if !text.lines().take(20).any(|line| line.starts_with("//!")) {
        findings.push(format!("{name}: no module documentation"));
    }
    for (number, line) in text.lines().enumerate() {
        let quoted = name.ends_with("tidy.rs");
        if !quoted && LEFTOVERS.iter().any(|leftover| line.contains(leftover)) {
            findings.push(format!("{name}:{}: {}", number + 1, line.trim()));
        }
        let columns = line.chars().count();
        if columns > COMMENT_COLUMNS_MAX && line.trim_start().starts_with("//") {
            findings.push(format!(
                "{name}:{}: a comment of {columns} columns; {COMMENT_COLUMNS_MAX} are allowed",
                number + 1
            ));
        }
        if line.ends_with(' ') || line.contains('\t') {
            findings.push(format!("{name}:{}: stray white space", number + 1));
        }
    }
}

fn rust_files(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), Failure> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default();
        if path.is_dir() {
            if name != "target" && name != ".git" {
                rust_files(&path, files)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(())
}
