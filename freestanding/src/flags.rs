//! The compiler flags and profile of an image: all that decides its bytes, besides the sources.

use std::path::{Path, PathBuf};

use crate::{Link, Request};

/// Separates flags in `CARGO_ENCODED_RUSTFLAGS`.
const SEPARATOR: &str = "\x1f";

/// Of every build, so that a native twin differs from its guest in nothing but the link.
const COMMON: [&str; 2] = ["-Ctarget-cpu=x86-64", "-Cforce-unwind-tables=no"];

/// Of every freestanding image.
const FREESTANDING: [&str; 10] = [
    "--cfg=cellwall_freestanding",
    // Fixed images too: the addresses lie above what absolute 32-bit references reach.
    "-Crelocation-model=pie",
    // The toolchain's own linker, directly: a C compiler would add start files and libraries,
    // and need not be installed.
    "-Clinker=rust-lld",
    "-Clinker-flavor=ld.lld",
    "-Clink-arg=-static",
    "-Clink-arg=-znoexecstack",
    "-Clink-arg=-zmax-page-size=4096",
    // Nobody reads them, and they change with things that are none of the program's.
    "-Clink-arg=--build-id=none",
    "-Clink-arg=--no-eh-frame-hdr",
    // Ours is not a dynamic loader that would make pages read-only after relocating them.
    "-Clink-arg=-znorelro",
];

/// Of images at fixed addresses.
const FIXED: [&str; 3] = [
    "-Clink-arg=-no-pie",
    // A section that the script does not name would land where nobody expects it.
    "-Clink-arg=--orphan-handling=error",
    "-Clink-arg=--fatal-warnings",
];

/// Of images that are placed by a loader.
const STATIC_PIE: [&str; 4] = [
    "-Clink-arg=-pie",
    "-Clink-arg=--no-dynamic-linker",
    // Refuses relocations in read-only segments: a loader need never write to code.
    "-Clink-arg=-ztext",
    "-Clink-arg=--no-undefined",
];

/// The value of `CARGO_ENCODED_RUSTFLAGS`. `script` is the linker script's copy.
pub(crate) fn encoded(
    request: &Request<'_>,
    script: Option<&Path>,
    remaps: &[(PathBuf, String)],
) -> String {
    let mut flags: Vec<String> = Vec::new();
    let mut add = |more: &[&str]| flags.extend(more.iter().map(|&flag| flag.to_owned()));
    add(&COMMON);
    match request.link {
        Link::Fixed { .. } => {
            add(&FREESTANDING);
            add(&FIXED);
        }
        Link::StaticPie => {
            add(&FREESTANDING);
            add(&STATIC_PIE);
        }
        Link::Native => {}
    }
    if let Some(script) = script {
        flags.push(format!("-Clink-arg=-T{}", script.display()));
    }
    for cfg in request.cfgs {
        flags.push(format!("--cfg={cfg}"));
    }
    for (from, to) in remaps {
        flags.push(format!("--remap-path-prefix={}={to}", from.display()));
    }
    flags.join(SEPARATOR)
}

/// The name of the profile, and of the folder in the target directory.
pub(crate) const PROFILE: &str = "freestanding";

/// Every setting of the profile, so that none comes from the caller's configuration.
pub(crate) fn profile(strip: bool) -> Vec<String> {
    let whole = [
        "inherits='release'",
        "lto='fat'",
        "panic='abort'",
        "rpath=false",
        if strip {
            "strip='symbols'"
        } else {
            "strip='debuginfo'"
        },
    ];
    let each = [
        "opt-level=3",
        "codegen-units=1",
        "debug=false",
        "debug-assertions=false",
        "overflow-checks=false",
        "incremental=false",
        "split-debuginfo='off'",
    ];
    // Said of the dependencies once more: a configuration may have settings for those alone.
    let everything = whole
        .iter()
        .chain(&each)
        .map(|setting| format!("profile.{PROFILE}.{setting}"));
    let dependencies = each
        .iter()
        .map(|setting| format!("profile.{PROFILE}.package.'*'.{setting}"));
    everything.chain(dependencies).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(link: Link<'_>) -> Request<'_> {
        Request {
            workspace: Path::new("/a"),
            package: "package",
            bins: &["program"],
            target_dir: Path::new("/b"),
            link,
            strip: true,
            cfgs: &["a_switch"],
        }
    }

    #[test]
    fn fixed_images_get_the_script_and_no_pie() {
        let script = Path::new("/a/link.ld");
        let remaps = [(PathBuf::from("/home/me"), "/cellwall".to_owned())];
        let flags = encoded(&request(Link::Fixed { script }), Some(script), &remaps);
        let flags: Vec<&str> = flags.split(SEPARATOR).collect();
        assert!(flags.contains(&"-Clink-arg=-T/a/link.ld"));
        assert!(flags.contains(&"-Clink-arg=-no-pie"));
        assert!(flags.contains(&"--cfg=a_switch"));
        assert!(flags.contains(&"--remap-path-prefix=/home/me=/cellwall"));
        assert!(!flags.contains(&"-Clink-arg=-pie"));
    }

    #[test]
    fn native_twins_are_not_freestanding() {
        let flags = encoded(&request(Link::Native), None, &[]);
        assert!(!flags.contains("cellwall_freestanding") && !flags.contains("rust-lld"));
    }
}
