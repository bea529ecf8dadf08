//! From what happened to an exit status and one message: what, where, what to do.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::time::Duration;

use cellwall::{Blame, Death, Errno, Error, Kernel, Misuse, Signal, Stage, Tier, Trap, TrapKind};

use crate::text::escape;

/// Exit statuses that are not the guest's.
pub(crate) mod status {
    /// A guest's value that is too large for a status.
    pub(crate) const TOO_LARGE: u8 = 255;
    pub(crate) const DEADLINE: u8 = 124;
    /// Cellwall or the kernel failed, or the command line makes no sense.
    pub(crate) const FAILED: u8 = 125;
    pub(crate) const INVALID: u8 = 126;
    pub(crate) const NOT_FOUND: u8 = 127;
    /// As a shell shows a process that gave up on itself.
    pub(crate) const ENDED_ITSELF: u8 = 128 + 6;
    /// As a shell shows a killed process.
    pub(crate) const KILLED: u8 = 128 + 9;
}

/// How the command ends.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ending {
    pub(crate) status: u8,
    /// For the standard error, without the line end.
    pub(crate) message: Option<String>,
}

/// What the messages need to know about the guest's memory.
pub(crate) struct Stack {
    /// The address after its end, where it starts to grow down from.
    pub(crate) top: u64,
    pub(crate) bytes: u64,
}

impl Ending {
    pub(crate) fn new(status: u8, message: String) -> Self {
        Self {
            status,
            message: Some(message),
        }
    }

    pub(crate) fn quiet(status: u8) -> Self {
        Self {
            status,
            message: None,
        }
    }

    /// Says which guest the message is about.
    pub(crate) fn about(mut self, guest: &OsStr) -> Self {
        if let Some(message) = &mut self.message {
            *message = format!("\"{}\": {message}", escape(guest.as_bytes()));
        }
        self
    }

    /// A report was printed, or not: then the status must not look as if somebody had read it.
    pub(crate) fn printed(result: Result<(), Errno>, status: u8) -> Self {
        match result {
            Ok(()) => Self::quiet(status),
            Err(errno) => Self::new(
                status::FAILED,
                format!("the standard output cannot be written: {errno}"),
            ),
        }
    }

    /// The guest finished with a value of its own.
    pub(crate) fn finished(value: u64) -> Self {
        u8::try_from(value).map_or_else(
            |_| {
                let message = format!(
                    "the guest finished with {value}, which is no exit status: those go up to 255"
                );
                Self::new(status::TOO_LARGE, message)
            },
            Self::quiet,
        )
    }

    pub(crate) fn panicked(message: &str) -> Self {
        let status = u8::try_from(vmctx::native::PANIC_STATUS).unwrap_or(status::TOO_LARGE);
        Self::new(status, format!("the guest panicked: {message}"))
    }

    pub(crate) fn deadline(limit: Duration) -> Self {
        let message = format!(
            "the guest was stopped: its deadline of {limit:?} passed; --deadline gives it more"
        );
        Self::new(status::DEADLINE, message)
    }

    pub(crate) fn trapped(trap: &Trap, stack: &Stack) -> Self {
        let advice = match trap.kind {
            TrapKind::Memory if trap.address.is_some_and(|address| stack.is_below(address)) => {
                "its stack overflowed; --stack gives it more"
            }
            TrapKind::ForbiddenCall => {
                "guests make hostcalls instead; the kernel killed it and knows no address"
            }
            _ => "this is a fault in the guest, and nothing outside of it was touched",
        };
        let message = format!("the guest was stopped: {trap}; {advice}");
        Self::new(shell_status(trap.kind.signal()), message)
    }

    pub(crate) fn died(death: Death) -> Self {
        match death {
            Death::Exited(status) => Self::new(
                status::ENDED_ITSELF,
                format!(
                    "the guest ended its process with exit_group({status}) instead of finishing; \
                     a guest returns from its entry or jumps to the exit (docs/abi.md)"
                ),
            ),
            Death::Killed(signal) => Self::new(
                shell_status(signal),
                format!(
                    "the guest's process was killed by {signal}: by the kernel, for want of \
                     memory perhaps, or by another process; the kernel's log may tell"
                ),
            ),
            // Unknown, and whatever later versions know.
            _ => Self::new(
                status::FAILED,
                "the guest's process is gone, and something took its exit status".into(),
            ),
        }
    }

    /// An error of the library's. Where the kernel does not let a worker of this tier start, the
    /// probe tells why.
    pub(crate) fn failed(error: &Error, tier: Tier) -> Self {
        Self::explained(error, tier, Kernel::probe)
    }

    fn explained(error: &Error, tier: Tier, probe: impl FnOnce() -> Kernel) -> Self {
        let mut message = error.to_string();
        let status = match &error.blame {
            Blame::Caller(Misuse::Elf(_)) => status::INVALID,
            Blame::Caller(
                Misuse::Region { .. } | Misuse::Overlap(_) | Misuse::MemoryLimit { .. },
            ) => {
                message.push_str("; smaller --heap and --stack may fit");
                status::FAILED
            }
            Blame::Forged(_) => status::KILLED,
            _ => {
                if matches!(
                    error.stage,
                    Stage::Engine | Stage::Start | Stage::Lockdown(_)
                ) {
                    if message.contains("Config::tier") {
                        message.push_str("; to this command, that is --tier without-namespaces");
                    }
                    explain(&mut message, &probe(), tier);
                }
                status::FAILED
            }
        };
        Self::new(status, message)
    }
}

