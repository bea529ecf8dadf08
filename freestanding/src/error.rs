//! Why there is no image, and what to do about it.

use std::io;
use std::path::PathBuf;

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A tool of the toolchain did not start.
    #[error(
        "cannot start `{program}`: {source}; install the Rust toolchain from https://rustup.rs, or \
         point the environment variable {variable} at it"
    )]
    Start {
        /// What was to be started.
        program: String,
        /// The environment variable that says where it is.
        variable: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The compiler did not answer a question about itself.
    #[error("`{program} {question}` failed: {output}; reinstall the Rust toolchain")]
    Toolchain {
        /// The compiler.
        program: String,
        /// What it was asked.
        question: String,
        /// What it said.
        output: String,
    },
    /// A file or folder that the build needs could not be read or written.
    #[error("{action} {}: {source}; check that it exists and its permissions", path.display())]
    File {
        /// What was tried, as a verb.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Cargo could not build the package.
    #[error("building {package} as a freestanding image failed{hint}. Cargo said:\n{output}")]
    Build {
        /// The package.
        package: String,
        /// What to do, where the output tells.
        hint: &'static str,
        /// Cargo's and the compiler's messages.
        output: String,
    },
    /// Cargo reported success, and the image is not there.
    #[error(
        "cargo built {package} and left no image at {}; does the package have a binary of that \
         name?",
        path.display()
    )]
    Missing {
        /// The package.
        package: String,
        /// Where the image should be.
        path: PathBuf,
    },
}

impl Error {
    /// A failed build, with advice for the causes that a user can do something about.
    pub(crate) fn build(package: &str, output: String) -> Self {
        let hint = if output.contains("can't find crate for `core`") {
            ": the toolchain lacks the target; run `rustup target add x86_64-unknown-linux-gnu`"
        } else if output.contains("rust-lld` not found") {
            ": the toolchain lacks its linker rust-lld; use a toolchain from https://rustup.rs"
        } else if output.contains("--locked was passed") {
            ": Cargo.lock does not match the manifests; run `cargo update --workspace`"
        } else if output.contains("failed to download") || output.contains("Couldn't resolve host")
        {
            ": a dependency is not on this machine; run `cargo fetch --locked` with a network"
        } else if output.contains("offline") || output.contains("no matching package") {
            ": the image is built by a second cargo in Cellwall's own folder, which knows nothing of \
             the vendored or replaced sources of another workspace; run `cargo fetch --locked` in \
             Cellwall's folder with a network, or vendor its workspace too"
        } else {
            ""
        };
        Self::Build {
            package: package.to_owned(),
            hint,
            output,
        }
    }
}
