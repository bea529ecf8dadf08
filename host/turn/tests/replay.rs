//! The scripts that the fuzz target has found, or may start from.

use std::fs;
use std::path::Path;

use proptest::collection::vec;
use proptest::prelude::{any, proptest};

use super::super::hostile::conversation;

/// The bytes of a file in hexadecimal: white space between bytes, `#` begins a comment.
fn from_hex(text: &str) -> Vec<u8> {
    text.lines()
        .flat_map(|line| line.split('#').next().unwrap_or("").split_whitespace())
        .map(|byte| u8::from_str_radix(byte, 16).expect("two hexadecimal digits"))
        .collect()
}

#[test]
fn scripts_of_the_fuzz_target() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/regressions/turn");
    let mut count = 0;
    for entry in fs::read_dir(&folder).expect("fuzz/regressions/turn is part of the repository") {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "hex") {
            let turns = conversation(&from_hex(&fs::read_to_string(&path).unwrap()));
            // Those that say what the bytes mean.
            let name = path.file_stem().and_then(|name| name.to_str());
            match name {
                Some("honest" | "interrupted") => assert_eq!(turns, 4, "{name:?}"),
                Some("out-of-gas") => assert_eq!(turns, 5, "{name:?}"),
                _ => {}
            }
            println!("{}: {turns} turns", path.display());
            count += 1;
        }
    }
    assert_ne!(count, 0, "{} has no files", folder.display());
}

proptest! {
    #[test]
    fn any_script(script in vec(any::<u8>(), 0..200)) {
        conversation(&script);
    }
}
