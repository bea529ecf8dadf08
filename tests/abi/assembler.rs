//! From assembly to bytes, by the system's C compiler.

use std::fs;
use std::process::{Command, Stdio};

use cellwall::abi::{FINISH, GAS, HOSTCALL, OUT_OF_GAS};
use object::{Object, ObjectSection};

const TARGET: &str = "x86_64-unknown-linux-gnu";

/// The compiler that `cc` would use, or what was found instead.
pub(crate) fn find() -> Result<cc::Tool, String> {
    let compiler = cc::Build::new()
        .target(TARGET)
        .host(TARGET)
        .opt_level(0)
        .cargo_metadata(false)
        .try_get_compiler()
        .map_err(|error| error.to_string())?;
    let works = compiler
        .to_command()
        .arg("--version")
        .stdout(Stdio::null())
        .status();
    match works {
        Ok(status) if status.success() => Ok(compiler),
        Ok(status) => Err(format!("{} ended with {status}", compiler.path().display())),
        Err(error) => Err(format!("{}: {error}", compiler.path().display())),
    }
}

/// The bytes of the text section.
pub(crate) fn assemble(compiler: &cc::Tool, source: &str) -> Result<Vec<u8>, String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let (text, binary) = (
        folder.path().join("example.s"),
        folder.path().join("example.o"),
    );
    let source = format!(
        ".intel_syntax noprefix\n.set HOSTCALL, {HOSTCALL:#x}\n.set FINISH, {FINISH:#x}\n\
         .set GAS, {GAS:#x}\n.set OUT_OF_GAS, {OUT_OF_GAS:#x}\n\
         .text\n{source}\n"
    );
    fs::write(&text, source).map_err(|error| error.to_string())?;
    let mut command: Command = compiler.to_command();
    let output = command
        .args(["-nostdlib", "-c", "-x", "assembler"])
        .arg(&text)
        .arg("-o")
        .arg(&binary)
        .output()
        .map_err(|error| error.to_string())?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let file = fs::read(&binary).map_err(|error| error.to_string())?;
    let file = object::File::parse(&*file).map_err(|error| error.to_string())?;
    let text = file.section_by_name(".text").ok_or("no text section")?;
    if text.relocations().next().is_some() {
        return Err("a relocation is left: reach fixed addresses through a register".into());
    }
    text.data()
        .map(<[u8]>::to_vec)
        .map_err(|error| error.to_string())
}
