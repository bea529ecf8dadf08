//! Which tests are run inside a kernel: those of some programs, without those that one list names;
//! for a quick run only those that another does; and where no sandbox runs only those of a third.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::initramfs::Initramfs;
use super::inside;
use crate::Failure;
use crate::apt::runs;
use crate::suite::{Built, build};
use crate::zygote::SWITCH;

/// The programs: the folder of the package, and the name there.
const PROGRAMS: [(&str, &str); 5] = [
    (LINUX_RAW, "kernel"),
    (LINUX_RAW, "uring"),
    ("", "cellwall"),
    ("", "all"),
    ("", LAYERS),
];
const LINUX_RAW: &str = "linux-raw";
/// Each layer attacked alone, which takes a build of its own.
const LAYERS: &str = "layers";

/// What is not run inside a kernel, what is in a quick run, and what is where no sandbox runs: the
/// names of the files, and what is in them.
const WITHOUT: (&str, &str) = (
    "xtask/kernels-without.txt",
    include_str!("../../kernels-without.txt"),
);
const QUICK: (&str, &str) = (
    "xtask/kernels-quick.txt",
    include_str!("../../kernels-quick.txt"),
);
const REFUSED: (&str, &str) = (
    "xtask/kernels-refused.txt",
    include_str!("../../kernels-refused.txt"),
);

/// Which tests are wanted.
pub(super) struct Wanted<'a> {
    /// Nothing but the command line, for the probe.
    pub(super) none: bool,
    /// Only those whose name holds this.
    pub(super) only: Option<&'a str>,
    /// Only those of the list.
    pub(super) quick: bool,
}

/// A program, and which of its tests are run.
pub(super) struct Program {
    pub(super) path: PathBuf,
    pub(super) name: String,
    tests: Vec<Test>,
    /// Those that the list leaves out.
    left_out: Vec<Test>,
}

struct Test {
    name: String,
    /// It is run where no sandbox can, too.
    is_for_refused: bool,
}

/// Those that are run where a sandbox can, or where none can.
fn run_in(tests: &[Test], refused: bool) -> Vec<&str> {
    let tests = tests.iter().filter(|test| test.is_for_refused || !refused);
    tests.map(|test| test.name.as_str()).collect()
}

/// What is to be packed.
pub(super) struct Choice {
    /// The command line.
    pub(super) cellwall: PathBuf,
    pub(super) programs: Vec<Program>,
}

/// What tests start: of this machine's, with their libraries.
const TOOLS: [&str; 20] = [
    "cat", "chrt", "env", "kill", "mkswap", "mktemp", "mount", "nice", "prlimit", "rmdir",
    "setpriv", "sh", "sleep", "swapoff", "swapon", "taskset", "touch", "true", "umount", "unshare",
];

/// One that a test wants where every system has it, as it does these files, the second of them in
/// the package's folder.
const CHROOT: (&str, &str) = ("chroot", "/usr/sbin");
const FILES: [&str; 2] = ["/etc/passwd", "/Cargo.toml"];

impl Choice {
    /// How many tests are left out, of those that would be run on such a kernel.
    pub(super) fn left_out(&self, refused: bool) -> usize {
        let programs = self.programs.iter();
        programs
            .map(|program| run_in(&program.left_out, refused).len())
            .sum()
    }

    /// The programs that are run on such a kernel, and how many of their tests.
    pub(super) fn of_programs(&self, refused: bool) -> BTreeMap<&str, usize> {
        let programs = self.programs.iter();
        let programs = programs.map(|program| {
            let tests = run_in(&program.tests, refused).len();
            (program.name.as_str(), tests)
        });
        programs.filter(|(_, tests)| *tests > 0).collect()
    }

    /// All of it as an initramfs, with this program as init.
    pub(super) fn packed(&self) -> Result<Vec<u8>, Failure> {
        let mut initramfs = Initramfs::new();
        initramfs.program(&std::env::current_exe()?, inside::INIT)?;
        initramfs.program(&self.cellwall, inside::CELLWALL)?;
        for tool in TOOLS {
            initramfs.tool(tool, inside::TOOLS)?;
        }
        initramfs.tool(CHROOT.0, CHROOT.1)?;
        for file in FILES {
            initramfs.text(Path::new(file), String::new());
        }
        for program in &self.programs {
            let place = Path::new(inside::TESTS).join(&program.name);
            for refused in [false, true] {
                let tests = run_in(&program.tests, refused);
                if !tests.is_empty() {
                    let list = place.with_extension(inside::names(refused));
                    initramfs.text(&list, tests.join("\n"));
                }
            }
            initramfs.program(&program.path, place)?;
        }
        initramfs.finish()
    }
}

