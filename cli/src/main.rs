//! The `cellwall` command: runs native guests behind the wall, tells what the kernel offers, and
//! attacks the wall.
//!
//! | file | idea |
//! |---|---|
//! | `args` | the command line; its help is the manual |
//! | `guest` | from a name to an ELF file |
//! | `run` | one guest, from start to end |
//! | `serve` | the hostcalls of a native guest |
//! | `ending` | from what happened to an exit status and a message |
//! | `probe` | what this kernel offers, as a table and as JSON |
//! | `audit` | the wall tested on this kernel: progress, report, status |
//! | `children` | what the kernel keeps of a worker that ended |
//! | `text` | text of the guest's that a terminal may see |
//! | `stdio` | the standard descriptors |

mod args;
mod audit;
mod children;
mod ending;
mod guest;
mod probe;
mod run;
mod serve;
mod stdio;
mod text;

use std::fmt::Write as _;
use std::process::ExitCode;

use clap::Parser as _;

use self::args::{Cli, Command};
use self::ending::{Ending, status};

fn main() -> ExitCode {
    children::announce();
    let ending = match Cli::try_parse() {
        Ok(Cli {
            command: Command::Run(args),
        }) => run::run(&args),
        Ok(Cli {
            command: Command::Guests,
        }) => guests(),
        Ok(Cli {
            command: Command::Probe {
                tries: Some(tier), ..
            },
        }) => probe::try_worker(tier.into()),
        Ok(Cli {
            command: Command::Probe { json, tries: None },
        }) => probe::probe(json),
        Ok(Cli {
            command: Command::Audit(args),
        }) => audit::audit(&args),
        Err(error) => {
            // Help goes to the standard output, a complaint to the standard error; whoever closed
            // either does not want to read it.
            let _ = error.print();
            Ending::quiet(if error.use_stderr() {
                status::FAILED
            } else {
                0
            })
        }
    };
    // By now every worker is gone: what takes long here, such as a terminal that is held up, holds
    // up nobody else.
    if let Some(message) = &ending.message {
        stdio::complain(message);
    }
    ExitCode::from(ending.status)
}

fn guests() -> Ending {
    let mut list = String::new();
    for guest in cellwall_guests::all() {
        // Writing to a string cannot fail.
        let _ = writeln!(list, "{:<8} {}", guest.name, guest.about);
    }
    Ending::printed(stdio::print(&list), 0)
}
