//! Whose turn it is, and what may follow what.

use crate::alleged::{Alleged, Forged};

/// One step of the conversation. The low eight bits of the [`StateWord`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// The worker locks itself down. A new page reads so.
    Boot = 0,
    /// The worker is locked down and waits for its first order.
    Idle = 1,
    /// The host's order: enter the guest at the host page's entry.
    Enter = 2,
    /// The host's order: go on after a hostcall, with the answer in the turn line; or else where
    /// the guest was, after a fault, an interruption or without gas.
    Resume = 3,
    /// The guest makes a hostcall; number and arguments are in the turn line.
    Hostcall = 4,
    /// The guest finished; its value is in the turn line.
    Finished = 5,
    /// The guest trapped; the report is in the guest page.
    Trapped = 6,
    /// The host's signal stopped the guest; its registers are in the guest page.
    Interrupted = 7,
    /// The guest found that its gas is used up.
    OutOfGas = 8,
}

impl State {
    /// Every state, for tests and tables.
    pub const ALL: [Self; 9] = [
        Self::Boot,
        Self::Idle,
        Self::Enter,
        Self::Resume,
        Self::Hostcall,
        Self::Finished,
        Self::Trapped,
        Self::Interrupted,
        Self::OutOfGas,
    ];

    /// The state with this number.
    #[must_use]
    pub const fn from_bits(bits: u8) -> Option<Self> {
        Some(match bits {
            0 => Self::Boot,
            1 => Self::Idle,
            2 => Self::Enter,
            3 => Self::Resume,
            4 => Self::Hostcall,
            5 => Self::Finished,
            6 => Self::Trapped,
            7 => Self::Interrupted,
            8 => Self::OutOfGas,
            _ => return None,
        })
    }

    /// Whether the host may do something now; otherwise the worker has the turn.
    #[must_use]
    pub const fn is_hosts_turn(self) -> bool {
        matches!(
            self,
            Self::Idle
                | Self::Hostcall
                | Self::Finished
                | Self::Trapped
                | Self::Interrupted
                | Self::OutOfGas
        )
    }

    /// Whether `self` may come after `before`: the legal edges of the conversation.
    #[must_use]
    pub const fn may_follow(self, before: Self) -> bool {
        match self {
            Self::Boot => false,
            Self::Idle => matches!(before, Self::Boot),
            Self::Enter => before.is_hosts_turn(),
            Self::Resume => matches!(
                before,
                Self::Hostcall | Self::Trapped | Self::Interrupted | Self::OutOfGas
            ),
            Self::Hostcall
            | Self::Finished
            | Self::Trapped
            | Self::Interrupted
            | Self::OutOfGas => {
                matches!(before, Self::Enter | Self::Resume)
            }
        }
    }
}

/// The state with who sleeps on it and which CPU wrote it.
///
/// | bits | what |
/// |---|---|
/// | 0–7 | [`State`] |
/// | 8 | the host sleeps in a futex wait on this word |
/// | 9 | the worker sleeps in a futex wait on this word |
/// | 16–31 | one more than the CPU that the writer ran on; 0 says nothing |
///
/// The CPU is a hint for the other side's decision to spin: a side looks where it is only once
/// spinning has failed, and a stale or forged hint costs a spin or saves one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateWord(u32);

impl StateWord {
    /// The bit that says: wake the host.
    pub const HOST_SLEEPS: u32 = 1 << 8;
    /// The bit that says: wake the worker.
    pub const WORKER_SLEEPS: u32 = 1 << 9;
    /// Where the CPU hint begins.
    pub const CPU_SHIFT: u32 = 16;

    /// The word that publishes `state`, written on `cpu`. A CPU that does not fit is left out.
    #[must_use]
    pub const fn publish(state: State, cpu: u32) -> Self {
        let hint = if cpu < 0xffff { cpu + 1 } else { 0 };
        Self(state as u32 | hint << Self::CPU_SHIFT)
    }

    /// The word as it was read; nothing is believed by that.
    #[must_use]
    pub const fn from_raw(raw: u32) -> Self {
        Self(raw)
    }

    /// The bits.
    #[must_use]
    pub const fn raw(self) -> u32 {
        self.0
    }

