//! Which numbers and layouts a source file writes by hand.

/// Something that is written by hand.
#[derive(Clone, Debug)]
pub(crate) struct Definition {
    /// `landlock::AccessFs::TSYNC`: as a user of the module names it.
    pub(crate) path: String,
    /// The generated struct that the build compares it with, or that which it is a field of.
    pub(crate) same_as: Option<String>,
    /// The struct that it is a field of.
    pub(crate) field_of: Option<String>,
}

/// A path with the modules between left out: names are unique in what the crate shows of them.
pub(crate) fn short(path: &str) -> String {
    let is_type = |part: &str| part.starts_with(char::is_uppercase);
    let parts: Vec<&str> = path
        .split("::")
        .map(|part| part.split('<').next().unwrap_or(part))
        .collect();
    let last = parts.len() - 1;
    let kept = parts.iter().enumerate();
    let kept = kept.filter(|(at, part)| *at == 0 || *at == last || is_type(part));
    kept.map(|(_, part)| *part).collect::<Vec<_>>().join("::")
}

/// Whether some code has a number in it, and nothing that was generated.
fn has_number(code: &str) -> bool {
    let generated = [
        "sys::", "bit::", "kernel::", "number::", "errno::", "self.", "Self {",
    ];
    let mut before = ' ';
    let mut any = false;
    for letter in code.chars() {
        any |= letter.is_ascii_digit() && !before.is_alphanumeric() && before != '_';
        before = letter;
    }
    any && !generated.iter().any(|module| code.contains(module))
}

/// What follows a word, up to the end of the name.
fn name_after(line: &str, word: &str) -> Option<String> {
    let (before, after) = line.split_once(word)?;
    let begins = before.is_empty() || before.ends_with([' ', '(']);
    let name: String = after
        .chars()
        .take_while(|letter| letter.is_alphanumeric() || *letter == '_')
        .collect();
    (begins && !name.is_empty()).then_some(name)
}

/// What a value is, from the line on that begins its definition.
fn value(code: &[&str]) -> String {
    let mut whole = String::new();
    for line in code.iter().map(|line| line.trim()) {
        whole.push_str(line);
        whole.push(' ');
        if line.ends_with([';', ',']) {
            break;
        }
    }
    let value = whole.split_once('=').map(|(_, value)| value);
    value.unwrap_or_default().to_owned()
}

/// The generated struct that the build compares this one with.
fn same_as(text: &str, name: &str) -> Option<String> {
    text.split("same_layout!(").skip(1).find_map(|rest| {
        let (ours, rest) = rest.split_once(", ")?;
        // The path's last part: what comes before the first colon that stands alone.
        let parts = rest.split(':').filter(|part| !part.is_empty());
        let theirs = parts
            .take_while(|part| !part.starts_with([' ', '\n']))
            .last()?;
        (ours.split('<').next() == Some(name)).then(|| theirs.to_owned())
    })
}

/// The name of a constant that a line begins to define.
fn constant(line: &str) -> Option<String> {
    let visible = line.strip_prefix("pub").map_or(line, |rest| {
        rest.split_once(' ').map_or(rest, |(_, item)| item)
    });
    let is_constant = visible.starts_with("const ") || visible.starts_with("static ");
    let is_constant = is_constant && !visible.contains("fn ");
    let name = name_after(visible, "const ").or_else(|| name_after(visible, "static "));
    name.filter(|name| is_constant && name != "_")
}

/// The name of a variant that a line gives a number.
fn variant(line: &str) -> Option<String> {
    let (name, value) = line.strip_suffix(',')?.split_once(" = ")?;
    let is_name = name.starts_with(char::is_uppercase) && name.chars().all(char::is_alphanumeric);
    (is_name && has_number(value)).then(|| name.to_owned())
}

