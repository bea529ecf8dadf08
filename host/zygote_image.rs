//! The zygote's image, built from source by `build.rs`.

/// The ELF file that every worker executes.
pub(crate) static BYTES: &[u8] = include_bytes!(env!("CELLWALL_ZYGOTE_IMAGE"));
