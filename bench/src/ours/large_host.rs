//! Starting a worker from a host that is large, and from the same one that is not.

use std::fs::File;

use cellwall::Config;

use super::starts::cold;
use crate::measure::{Failure, Sampler};

/// Resident memory of the large one.
const BYTES: usize = 4 << 30;

/// Its open descriptors.
const DESCRIPTORS: usize = 10_000;

/// With much memory and many descriptors.
pub(crate) fn large() -> Result<Sampler, Failure> {
    // Not zeroes, which would not be there yet.
    let memory = vec![1u8; BYTES];
    let open = || File::open("/dev/null");
    let files: Vec<File> = (0..DESCRIPTORS).map(|_| open()).collect::<Result<_, _>>()?;
    let mut sampler = small()?;
    Ok(Box::new(move || {
        let samples = sampler();
        // Until here.
        std::hint::black_box((&memory, &files));
        samples
    }))
}

/// With what this program has anyway.
pub(crate) fn small() -> Result<Sampler, Failure> {
    cold(&Config::default())
}
