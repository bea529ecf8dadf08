//! The files that the fuzz target has found, or may start from.

use std::fs;
use std::path::Path;

use super::super::LOAD_BIAS;
use super::load_checked;
use super::writer::{Dynamic, Elf, executable, pie, static_pie};

/// The bytes of a file in hexadecimal: white space between bytes, `#` begins a comment.
fn from_hex(text: &str) -> Vec<u8> {
    text.lines()
        .flat_map(|line| line.split('#').next().unwrap_or("").split_whitespace())
        .flat_map(|digits| {
            let pairs = digits.as_bytes().chunks(2);
            pairs.map(|pair| std::str::from_utf8(pair).expect("hexadecimal digits"))
        })
        .map(|pair| u8::from_str_radix(pair, 16).expect("hexadecimal digits"))
        .collect()
}

#[test]
fn files_that_once_went_wrong() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/regressions/elf");
    let mut count = 0;
    for entry in fs::read_dir(&folder).expect("fuzz/regressions/elf is part of the repository") {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "hex") {
            let file = from_hex(&fs::read_to_string(&path).unwrap());
            // What must not happen is a panic or a broken promise; refusing is fine.
            let _ = load_checked(&file);
            count += 1;
        }
    }
    assert_ne!(count, 0, "{} has no files", folder.display());
}

/// Good files of every kind, small.
fn seeds() -> [(&'static str, Elf); 4] {
    let relr = Dynamic {
        relr: vec![pie::DATA, 0xff],
        ..Dynamic::default()
    };
    let plain = Dynamic::default();
    [
        ("executable", executable()),
        ("static-pie", static_pie()),
        ("static-pie-relr", relr.pie()),
        ("static-pie-plain", plain.pie()),
    ]
}

/// They are also written into the folder that `CELLWALL_ELF_SEEDS` names, for the fuzzer.
#[test]
fn seeds_are_good_files() {
    let folder = std::env::var_os("CELLWALL_ELF_SEEDS");
    for (name, seed) in seeds() {
        let file = seed.write();
        let image = load_checked(&file).expect(name);
        assert!(image.entry >= LOAD_BIAS);
        if let Some(folder) = &folder {
            fs::create_dir_all(folder).unwrap();
            fs::write(Path::new(folder).join(name), file).unwrap();
        }
    }
}
