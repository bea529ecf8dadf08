//! What an instance takes that does nothing any more.

use std::io::Write as _;

use cellwall::native::{Options, Program};
use cellwall::{Config, Engine, Instance, Interrupt, PoolConfig};
use flate2::Compression;
use flate2::write::GzEncoder;
use vmctx::native::{READ, WRITE};

use super::guest::unexpected;
use crate::machine::memory_of_each;
use crate::measure::{Failure, Sampler};

/// How many there are at once.
const INSTANCES: u32 = 1000;

/// Bytes that each one unpacks.
const BYTES: usize = 256 << 10;

/// Memory of each live instance that has run gunzip once and was reset, in KiB.
pub(crate) fn memory() -> Result<Sampler, Failure> {
    // It keeps nothing of its guest's memory when it is reset.
    let config = Config::default().pool(PoolConfig::new().idle_memory(0));
    let engine = Engine::new(&config)?;
    let guest = cellwall_guests::by_name("gunzip").ok_or("there is no gunzip")?;
    let program = Program::load(&engine, guest.image, &Options::new())?;
    let input = input()?;
    Ok(Box::new(move || {
        // What all of them share.
        let _first = used(&engine, &program, &input)?;
        let each = memory_of_each(INSTANCES, || -> Result<Vec<Instance>, Failure> {
            let one = |_| used(&engine, &program, &input);
            (0..INSTANCES).map(one).collect()
        });
        Ok(vec![each?])
    }))
}

/// Text that compresses.
fn input() -> Result<Vec<u8>, Failure> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    for line in 0..BYTES / 16 {
        writeln!(encoder, "line {line:>10}")?;
    }
    Ok(encoder.finish()?)
}

/// An instance that has unpacked the input and was reset.
fn used(engine: &Engine, program: &Program, input: &[u8]) -> Result<Instance, Failure> {
    let mut instance = engine.instantiate(program.module())?;
    program.enter::<&str>(&mut instance, &[])?;
    let (mut rest, mut written) = (input, 0);
    loop {
        let call = match instance.run()? {
            Interrupt::Hostcall(call) => call,
            Interrupt::Finished(0) if written == BYTES => break,
            other => return Err(unexpected(other)),
        };
        let [_, address, length, ..] = call.args;
        let answer = match call.number {
            READ => {
                let (bytes, after) = rest.split_at(usize::try_from(length)?.min(rest.len()));
                instance.write(address, bytes)?;
                rest = after;
                u64::try_from(bytes.len())?
            }
            WRITE => {
                written += instance.read(address, length)?.len();
                length
            }
            number => return Err(format!("gunzip made hostcall {number}").into()),
        };
        instance.answer(answer)?;
    }
    instance.reset()?;
    Ok(instance)
}