/// Builds the programs, and chooses. What is left out is told.
pub(super) fn choose(root: &Path, wanted: &Wanted<'_>) -> Result<Choice, Failure> {
    let packages: &[&str] = if wanted.none {
        &["cellwall-cli"]
    } else {
        &["cellwall", "cellwall-linux-raw", "cellwall-cli"]
    };
    // Debug builds take longer where they are emulated, but are there when `cargo test` has run.
    let flags: &[&str] = if wanted.quick { &[] } else { &["--release"] };
    let target = crate::target(root);
    let mut built = build(root, &target, packages, flags)?;
    if !wanted.none {
        // What has been built by that name can leave no layer out.
        built.retain(|program| program.name != LAYERS);
        let switch = format!("build.rustflags=['--cfg={SWITCH}']");
        let flags = [flags, &["--test", LAYERS, "--config", &switch]].concat();
        built.extend(build(root, &target.join(LAYERS), &["cellwall"], &flags)?);
    }
    let find = |folder: &str, name: &str, is_test| {
        let is_it = |program: &&Built| {
            program.folder == Path::new(folder)
                && program.name == name
                && program.is_test == is_test
        };
        let found = built.iter().find(is_it);
        let found = found.ok_or_else(|| format!("cargo has built no {folder}/{name}"))?;
        Ok::<PathBuf, Failure>(found.path.clone())
    };
    let cellwall = find("cli", "cellwall", false)?;
    if wanted.none {
        let programs = Vec::new();
        return Ok(Choice { cellwall, programs });
    }
    let [without, quick, refused] = [&WITHOUT, &QUICK, &REFUSED].map(List::parse);
    let (without, quick, refused) = (without?, quick?, refused?);
    let mut programs = Vec::new();
    let mut every = Vec::new();
    for (folder, name) in PROGRAMS {
        let path = find(folder, name, true)?;
        let all = tests(&path)?;
        every.extend(all.iter().map(|test| (name, test.clone())));
        let of_all = all.len();
        let all = all.into_iter().map(|test| Test {
            is_for_refused: refused.names(name, &test),
            name: test,
        });
        let (left_out, mut tests): (Vec<Test>, Vec<Test>) =
            all.partition(|test| without.names(name, &test.name));
        if !left_out.is_empty() {
            println!(
                "{name}: {} of {of_all} tests are left out: {}",
                left_out.len(),
                WITHOUT.0
            );
        }
        tests.retain(|test| !wanted.quick || quick.names(name, &test.name));
        tests.retain(|test| wanted.only.is_none_or(|part| test.name.contains(part)));
        programs.push(Program {
            path,
            name: name.to_owned(),
            tests,
            left_out,
        });
    }
    for list in [without, quick, refused] {
        list.check(&every)?;
    }
    programs.retain(|program| !program.tests.is_empty());
    if programs.is_empty() {
        return Err("no test is of that name".into());
    }
    Ok(Choice { cellwall, programs })
}

/// The names of a program's tests.
fn tests(program: &Path) -> Result<Vec<String>, Failure> {
    let listed = runs(Command::new(program).args(["--list", "--format", "terse"]))?;
    let listed = String::from_utf8(listed.stdout)?;
    let names = listed
        .lines()
        .filter_map(|line| line.strip_suffix(": test"));
    Ok(names.map(str::to_owned).collect())
}

/// How a line of a list begins that names an exception.
const BUT: &str = "but ";

/// A list of tests.
struct List {
    path: &'static str,
    lines: Vec<Line>,
}

/// One test, or all whose names begin so where it ends with `::`, or with `*` all of a program.
struct Line {
    /// It is none of the list, whatever other lines say.
    is_excepted: bool,
    program: &'static str,
    tests: &'static str,
}

impl List {
    fn parse(&(path, text): &(&'static str, &'static str)) -> Result<Self, Failure> {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let lines: Result<Vec<Line>, Failure> = lines
            .map(|line| {
                let (is_excepted, words) = match line.strip_prefix(BUT) {
                    Some(words) => (true, words),
                    None => (false, line),
                };
                let mut words = words.split_whitespace();
                let (Some(program), Some(tests), Some(_why)) =
                    (words.next(), words.next(), words.next())
                else {
                    return Err(format!("{path}: not a program, tests and a reason: {line}").into());
                };
                Ok(Line {
                    is_excepted,
                    program,
                    tests,
                })
            })
            .collect();
        Ok(Self {
            path,
            lines: lines?,
        })
    }

    fn names(&self, program: &str, test: &str) -> bool {
        let mut of_test = self.lines.iter().filter(|line| line.names(program, test));
        let is_excepted = of_test.clone().any(|line| line.is_excepted);
        !is_excepted && of_test.next().is_some()
    }

    /// Fails where a line names nothing that there is.
    fn check(&self, tests: &[(&str, String)]) -> Result<(), Failure> {
        for line in &self.lines {
            if !tests
                .iter()
                .any(|(program, test)| line.names(program, test))
            {
                let Line { program, tests, .. } = line;
                return Err(format!("{}: there is no {program} {tests}", self.path).into());
            }
        }
        Ok(())
    }
}

impl Line {
    fn names(&self, program: &str, test: &str) -> bool {
        let is_of_test = match self.tests {
            "*" => true,
            group if group.ends_with("::") => test.starts_with(group),
            one => test == one,
        };
        program == self.program && is_of_test
    }
}
