//! A CPU for each side: what shares one waits for the other.

use linux_raw::scheduling::{get_affinity, set_affinity};

use crate::measure::Failure;

/// How many CPUs a mask can name: more than kernels are made for that this is run on.
const CPUS: usize = 1024;

/// A CPU, by number.
#[derive(Clone, Copy)]
pub(crate) struct Cpu(usize);

impl Cpu {
    /// Its number.
    pub(crate) fn number(self) -> usize {
        self.0
    }

    /// Keeps the calling thread there, and the threads that it starts from now on.
    pub(crate) fn pin(self) -> Result<(), Failure> {
        let mut mask = [0u64; CPUS / 64];
        mask[self.0 / 64] = 1 << (self.0 % 64);
        Ok(set_affinity(&mask)?)
    }
}

/// Those that this thread may run on.
pub(crate) fn all_cpus() -> Result<Vec<Cpu>, Failure> {
    let mut allowed = [0u64; CPUS / 64];
    get_affinity(None, &mut allowed)?;
    let is_allowed = |cpu: &usize| allowed[cpu / 64] & (1 << (cpu % 64)) != 0;
    Ok((0..CPUS).filter(is_allowed).map(Cpu).collect())
}

/// Two of them.
pub(crate) fn two_cpus() -> Result<(Cpu, Cpu), Failure> {
    match all_cpus()?[..] {
        [first, second, ..] => Ok((first, second)),
        _ => Err("needs two CPUs".into()),
    }
}
