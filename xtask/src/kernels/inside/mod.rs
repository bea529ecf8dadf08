//! What this program does inside a kernel that it was booted with: as init it makes what the tests
//! want of a system, and starts itself to look at the kernel, as root and as an ordinary user.
//!
//! | file | what |
//! |---|---|
//! | `system` | mounts, the loopback device and groups |
//! | `look` | the probe, the tests and the audit, as one user |

mod look;
mod system;

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use clap::{Args, ValueEnum};
use linux_raw::pidfd::{WaitFlags, WaitStatus, waitid_any};
use linux_raw::{Errno, process};

use crate::Failure;

/// Where this program is; the command line; the folder of test programs, with lists of their tests
/// beside them; and the tools that the tests start.
pub(super) const INIT: &str = "/init";
pub(super) const CELLWALL: &str = "/bin/cellwall";
pub(super) const TESTS: &str = "/tests";
pub(super) const TOOLS: &str = "/bin";

/// How the name of a program's list ends: of what is run where a sandbox can, or where none can.
pub(super) fn names(refused: bool) -> &'static str {
    if refused { "refused" } else { "names" }
}

/// How init's last line begins.
pub(super) const ENDED: &str = "@@@ ended";
pub(super) const FAILED: &str = "@@@ failed: ";

/// What is found is written there, one line for each user: QEMU makes a file of it.
const FINDINGS: &str = "/dev/ttyS1";

/// Who is not root.
const USER: u32 = 1000;
/// Who looks, in this order.
pub(super) const USERS: [u32; 2] = [0, USER];

/// What a quick audit tries: what a kernel answers to guests. The rest hangs on our own code more,
/// or on an emulated CPU, and takes minutes here. That every call by `syscall` kills is a test too.
pub(super) const QUICK_GROUPS: [&str; 3] = ["int 0x80", "escapes", "other modes"];

/// What is looked at.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Part {
    /// The probe, the tests and the audit.
    All,
    /// No probe, no audit.
    Tests,
    /// With the refusal, where one is expected.
    Probe,
}

#[derive(Args)]
pub(crate) struct Inside {
    #[arg(long)]
    pub(super) part: Part,
    /// Only a part of the audit.
    #[arg(long)]
    pub(super) quick: bool,
    /// No sandbox is expected to run here.
    #[arg(long)]
    pub(super) refused: bool,
}

impl Inside {
    /// The words that were understood as this.
    pub(super) fn words(&self) -> Vec<&'static str> {
        let part = match self.part {
            Part::All => "all",
            Part::Tests => "tests",
            Part::Probe => "probe",
        };
        let flags = [(self.quick, "--quick"), (self.refused, "--refused")];
        let given = flags.into_iter().filter(|(is_given, _)| *is_given);
        ["inside", "--part", part]
            .into_iter()
            .chain(given.map(|(_, word)| word))
            .collect()
    }
}

pub(crate) fn run(inside: &Inside) -> Result<(), Failure> {
    // The kernel starts nobody else as the first process.
    if std::process::id() != 1 {
        return look(inside);
    }
    println!();
    match system::settle().and_then(|()| run_again(inside)) {
        Ok(()) => println!("{ENDED}"),
        Err(failure) => println!("{FAILED}{failure}"),
    }
    // Whoever has read this switches the machine off.
    loop {
        std::thread::park();
    }
}

/// Starts this program again to look, and reaps meanwhile whom the tests leave behind.
fn run_again(inside: &Inside) -> Result<(), Failure> {
    let look = Command::new(INIT)
        .args(inside.words())
        .env("PATH", TOOLS)
        .spawn()?;
    loop {
        match waitid_any(WaitFlags::ALL) {
            Ok(Some((pid, status))) if pid.raw() == look.id() => {
                return match status {
                    WaitStatus::Exited(0) => Ok(()),
                    _ => Err("see above".into()),
                };
            }
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(format!("waitid: {errno}").into()),
        }
    }
}

/// Looks as root, and then as the user. What fails is a finding.
fn look(inside: &Inside) -> Result<(), Failure> {
    if process::geteuid() != 0 || !Path::new(CELLWALL).exists() {
        return Err("this is for the inside of a kernel that `cargo xtask kernels` boots".into());
    }
    for (user, group) in USERS.into_iter().zip([system::CGROUPS, system::USERS_OWN]) {
        fs::write(Path::new(group).join("cgroup.procs"), "0")?;
        let mut found = serde_json::to_string(&look::look(inside, user)?)?;
        found.push('\n');
        let mut port = OpenOptions::new().write(true).open(FINDINGS)?;
        // Closing waits until all is out.
        port.write_all(found.as_bytes())?;
    }
    Ok(())
}
