//! Asking a C compiler.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Something we believe, and how to ask C about it.
#[derive(Clone, Debug)]
pub(crate) struct Fact {
    /// What a failure is reported as; unique.
    pub(crate) name: String,
    /// What we believe, as the C program prints it.
    ours: String,
    /// A C statement that prints it.
    statement: String,
    /// A macro without which the headers do not have it.
    needs: Option<String>,
    /// What it is here: `landlock::AccessFs::TSYNC`, without the name of this crate.
    pub(crate) of: Option<String>,
}

impl Fact {
    /// A macro's value.
    pub(crate) fn constant(name: &str, ours: u64) -> Self {
        Self {
            needs: Some(name.to_owned()),
            ..Self::expression(name, ours)
        }
    }

    /// An expression's value.
    pub(crate) fn expression(expression: &str, ours: u64) -> Self {
        Self {
            name: expression.to_owned(),
            ours: ours.to_string(),
            statement: format!(r#"printf("%llu", (unsigned long long)({expression}));"#),
            needs: None,
            of: None,
        }
    }

    /// Tells which macro the headers do not have it without.
    pub(crate) fn needs(mut self, name: &str) -> Self {
        self.needs = Some(name.to_owned());
        self
    }

    /// Tells what it is here, by a path from this crate's root.
    pub(crate) fn of(mut self, path: &str) -> Self {
        let path = path.replace(' ', "");
        self.of = Some(path.trim_start_matches("linux_raw::").to_owned());
        self
    }

    /// A type's size and alignment.
    pub(crate) fn layout(name: &str, size: usize, align: usize) -> Self {
        Self {
            name: name.to_owned(),
            ours: format!("{size} {align}"),
            statement: format!(r#"printf("%zu %zu", sizeof({name}), _Alignof({name}));"#),
            needs: None,
            of: None,
        }
    }

    /// A field's offset and size.
    pub(crate) fn field(of: &str, field: &str, offset: usize, size: usize) -> Self {
        Self {
            name: format!("{of}.{field}"),
            ours: format!("{offset} {size}"),
            statement: format!(
                r#"printf("%zu %zu", __builtin_offsetof({of}, {field}), sizeof((({of} *)0)->{field}));"#
            ),
            needs: None,
            of: None,
        }
    }

    /// Prints the fact on a line of its own, or nothing if its macro is not defined.
    fn line(&self) -> String {
        let name = &self.name;
        let print = format!(
            "printf(\"{name}\\t\");\n{}\nprintf(\"\\n\");\n",
            self.statement
        );
        match &self.needs {
            Some(needed) => format!("#ifdef {needed}\n{print}#endif\n"),
            None => print,
        }
    }
}

/// What is compiled together.
pub(crate) struct Unit<'name> {
    pub(crate) name: &'name str,
    pub(crate) headers: &'name [&'name str],
    /// Other headers of the kernel than the system's.
    pub(crate) include: Option<PathBuf>,
    /// Whether the kernel's headers are all that there is.
    pub(crate) kernel_only: bool,
}

impl Unit<'_> {
    /// What tells the compiler where headers are.
    fn arguments(&self) -> Vec<OsString> {
        let mut arguments = Vec::new();
        let Some(include) = &self.include else {
            return arguments;
        };
        // What the others lack must not be found in the system's.
        if self.kernel_only {
            arguments.push("-nostdinc".into());
        }
        for folder in [include.clone(), include.join("x86_64-linux-gnu")] {
            arguments.extend(["-isystem".into(), folder.into()]);
        }
        arguments
    }
}

/// A kernel's version, but for its patch level.
pub(crate) type Version = (u32, u32);

/// Which one headers are of.
const VERSION: &str = "LINUX_VERSION_CODE";

/// What came of a comparison.
pub(crate) enum Findings {
    /// Nothing was compared.
    NoCompiler(String),
    /// Every fact is one of these.
    Compared {
        /// The kernel that the headers are of.
        version: Version,
        /// How many agree.
        same: usize,
        /// What the headers do not have.
        lacking: Vec<String>,
        /// What they have otherwise.
        different: Vec<String>,
    },
}

