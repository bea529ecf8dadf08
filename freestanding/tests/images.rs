//! Builds a tiny workspace in two folders, checks the images and compares their bytes.

use std::fs;
use std::path::{Path, PathBuf};

use freestanding::check::{self, Expect, Refused};
use freestanding::{Error, Link, Request};

const MANIFEST: &str = r#"
[workspace]
[package]
name = "tiny"
version = "0.1.0"
edition = "2024"
[profile.release]
opt-level = 0
debug = true
"#;

const LOCK: &str = r#"
version = 4
[[package]]
name = "tiny"
version = "0.1.0"
"#;

/// The panics keep paths of source files in the image.
const MAIN: &str = r#"
#![cfg_attr(cellwall_freestanding, no_std, no_main)]
#[cfg(cellwall_freestanding)]
mod image {
    #[unsafe(no_mangle)]
    extern "C" fn _start(numbers: &[u8; 8], index: usize) -> u8 {
        numbers[index % 9..].iter().copied().reduce(|a, b| a ^ b).unwrap()
    }
    #[panic_handler]
    fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
        let place = info.location().map_or("", |location| location.file());
        loop { core::hint::black_box(place); }
    }
}
#[cfg(not(cellwall_freestanding))]
fn main() {}
"#;

const SCRIPT: &str = r"
ENTRY(_start)
PHDRS { text PT_LOAD FLAGS(5); rodata PT_LOAD FLAGS(4); stack PT_GNU_STACK FLAGS(6); }
PROVIDE(rust_eh_personality = 0);
SECTIONS {
  /DISCARD/ : { *(.eh_frame .gcc_except_table .gcc_except_table.* .comment .note.* .debug_gdb_scripts) }
  . = 0x140000000;
  .text : { *(.text .text.*) } :text
  . = ALIGN(0x1000);
  .rodata : { *(.rodata .rodata.*) *(.data.rel.ro .data.rel.ro.*) } :rodata
  .got : { *(.got .got.plt) } :rodata
  .rela : { *(.rela .rela.*) } :rodata
  .symtab 0 : { *(.symtab) }
  .strtab 0 : { *(.strtab) }
  .shstrtab 0 : { *(.shstrtab) }
}
";

fn expect() -> Expect {
    Expect {
        entry: 0x1_4000_0000..0x1_4000_1000,
        image: 0x1_4000_0000..0x1_4010_0000,
        bytes_max: 64 * 1024,
    }
}

/// Lays the workspace out under `folder`.
fn workspace(folder: &Path) -> PathBuf {
    fs::create_dir_all(folder.join("src")).unwrap();
    fs::write(folder.join("Cargo.toml"), MANIFEST).unwrap();
    fs::write(folder.join("Cargo.lock"), LOCK).unwrap();
    fs::write(folder.join("src/main.rs"), MAIN).unwrap();
    fs::write(folder.join("link.ld"), SCRIPT).unwrap();
    folder.to_owned()
}

fn build(folder: &Path, link: Link<'_>) -> Vec<u8> {
    let request = Request {
        workspace: folder,
        package: "tiny",
        bins: &["tiny"],
        target_dir: &folder.join("images"),
        link,
        strip: true,
        cfgs: &[],
    };
    let images = freestanding::build(&request).unwrap_or_else(|error| panic!("{error}"));
    fs::read(&images[0]).unwrap()
}

#[test]
fn fixed_image_is_accepted_and_the_same_from_two_folders() {
    let place = tempfile::tempdir().unwrap();
    let one = workspace(&place.path().join("one"));
    let other = workspace(&place.path().join("another/folder"));
    let first = build(
        &one,
        Link::Fixed {
            script: &one.join("link.ld"),
        },
    );
    let second = build(
        &other,
        Link::Fixed {
            script: &other.join("link.ld"),
        },
    );
    assert!(first == second, "the bytes depend on the folder");

    let report = check::fixed(&first, &expect()).unwrap();
    assert_eq!(report.segments[0].address, 0x1_4000_0000);
    let too_small = Expect {
        bytes_max: 100,
        ..expect()
    };
    assert!(matches!(
        check::fixed(&first, &too_small),
        Err(Refused::TooLarge { .. })
    ));
    let elsewhere = Expect {
        image: 0x1000..0x2000,
        ..expect()
    };
    assert!(matches!(
        check::fixed(&first, &elsewhere),
        Err(Refused::Placement(_))
    ));
    let entered_elsewhere = Expect {
        entry: 0..1,
        ..expect()
    };
    assert!(matches!(
        check::fixed(&first, &entered_elsewhere),
        Err(Refused::Entry(_))
    ));
    for length in 0..first.len().min(1024) {
        assert!(
            check::fixed(&first[..length], &expect()).is_err(),
            "cut at {length}"
        );
    }
}

#[test]
fn changed_script_links_again() {
    let place = tempfile::tempdir().unwrap();
    let folder = workspace(place.path());
    let script = folder.join("link.ld");
    build(&folder, Link::Fixed { script: &script });
    fs::write(&script, SCRIPT.replace("0x140000000", "0x140002000")).unwrap();
    let image = build(&folder, Link::Fixed { script: &script });
    let wide = Expect {
        entry: expect().image,
        ..expect()
    };
    assert_eq!(
        check::fixed(&image, &wide).unwrap().segments[0].address,
        0x1_4000_2000
    );
}

#[test]
fn static_pie_and_native_programs_are_no_fixed_images() {
    let place = tempfile::tempdir().unwrap();
    let folder = workspace(place.path());
    let pie = build(&folder, Link::StaticPie);
    assert_eq!(
        check::fixed(&pie, &expect()),
        Err(Refused::Kind("position-independent"))
    );
    let native = build(&folder, Link::Native);
    assert_eq!(
        check::fixed(&native, &expect()),
        Err(Refused::Kind("position-independent"))
    );
}

#[test]
fn failure_says_what_the_compiler_said() {
    let place = tempfile::tempdir().unwrap();
    let folder = workspace(place.path());
    fs::write(folder.join("src/main.rs"), "fn main() { no_such_thing() }").unwrap();
    let request = Request {
        workspace: &folder,
        package: "tiny",
        bins: &["tiny"],
        target_dir: &folder.join("images"),
        link: Link::Native,
        strip: false,
        cfgs: &[],
    };
    let error = freestanding::build(&request).unwrap_err();
    assert!(matches!(error, Error::Build { .. }));
    assert!(error.to_string().contains("no_such_thing"), "{error}");
}
