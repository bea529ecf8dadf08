//! One guest, from its file to its end.

use std::os::unix::ffi::OsStrExt as _;

use cellwall::native::{Options, Program};
use cellwall::{Config, Engine, Error, Instance, Interrupt, abi};
use linux_raw::time::monotonic;

use crate::args::RunArgs;
use crate::ending::{Ending, Stack, status};
use crate::guest;
use crate::serve::{Served, Server};

/// How often each side yields its CPU before it sleeps: more often than by default, since one guest
/// has the machine's other CPU to itself here, and a copy of some 100 KiB outlasts the default.
/// Waking a sleeper costs more than these yields.
const YIELDS: u32 = 200;

/// Runs the guest. When this returns, its worker is gone.
pub(crate) fn run(args: &RunArgs) -> Ending {
    let (Ok(ending) | Err(ending)) = prepare_and_run(args);
    ending
}

fn prepare_and_run(args: &RunArgs) -> Result<Ending, Ending> {
    // The clock runs from here on, so that it also covers a slow start.
    let started = monotonic();
    let Some((name, guest_args)) = args.command.split_first() else {
        return Err(Ending::new(status::FAILED, "no guest was named".into()));
    };
    let file = guest::find(name)?;
    let tier = args.tier.into();
    let failed = |error: Error| Ending::failed(&error, tier);
    // The addresses are the limit, not a number: `--heap` says what the user allows.
    let config = Config::new()
        .tier(tier)
        .memory_limit(abi::GUEST.end)
        .yields(YIELDS);
    let engine = Engine::new(&config).map_err(failed)?;
    let options = Options::new().stack_bytes(args.stack).heap_bytes(args.heap);
    let program =
        Program::load(&engine, &file, &options).map_err(|error| failed(error).about(name))?;
    let mut instance = engine.instantiate(program.module()).map_err(failed)?;
    let guest_args: Vec<&[u8]> = guest_args.iter().map(|arg| arg.as_bytes()).collect();
    program.enter(&mut instance, &guest_args).map_err(failed)?;
    let stack = Stack {
        top: program.module().stack_top(),
        bytes: args.stack,
    };
    let deadline = args.deadline.map(|limit| started.saturating_add(limit));
    let ended = until_the_end(&mut instance, Server::new(deadline), deadline).map_err(failed)?;
    Ok(match ended {
        Ended::Finished(value) => Ending::finished(value),
        Ended::Panicked(message) => Ending::panicked(&message),
        Ended::Deadline => Ending::deadline(args.deadline.unwrap_or_default()),
        Ended::Trapped(trap) => Ending::trapped(&trap, &stack),
        Ended::Died(death) => Ending::died(death),
        Ended::Unexpected(interrupt) => Ending::new(
            status::FAILED,
            format!("this command cannot answer: {interrupt}"),
        ),
    })
}

/// How a guest came to its end.
enum Ended {
    Finished(u64),
    Panicked(String),
    Deadline,
    Trapped(cellwall::Trap),
    Died(cellwall::Death),
    Unexpected(Interrupt),
}

/// Serves hostcalls until there is no next one.
fn until_the_end(
    instance: &mut Instance,
    mut server: Server,
    deadline: Option<std::time::Duration>,
) -> Result<Ended, Error> {
    loop {
        // The deadline is one for all turns together, and for what is between them.
        instance.set_deadline(deadline.map(|deadline| deadline.saturating_sub(monotonic())));
        let call = match instance.run()? {
            Interrupt::Hostcall(call) => call,
            Interrupt::Finished(value) => return Ok(Ended::Finished(value)),
            Interrupt::Trap(trap) => return Ok(Ended::Trapped(trap)),
            Interrupt::Deadline => return Ok(Ended::Deadline),
            Interrupt::Died(death) => return Ok(Ended::Died(death)),
            other => return Ok(Ended::Unexpected(other)),
        };
        match server.serve(&call, instance) {
            Served::Answer(answer) => instance.answer(answer)?,
            Served::Deadline => return Ok(Ended::Deadline),
            Served::Panicked(message) => return Ok(Ended::Panicked(message)),
        }
    }
}
