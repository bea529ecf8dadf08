//! Builds the guest programs from source and says where the images are.

use std::env;
use std::path::{Path, PathBuf};

use freestanding::{Link, Request};

/// In the order of `GUESTS` in `src/lib.rs`, which embeds them by these names.
const PROGRAMS: [&str; 6] = ["hello", "gunzip", "png", "spin", "crash", "leak"];

fn main() {
    let here = PathBuf::from(variable("CARGO_MANIFEST_DIR"));
    let out = PathBuf::from(variable("OUT_DIR"));
    let workspace = here.parent().unwrap_or(Path::new("."));
    println!("cargo::rerun-if-changed=build.rs");
    freestanding::watch(workspace, &["guests/programs", "guest", "vmctx"]);

    let request = Request {
        workspace,
        package: "cellwall-guest-programs",
        bins: &PROGRAMS,
        target_dir: &out.join("images"),
        link: Link::StaticPie,
        strip: true,
        cfgs: &[],
    };
    let images = freestanding::build(&request).unwrap_or_else(|error| panic!("{error}"));
    for (program, image) in PROGRAMS.iter().zip(images) {
        let name = program.to_uppercase();
        println!("cargo::rustc-env=CELLWALL_GUEST_{name}={}", image.display());
    }
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|error| panic!("{name}: {error}; run by cargo?"))
}
