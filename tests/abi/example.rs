//! Finds the examples in a Markdown text.

/// A guest, and what is done with it.
pub(crate) struct Example {
    /// Where its block begins in the text.
    pub(crate) line: usize,
    /// GNU assembler, Intel syntax.
    pub(crate) source: String,
    /// What happens, in order.
    pub(crate) acts: Vec<Act>,
}

/// One step of an example.
pub(crate) enum Act {
    /// The host calls the entry with these arguments.
    Call(Vec<u64>),
    /// The host answers the hostcall.
    Answer(u64),
    /// The host runs the instance, which must give this interrupt.
    Expect(String),
}

/// Every fenced block of the language `asm`. Panics at one that expects nothing or cannot be read.
pub(crate) fn all(text: &str) -> Vec<Example> {
    let mut examples = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((index, line)) = lines.next() {
        if line != "```asm" {
            continue;
        }
        let block: Vec<&str> = lines
            .by_ref()
            .map(|(_, line)| line)
            .take_while(|line| *line != "```")
            .collect();
        examples.push(read(index + 1, &block));
    }
    examples
}

fn read(line: usize, block: &[&str]) -> Example {
    let mut acts: Vec<Act> = block.iter().filter_map(|text| act(line, text)).collect();
    let expects = acts.iter().any(|act| matches!(act, Act::Expect(_)));
    assert!(expects, "docs/abi.md:{line}: the example expects nothing");
    // Most examples are called once, without arguments.
    if !matches!(acts.first(), Some(Act::Call(_))) {
        acts.insert(0, Act::Call(Vec::new()));
    }
    let source = block.join("\n");
    Example { line, source, acts }
}

fn act(line: usize, text: &str) -> Option<Act> {
    let (name, value) = text.strip_prefix("# ")?.split_once(':')?;
    let value = value.trim();
    let number = |word: &str| {
        word.parse::<u64>()
            .unwrap_or_else(|error| panic!("docs/abi.md:{line}: \"{word}\": {error}"))
    };
    match name {
        "call" => Some(Act::Call(value.split_whitespace().map(number).collect())),
        "answer" => Some(Act::Answer(number(value))),
        "expect" => Some(Act::Expect(value.to_owned())),
        _ => None,
    }
}
