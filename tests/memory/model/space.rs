//! What the model and an instance can both be asked.

use std::sync::Arc;

use cellwall::abi::Span;
use cellwall::{Access, Blame, Error, Instance, Misuse, Protection, Stage, Template};

/// On whose behalf memory is accessed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    Guest,
    Host,
}

/// A template and what is in it.
#[derive(Clone)]
pub(super) struct Stencil {
    pub(super) template: Template,
    pub(super) contents: Arc<Vec<u8>>,
}

/// Memory, real or modelled. The methods are an instance's.
pub(super) trait Space {
    fn map_zero(&mut self, address: u64, length: u64, to: Protection) -> Result<(), Misuse>;
    fn map_data(&mut self, address: u64, contents: &[u8], to: Protection) -> Result<(), Misuse>;
    fn map_template(
        &mut self,
        address: u64,
        stencil: &Stencil,
        to: Protection,
    ) -> Result<(), Misuse>;
    fn guard(&mut self, address: u64, length: u64) -> Result<(), Misuse>;
    fn protect(&mut self, address: u64, length: u64, to: Protection) -> Result<(), Misuse>;
    fn unmap(&mut self, address: u64, length: u64) -> Result<(), Misuse>;
    fn grow_heap(&mut self, bytes: i64) -> Result<u64, Misuse>;
    fn read(&mut self, address: u64, length: usize, by: By) -> Result<Vec<u8>, Misuse>;
    fn write(&mut self, address: u64, from: &[u8], by: By) -> Result<(), Misuse>;
    fn load(&mut self, address: u64, width: usize) -> Result<u64, Misuse>;
    fn store(&mut self, address: u64, width: usize, value: u64) -> Result<(), Misuse>;
    fn zero(&mut self, address: u64, length: u64) -> Result<(), Misuse>;
    fn set_input(&mut self, input: &[u8]) -> Result<(), Misuse>;
    fn is_accessible(&self, address: u64, length: u64, access: Access) -> bool;
    fn absent_around(&self, address: u64, pages: u32) -> Span;
}

/// What the caller did wrong. Nothing else may happen, and nowhere else.
pub(super) fn misuse<T>(done: Result<T, Error>, stage: Stage) -> Result<T, Misuse> {
    done.map_err(|error| match error.blame {
        Blame::Caller(misuse) if error.stage == stage => misuse,
        _ => panic!("{error}"),
    })
}

/// The same for a request of memory.
pub(super) fn memory<T>(done: Result<T, Error>) -> Result<T, Misuse> {
    misuse(done, Stage::Memory)
}

impl Space for Instance {
    fn map_zero(&mut self, address: u64, length: u64, to: Protection) -> Result<(), Misuse> {
        memory(self.map_zero(address, length, to))
    }

    fn map_data(&mut self, address: u64, contents: &[u8], to: Protection) -> Result<(), Misuse> {
        memory(self.map_data(address, contents, to))
    }

    fn map_template(
        &mut self,
        address: u64,
        stencil: &Stencil,
        to: Protection,
    ) -> Result<(), Misuse> {
        memory(self.map_template(address, &stencil.template, to))
    }

    fn guard(&mut self, address: u64, length: u64) -> Result<(), Misuse> {
        memory(self.guard(address, length))
    }

    fn protect(&mut self, address: u64, length: u64, to: Protection) -> Result<(), Misuse> {
        memory(self.protect(address, length, to))
    }

    fn unmap(&mut self, address: u64, length: u64) -> Result<(), Misuse> {
        memory(self.unmap(address, length))
    }

    fn grow_heap(&mut self, bytes: i64) -> Result<u64, Misuse> {
        memory(self.grow_heap(bytes))
    }

    fn read(&mut self, address: u64, length: usize, by: By) -> Result<Vec<u8>, Misuse> {
        match by {
            By::Guest => memory(self.read(address, length as u64)),
            By::Host => {
                let mut bytes = vec![0xa5; length];
                memory(self.read_as_host(address, &mut bytes)).map(|()| bytes)
            }
        }
    }

    fn write(&mut self, address: u64, from: &[u8], by: By) -> Result<(), Misuse> {
        memory(match by {
            By::Guest => self.write(address, from),
            By::Host => self.write_as_host(address, from),
        })
    }

    fn load(&mut self, address: u64, width: usize) -> Result<u64, Misuse> {
        memory(match width {
            1 => self.load::<u8>(address).map(u64::from),
            2 => self.load::<u16>(address).map(u64::from),
            4 => self.load::<u32>(address).map(u64::from),
            _ => self.load::<u64>(address),
        })
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "as many bytes as are stored"
    )]
    fn store(&mut self, address: u64, width: usize, value: u64) -> Result<(), Misuse> {
        memory(match width {
            1 => self.store(address, value as u8),
            2 => self.store(address, value as u16),
            4 => self.store(address, value as u32),
            _ => self.store(address, value),
        })
    }

    fn zero(&mut self, address: u64, length: u64) -> Result<(), Misuse> {
        memory(self.zero(address, length))
    }

    fn set_input(&mut self, input: &[u8]) -> Result<(), Misuse> {
        memory(self.set_input(input))
    }

    fn is_accessible(&self, address: u64, length: u64, access: Access) -> bool {
        self.is_accessible(address, length, access)
    }

    fn absent_around(&self, address: u64, pages: u32) -> Span {
        self.absent_around(address, pages)
    }
}