/// The name of a field that a line declares.
fn field(line: &str) -> Option<String> {
    let visible = match line.strip_prefix("pub") {
        Some(rest) => rest.split_once(' ')?.1,
        None => line,
    };
    let (name, _) = visible.strip_suffix(',')?.split_once(": ")?;
    let is_name = |letter: char| letter.is_ascii_lowercase() || "_0123456789".contains(letter);
    name.chars().all(is_name).then(|| name.to_owned())
}

/// The type that a line begins to define, or methods of.
fn scope(line: &str) -> Option<String> {
    let methods = || {
        let header = line
            .strip_suffix(" {")
            .filter(|line| line.starts_with("impl"))?;
        let name = header.rsplit(' ').next()?;
        name.split('<').next().map(str::to_owned)
    };
    let defined = name_after(line, "struct ").or_else(|| name_after(line, "enum "));
    defined.or_else(methods)
}

/// What a file defines by hand. It is read as rustfmt writes it: a line begins an item, and what is
/// inside is indented.
pub(crate) fn definitions(module: &str, text: &str) -> Vec<Definition> {
    let code = text.split("#[cfg(test)]\nmod tests").next();
    let lines = code.unwrap_or_default().lines();
    let code: Vec<&str> = lines
        .map(|line| line.split("//").next().unwrap_or_default())
        .collect();
    let mut found = Vec::new();
    // Types that the line is in, with their indentation.
    let mut within: Vec<(usize, String)> = Vec::new();
    let mut is_layout = false;
    // The struct that the line is in, and its indentation, if the kernel has it too.
    let mut of: Option<(usize, Definition)> = None;
    for (at, line) in code.iter().enumerate() {
        let (indent, line) = (line.len() - line.trim_start().len(), line.trim());
        if line.is_empty() {
            continue;
        }
        within.retain(|(outer, _)| indent > *outer);
        of = of.filter(|(outer, _)| indent > *outer);
        let outer = within.last().map(|(_, name)| format!("::{name}"));
        let outer = outer.unwrap_or_default();
        let path = |name: &str| short(&format!("{module}{outer}::{name}"));
        let by_hand = |name: &str| Definition {
            path: path(name),
            same_as: None,
            field_of: None,
        };
        if let (Some((_, of)), Some(name)) = (&of, field(line)) {
            found.push(Definition {
                path: path(&name),
                same_as: of.same_as.clone(),
                field_of: Some(of.path.clone()),
            });
        } else if let Some(name) = constant(line) {
            if has_number(&value(&code[at..])) {
                found.push(by_hand(&name));
            }
        } else if let Some(name) = scope(line) {
            if is_layout && line.contains("struct ") {
                let layout = Definition {
                    same_as: same_as(text, &name),
                    ..by_hand(&name)
                };
                of = Some((indent, layout.clone()));
                found.push(layout);
            }
            within.push((indent, name));
        } else if let Some(name) = variant(line) {
            found.push(by_hand(&name));
        }
        is_layout = line.starts_with("#[repr(C") || (is_layout && !line.contains("struct "));
    }
    found
}

#[test]
fn what_is_by_hand_is_found() {
    let text = "\
pub const A: u32 = 1 << 3;
pub(super) const B: u64 =
    0x10;
const C: u32 = sys::C_32;
const fn d() -> u32 {
    const E: u8 = 5;
}
pub struct Flags: u64 {
    const F = 1; // not 2
    const G = sys::G as u64;
}
#[repr(C)]
#[derive(Clone)]
pub struct Pair<'a> {
    h: &'a u32,
}
same_layout!(Pair<'_>, sys::pair: h = h);
pub struct Free;
enum Kind {
    One = 1,
    Two = sys::TWO,
}
";
    let found = definitions("module::inner", text);
    let paths: Vec<&str> = found.iter().map(|found| found.path.as_str()).collect();
    let wanted = ["A", "B", "E", "Flags::F", "Pair", "Pair::h", "Kind::One"];
    assert_eq!(paths, wanted.map(|name| format!("module::{name}")));
    let same: Vec<&str> = found
        .iter()
        .filter_map(|found| found.same_as.as_deref())
        .collect();
    assert_eq!(same, ["pair", "pair"]);
}
