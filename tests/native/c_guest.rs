//! The example in C, built as its own comment says.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use cellwall::native::Options;

use super::runner::{Native, World};

const SOURCE: &str = include_str!("../../guests/c/hello.c");

/// The words of the command in the comment.
fn command() -> Vec<&'static str> {
    let mut words = Vec::new();
    let lines = SOURCE.lines().map(|line| line.trim_start_matches(" *"));
    let lines = lines.skip_while(|line| !line.starts_with("     cc "));
    for line in lines {
        let more = line.ends_with('\\');
        words.extend(line.trim_end_matches('\\').split_whitespace());
        if !more {
            break;
        }
    }
    words
}

/// Compiles it to `output` in the repository's root. None if there is no compiler to start.
fn compile(output: &Path, options: &[&str]) -> Option<Output> {
    let words = command();
    let (compiler, words) = words.split_first().expect("a command in hello.c");
    assert_eq!(*compiler, "cc");
    assert!(words.contains(&"guests/c/hello.c") && words.contains(&"-static-pie"));
    let words = words.iter().map(|word| match *word {
        "hello" => output.as_os_str().to_owned(),
        word => word.into(),
    });
    let run = Command::new(compiler)
        .args(words)
        .args(options)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output();
    match run {
        Ok(done) => Some(done),
        Err(error) => {
            absence::absent("c-compiler", error);
            None
        }
    }
}

#[test]
fn the_example_in_c_says_hello() {
    let folder = tempfile::tempdir().unwrap();
    for options in [
        &[][..],
        &["-O0"],
        &["-O3", "-march=x86-64-v2"],
        &["-Os", "-g"],
    ] {
        let output: PathBuf = folder.path().join("hello");
        let Some(done) = compile(&output, options) else {
            return;
        };
        let words = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "{options:?}: {words}");
        assert_eq!(words, "", "{options:?}: warnings");
        let file = std::fs::read(&output).unwrap();
        let guest = Native::load(&file, &Options::new());
        let run = guest.run_in(World {
            args: &[b"one", b"two words"],
            ..World::default()
        });
        let expected = b"Hello from a Cellwall guest in C!\nargument: one\nargument: two words\n";
        run.assert_output(&format!("{options:?}"), expected);
        // Nobody reads it: the guest's own status.
        let closed = guest.run_in(World {
            stdout_room: 5,
            ..World::default()
        });
        assert_eq!(closed.end, cellwall::Interrupt::Finished(1), "{options:?}");
        assert_eq!(closed.stdout, b"Hello");
    }
}
