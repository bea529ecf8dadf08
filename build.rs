//! Builds the zygote from source, checks it, and tells the library where its image is.

use std::path::PathBuf;
use std::{env, fs};

use freestanding::check::{self, Expect};
use freestanding::{Link, Request};
use vmctx::map;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    match image() {
        Ok(image) => println!("cargo::rustc-env=CELLWALL_ZYGOTE_IMAGE={}", image.display()),
        Err(error) => {
            for line in format!("the zygote could not be built: {error}").lines() {
                println!("cargo::error={line}");
            }
        }
    }
}

fn image() -> Result<PathBuf, Box<dyn std::error::Error>> {
    let workspace = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let target_dir = PathBuf::from(env::var("OUT_DIR")?).join("zygote");
    freestanding::watch(
        &workspace,
        &["link.ld", "zygote", "linux-raw/src", "vmctx/src"],
    );
    // The layer tests' own build of everything (`cargo xtask layers`).
    let switch: &[&str] = match env::var_os("CARGO_CFG_CELLWALL_LAYER_SWITCH") {
        Some(_) => &["cellwall_layer_switch"],
        None => &[],
    };
    let request = Request {
        workspace: &workspace,
        package: "cellwall-zygote",
        bins: &["zygote"],
        target_dir: &target_dir,
        link: Link::Fixed {
            script: &workspace.join("link.ld"),
        },
        strip: true,
        cfgs: switch,
    };
    let images = freestanding::build(&request)?;
    let image = images.into_iter().next().ok_or("no image was built")?;
    let expected = Expect {
        entry: map::IMAGE,
        image: map::IMAGE,
        bytes_max: map::IMAGE_BYTES_MAX,
    };
    check::fixed(&fs::read(&image)?, &expected)?;
    Ok(image)
}