/// Adds what the kernel lacks for a tier.
fn explain(message: &mut String, kernel: &Kernel, tier: Tier) {
    let missing = kernel.missing(tier);
    let mut groups: Vec<(Vec<&str>, String)> = Vec::new();
    for finding in missing.filter(|finding| finding.is_cause()) {
        let advice = finding.advice().unwrap_or_default();
        let why = format!("{}. {advice}", finding.support);
        let name = finding.feature.name();
        match groups.iter_mut().find(|(_, known)| *known == why) {
            Some((names, _)) => names.push(name),
            None => groups.push((vec![name], why)),
        }
    }
    for (names, why) in groups {
        let verb = if names.len() == 1 { "is" } else { "are" };
        // Writing to a string cannot fail.
        let _ = write!(message, "\ncellwall: {} {verb} {why}", names.join(", "));
    }
}

/// As a shell shows a process that a signal ended.
fn shell_status(signal: Signal) -> u8 {
    u8::try_from(signal.raw()).map_or(status::KILLED, |number| 128_u8.saturating_add(number))
}

impl Stack {
    /// Whether the address is on the guard page under the stack.
    fn is_below(&self, address: u64) -> bool {
        let page = vmctx::PAGE_BYTES;
        let bottom = self.top.saturating_sub(self.bytes.next_multiple_of(page));
        (bottom.saturating_sub(page)..bottom).contains(&address)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use cellwall::{
        Access, Blame, Death, Errno, Error, Feature, Forged, Kernel, Misuse, Signal, Stage,
        Support, Tier, Trap, TrapKind,
    };

    use super::{Ending, Stack};

    const STACK: Stack = Stack {
        top: 0x50_0000,
        bytes: 0x1000,
    };

    fn text(ending: &Ending) -> &str {
        ending.message.as_deref().unwrap_or_default()
    }

    #[test]
    fn small_values_are_statuses() {
        assert_eq!(Ending::finished(0), Ending::quiet(0));
        assert_eq!(Ending::finished(255), Ending::quiet(255));
        let large = Ending::finished(256);
        assert_eq!(large.status, 255);
        assert!(text(&large).contains("256"));
    }

    #[test]
    fn traps_are_shown_as_a_shell_shows_signals() {
        let expected = [
            (TrapKind::IllegalInstruction, 132),
            (TrapKind::Breakpoint, 133),
            (TrapKind::Bus, 135),
            (TrapKind::Arithmetic, 136),
            (TrapKind::Memory, 139),
            (TrapKind::ForbiddenCall, 159),
        ];
        for (kind, status) in expected {
            let mut trap = Trap::new(kind);
            trap.address = Some(0x10);
            trap.pc = Some(0x40_1234);
            let ending = Ending::trapped(&trap, &STACK);
            assert_eq!(ending.status, status, "{kind:?}");
            assert!(text(&ending).contains("0x401234"), "{ending:?}");
        }
    }

    #[test]
    fn an_overflown_stack_is_told_from_other_memory() {
        let at = |address| {
            let mut trap = Trap::new(TrapKind::Memory);
            trap.address = address;
            trap.access = Some(Access::Write);
            text(&Ending::trapped(&trap, &STACK)).contains("--stack")
        };
        assert!(at(Some(0x4f_effc)) && at(Some(0x4f_e000)));
        assert!(!at(Some(0x4f_f000)) && !at(Some(0x4f_dfff)) && !at(None));
    }

    #[test]
    fn deaths() {
        assert_eq!(Ending::died(Death::Exited(3)).status, 134);
        assert_eq!(Ending::died(Death::Killed(Signal::KILL)).status, 137);
        assert_eq!(Ending::died(Death::Unknown).status, 125);
        assert!(text(&Ending::deadline(Duration::from_millis(500))).contains("500ms"));
    }

    #[test]
    fn errors_are_told_apart_by_blame() {
        let ending = |stage, blame| {
            let error = Error { stage, blame };
            Ending::explained(&error, Tier::Full, || Kernel::with_everything("6.1"))
        };
        let forged = Blame::Forged(Forged {
            word: "state",
            value: 9,
        });
        assert_eq!(ending(Stage::Run, forged).status, 137);
        let region = Misuse::Region {
            start: 0,
            end: 1,
            fault: cellwall::RegionFault::Outside,
        };
        let region = ending(Stage::Module, Blame::Caller(region));
        assert_eq!(region.status, 125);
        assert!(text(&region).contains("--heap"));
        assert_eq!(ending(Stage::Run, Blame::ReactorGone).status, 125);
    }

    #[test]
    fn a_failed_start_names_what_the_kernel_lacks() {
        let error = Error {
            stage: Stage::Start,
            blame: Blame::Kernel {
                call: "clone3",
                errno: Errno::EPERM,
            },
        };
        let lacking = Support::Absent(Errno::EPERM);
        let kernel = Kernel::with_everything("6.1").with(Feature::UserNamespace, lacking);
        let ending = |tier| Ending::explained(&error, tier, || kernel.clone());
        let lacks = "user-namespace is absent: EPERM";
        let full = ending(Tier::Full);
        assert_eq!(full.status, 125);
        assert!(text(&full).contains(lacks), "{full:?}");
        // What this tier does without is not why it failed.
        let weaker = ending(Tier::WithoutNamespaces);
        assert_eq!(weaker.status, 125);
        assert!(!text(&weaker).contains(lacks), "{weaker:?}");
    }
}