/// Compiles and runs a program that prints all facts, and compares.
pub(crate) fn compare(unit: &Unit<'_>, mut facts: Vec<Fact>) -> Findings {
    // Not a belief: an answer that is wanted.
    facts.push(Fact::constant(VERSION, 0));
    let compiler = match compiler() {
        Ok(compiler) => compiler,
        Err(why) => return Findings::NoCompiler(why),
    };
    let theirs = all_answers(&compiler, unit, &facts);
    let version = theirs.get(VERSION).and_then(|code| code.parse().ok());
    let version: u32 = version.unwrap_or_default();
    let (mut same, mut lacking, mut different) = (0, Vec::new(), Vec::new());
    facts.pop();
    for fact in facts {
        match theirs.get(&fact.name) {
            None => lacking.push(fact.name),
            Some(value) if *value == fact.ours => same += 1,
            Some(value) => different.push(format!("{}: ours {}, C {value}", fact.name, fact.ours)),
        }
    }
    Findings::Compared {
        version: (version >> 16, version >> 8 & 0xff),
        same,
        lacking,
        different,
    }
}

/// A compiler that works.
fn compiler() -> Result<cc::Tool, String> {
    let host = "x86_64-unknown-linux-gnu";
    let tool = cc::Build::new()
        .target(host)
        .host(host)
        .opt_level(0)
        .debug(false)
        .cargo_metadata(false)
        .warnings(false)
        .try_get_compiler()
        .map_err(|error| error.to_string())?;
    let mut version = tool.to_command();
    match version.arg("--version").output() {
        Ok(output) if output.status.success() => Ok(tool),
        Ok(output) => Err(format!("{}: {}", tool.path().display(), output.status)),
        Err(error) => Err(format!("{}: {error}", tool.path().display())),
    }
}

/// What C prints for those of the facts that it has at all, by name.
fn all_answers(compiler: &cc::Tool, unit: &Unit<'_>, facts: &[Fact]) -> HashMap<String, String> {
    match answers(compiler, unit, facts) {
        Ok(all) => all,
        // Some is not there: which half is it in?
        Err(_) if facts.len() > 1 => {
            let (some, others) = facts.split_at(facts.len() / 2);
            let mut all = all_answers(compiler, unit, some);
            all.extend(all_answers(compiler, unit, others));
            all
        }
        Err(_) => HashMap::new(),
    }
}

/// What C prints for the facts, by name; or the compiler's complaint.
fn answers(
    compiler: &cc::Tool,
    unit: &Unit<'_>,
    facts: &[Fact],
) -> Result<HashMap<String, String>, String> {
    // Not cargo's own folder for such things: the tests also run as a user who may not write there.
    let directory = tempfile::tempdir().unwrap();
    let source = directory.path().join(format!("{}.c", unit.name));
    let program = directory.path().join(unit.name);
    write_source(&source, unit.headers, facts);
    let compiled = compiler
        .to_command()
        .arg(&source)
        .args(unit.arguments())
        .arg("-o")
        .arg(&program)
        .output()
        .map_err(|error| error.to_string())?;
    if !compiled.status.success() {
        return Err(String::from_utf8_lossy(&compiled.stderr).into_owned());
    }
    let run = Command::new(&program).output().unwrap();
    assert!(run.status.success(), "{}: {}", unit.name, run.status);
    let lines = String::from_utf8(run.stdout).unwrap();
    let pairs = lines.lines().filter_map(|line| line.split_once('\t'));
    Ok(pairs
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect())
}

/// Writes the C program.
fn write_source(path: &Path, headers: &[&str], facts: &[Fact]) {
    let mut text = String::from("#define _GNU_SOURCE\n");
    for header in headers {
        writeln!(text, "#if __has_include(<{header}>)").unwrap();
        writeln!(text, "#include <{header}>\n#endif").unwrap();
    }
    // Not <stdio.h>, whose types may clash with the kernel's.
    text.push_str("extern int printf(const char *, ...);\nint main(void) {\n");
    for fact in facts {
        text.push_str(&fact.line());
    }
    text.push_str("return 0;\n}\n");
    fs::write(path, text).unwrap();
}
