//! What a developer of Cellwall runs. `cargo xtask help` is the manual.

mod abi;
mod apt;
mod bench;
mod clippy;
mod headers;
mod kernels;
mod layers;
mod rules;
mod soak;
mod suite;
mod tidy;
mod zygote;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// A failure, as the person who ran the task reads it.
type Failure = Box<dyn std::error::Error>;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Developer tasks of Cellwall")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Builds the zygote's image from source; prints its size, segments and sha256.
    BuildZygote {
        /// Also verify its addresses, that the filter's rules are the calls that it makes, that it
        /// cannot leave out layers, and that two folders give the same bytes.
        #[arg(long)]
        check: bool,
    },
    /// Checks what the compiler does not: lengths of files, functions and comments' lines, listed
    /// unsafe, module docs, leftovers.
    Tidy,
    /// Runs clippy over the code that an ordinary build leaves out: zygote and guests.
    ClippyFreestanding,
    /// Attacks each layer of the wall alone, in a build that can leave out the others.
    Layers,
    /// Writes the tables of docs/abi.md and docs/threat-model.md from vmctx.
    Abi {
        /// Change nothing; fail if the file is not what would be written.
        #[arg(long)]
        check: bool,
    },
    /// Compares the kernel's numbers that are written by hand with its newest headers, from the
    /// machine's package sources.
    Headers,
    /// Runs the tests in other surroundings: as another user, as in a container, or both.
    Suite(suite::Suite),
    /// Starts a program in such surroundings: to try how something fails in a container.
    Confine(suite::Confined),
    /// Measures, and prints each figure beside a peer's and the machine's limit: `bench --help`.
    Bench(bench::Options),
    /// Hammers the library from many threads, kills workers and nurseries meanwhile, and checks all
    /// that it answers: `soak --help`.
    Soak(soak::Options),
    /// Runs the tests inside other kernels, in QEMU, as root and as an ordinary user.
    Kernels(kernels::Options),
    /// What the former runs in there.
    #[command(hide = true)]
    Inside(kernels::Inside),
}

fn main() -> ExitCode {
    let root = root();
    let result = match Arguments::parse().task {
        Task::BuildZygote { check } => zygote::run(&root, check),
        Task::Tidy => tidy::run(&root),
        Task::ClippyFreestanding => clippy::run(&root),
        Task::Layers => layers::run(&root),
        Task::Abi { check } => abi::run(&root, check),
        Task::Headers => headers::run(&root),
        Task::Suite(suite) => suite::run(&root, &suite),
        Task::Confine(confined) => suite::confine(&confined),
        Task::Bench(options) => bench::run(&root, &options),
        Task::Soak(options) => soak::run(&root, &options),
        Task::Kernels(options) => kernels::run(&root, &options),
        Task::Inside(inside) => kernels::run_inside(&inside),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("xtask: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// Where builds go.
fn target(root: &Path) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or(root.join("target"), PathBuf::from)
}

/// The workspace's folder.
fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}
