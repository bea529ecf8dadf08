//! The steps of a worker's start, in order. A failed start names its step.

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
    /// The child maps one user and one group into its user namespace.
    IdMaps = 3, "write the id maps";
    /// The child executes the zygote's image.
    Exec = 4, "execute the zygote";
    /// The zygote maps the shared pages and checks their version.
    SharedPages = 5, "map the shared pages";
    /// The zygote gets a stack of its own.
    Stack = 6, "map the zygote's stack";
    /// A new session, a recognisable name.
    Session = 7, "leave the host's session";
    /// The root becomes an empty read-only file system.
    Root = 8, "empty the root";
    /// No new privileges, no capability in any set, locked securebits, not dumpable.
    Privileges = 9, "drop all privileges";
    /// The same again after the exec, and a look whether the host lives.
    HostDeath = 10, "look whether the host lives";
    /// The module's regions are mapped.
    Regions = 11, "map the guest's memory";
    /// Whatever the kernel mapped for a new process is unmapped, vdso and stack included.
    Unmap = 12, "unmap what the kernel mapped";
    /// Fault handlers on a stack of their own.
    Signals = 13, "install the fault handlers";
    /// Limits on everything that a process can take.
    Limits = 14, "set the resource limits";
    /// Every descriptor is closed.
    CloseAll = 15, "close every descriptor";
    /// The system call filter: last, because it forbids all of the above.
    Seccomp = 16, "install the system call filter";
    /// The worker is ready.
    Ready = 17, "report ready";
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
