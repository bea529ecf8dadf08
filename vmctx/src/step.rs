//! The steps of a worker's start, in order. A failed start names its step.

use crate::{Layer, Tier};

macro_rules! steps {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $text:literal;)*) => {
        /// One step of a worker's start. Its number is also the exit status of a failed one.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        #[non_exhaustive]
        pub enum Step { $($(#[$doc])* $name = $number,)* }

        impl Step {
            /// Every step, in the order in which they are taken.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The step with this number.
            #[must_use]
            pub const fn from_number(number: u8) -> Option<Self> {
                match number { $($number => Some(Self::$name),)* _ => None }
            }

            /// What the step does, as an error message says it.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

steps! {
    /// The child asks to be killed with the thread that started it.
    DeathSignal = 1, "ask to die with the host";
    /// The child closes the host's descriptors and puts its own into their slots.
    Descriptors = 2, "hand over descriptors";
    /// The child keeps a root host's powers over the new namespaces across the exec.
    Ambient = 3, "keep powers across the exec";
    /// The child's user namespace gets its one user and one group.
    IdMaps = 4, "write the id maps";
    /// The child executes the zygote's image.
    Exec = 5, "execute the zygote";
    /// The zygote maps the shared pages, its stacks among them, and checks their version.
    SharedPages = 6, "map the shared pages";
    /// A nursery maps the ring, and a stack that nobody else has.
    Stack = 7, "map the nursery's ring and stack";
    /// A session, name, priority, CPUs and oom score of its own.
    Standing = 8, "give up the host's standing";
    /// The bounding set is emptied, securebits are locked.
    Bounding = 9, "lock privileges away";
    /// Neither user 0 nor its groups.
    User = 10, "change the user";
    /// The root becomes an empty read-only file system.
    Root = 11, "empty the root";
    /// No new privileges, no capability in any set, not dumpable.
    Privileges = 12, "drop all privileges";
    /// The wish to die with the host, once more, and a look whether it lives.
    HostDeath = 13, "look whether the host lives";
    /// Speculation that the CPU lets us disable.
    Speculation = 14, "disable speculation";
    /// A core of one's own, if asked for.
    CoreScheduling = 15, "take a core-scheduling cookie";
    /// No time-stamp counter, if asked for.
    TimestampCounter = 16, "forbid the time-stamp counter";
    /// Memory that is not executable stays so.
    DenyWriteExecute = 17, "deny memory that is written and executed";
    /// The module's regions are mapped.
    Regions = 18, "map the guest's memory";
    /// Whatever the kernel mapped for a new process is unmapped, vdso and stack included.
    Unmap = 19, "unmap what the kernel mapped";
    /// The descriptor by which the host decides what is in guest memory.
    Paging = 20, "make the userfaultfd";
    /// Handlers of faults, of the eviction and of the interruption, on a stack of their own.
    Signals = 21, "install the fault handlers";
    /// A Landlock domain that allows nothing.
    Landlock = 22, "enter the Landlock domain";
    /// Limits on what a process can take from the machine, but for CPU time.
    Limits = 23, "set the resource limits";
    /// Every descriptor is closed.
    CloseAll = 24, "close every descriptor";
    /// No mapping changes any more.
    Seal = 25, "seal the mappings";
    /// The system call filter: last, because it forbids all of the above.
    Seccomp = 26, "install the system call filter";
    /// The worker is ready.
    Ready = 27, "report ready";
}

impl Step {
    /// The layers that the step puts up, or, before the zygote runs, prepares.
    #[must_use]
    pub const fn layers(self) -> &'static [Layer] {
        match self {
            Self::DeathSignal | Self::HostDeath => &[Layer::HostDeath],
            Self::IdMaps => &[Layer::UserNamespace],
            Self::SharedPages => &[Layer::SharedWords],
            Self::Standing => &[Layer::Standing],
            Self::Bounding => &[Layer::BoundingSet, Layer::Securebits],
            Self::User => &[Layer::UserId],
            Self::Root => &[Layer::EmptyRoot],
            Self::Privileges => &[
                Layer::NoNewPrivileges,
                Layer::Capabilities,
                Layer::NotDumpable,
            ],
            Self::Speculation => &[Layer::StoreBypass, Layer::IndirectBranch],
            Self::CoreScheduling => &[Layer::CoreScheduling],
            Self::TimestampCounter => &[Layer::TimestampCounter],
            Self::DenyWriteExecute => &[Layer::DenyWriteExecute],
            Self::Regions => &[Layer::WriteXorExecute],
            Self::Unmap => &[Layer::KernelMappings],
            Self::Signals => &[Layer::Signals],
            Self::Landlock => &[
                Layer::LandlockFiles,
                Layer::LandlockNetwork,
                Layer::LandlockScopes,
            ],
            Self::Limits => &[Layer::Limits],
            Self::Descriptors | Self::CloseAll => &[Layer::Descriptors],
            Self::Seal => &[Layer::Mseal],
            Self::Seccomp => &[Layer::SystemCalls],
            Self::Ambient | Self::Exec | Self::Stack | Self::Paging | Self::Ready => &[],
        }
    }

    /// Whether the step is taken in a tier: if one of its layers is in it, or if it has none.
    #[must_use]
    pub fn is_in(self, tier: Tier) -> bool {
        self.layers().is_empty() || self.layers().iter().any(|layer| layer.is_in(tier))
    }
}

#[cfg(test)]
mod tests {
    use super::Step;

    #[test]
    fn numbers_ascend_and_come_back() {
        for (index, step) in Step::ALL.iter().enumerate() {
            assert_eq!(*step as usize, index + 1);
            assert_eq!(Step::from_number(*step as u8), Some(*step));
        }
        assert_eq!(Step::from_number(0), None);
        assert_eq!(Step::from_number(255), None);
    }
}