    /// The state bits, not yet judged.
    #[must_use]
    pub const fn alleged_state(self) -> Alleged<u8> {
        Alleged::new((self.0 & 0xff) as u8)
    }

    /// Whether the state bits are those of `state`.
    #[must_use]
    pub const fn is(self, state: State) -> bool {
        self.0 & 0xff == state as u32
    }

    /// The CPU that the writer claims to have run on.
    #[must_use]
    pub const fn cpu_hint(self) -> Option<u32> {
        (self.0 >> Self::CPU_SHIFT).checked_sub(1)
    }

    /// Whether the host has said that it sleeps.
    #[must_use]
    pub const fn host_sleeps(self) -> bool {
        self.0 & Self::HOST_SLEEPS != 0
    }

    /// Whether the worker has said that it sleeps.
    #[must_use]
    pub const fn worker_sleeps(self) -> bool {
        self.0 & Self::WORKER_SLEEPS != 0
    }

    /// The same word as if nobody slept.
    #[must_use]
    pub const fn awake(self) -> Self {
        Self(self.0 & !(Self::HOST_SLEEPS | Self::WORKER_SLEEPS))
    }

    /// The same word with the host's sleep bit set.
    #[must_use]
    pub const fn with_host_asleep(self) -> Self {
        Self(self.0 | Self::HOST_SLEEPS)
    }
}

impl Alleged<u8> {
    /// The state, if there is one with this number and it may follow `before`.
    ///
    /// # Errors
    ///
    /// [`Forged`] for a number that is no state and for an edge that is not legal.
    pub const fn check_state(self, before: State) -> Result<State, Forged> {
        match State::from_bits(self.unchecked()) {
            Some(state) if state.may_follow(before) => Ok(state),
            _ => Err(Forged {
                word: "state",
                value: self.unchecked() as u64,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{State, StateWord};

    #[test]
    fn numbers_are_the_discriminants() {
        for bits in 0..=u8::MAX {
            let known = State::ALL
                .iter()
                .copied()
                .find(|state| *state as u8 == bits);
            assert_eq!(State::from_bits(bits), known);
        }
    }

    #[test]
    fn exactly_these_edges_are_legal() {
        use State::{
            Boot, Enter, Finished, Hostcall, Idle, Interrupted, OutOfGas, Resume, Trapped,
        };
        let legal = [
            (Boot, Idle),
            (Idle, Enter),
            (Hostcall, Enter),
            (Finished, Enter),
            (Trapped, Enter),
            (Hostcall, Resume),
            (Trapped, Resume),
            (Interrupted, Enter),
            (OutOfGas, Enter),
            (Interrupted, Resume),
            (OutOfGas, Resume),
            (Enter, Hostcall),
            (Enter, Finished),
            (Enter, Trapped),
            (Resume, Hostcall),
            (Resume, Finished),
            (Resume, Trapped),
            (Enter, Interrupted),
            (Enter, OutOfGas),
            (Resume, Interrupted),
            (Resume, OutOfGas),
        ];
        for before in State::ALL {
            for after in State::ALL {
                assert_eq!(after.may_follow(before), legal.contains(&(before, after)));
            }
        }
    }

    #[test]
    fn every_edge_changes_the_turn() {
        for before in State::ALL {
            for after in State::ALL
                .into_iter()
                .filter(|after| after.may_follow(before))
            {
                assert_ne!(before.is_hosts_turn(), after.is_hosts_turn());
            }
        }
    }

    #[test]
    fn word_gives_back_what_was_put_in() {
        for state in State::ALL {
            for cpu in [0, 1, 4095, 0xfffe] {
                let word = StateWord::publish(state, cpu);
                assert!(word.is(state));
                assert_eq!(word.cpu_hint(), Some(cpu));
                assert!(!word.host_sleeps() && !word.worker_sleeps());
                assert!(word.with_host_asleep().host_sleeps());
                assert_eq!(word.with_host_asleep().awake(), word);
            }
            assert_eq!(StateWord::publish(state, 0xffff).cpu_hint(), None);
            assert_eq!(StateWord::publish(state, u32::MAX).cpu_hint(), None);
        }
    }
}
