//! What surrounds this process and may stand in its way: for people, and to judge a trial by.

use std::{env, fmt, fs};

use linux_raw::prctl;

use super::attempt::attempt;

/// What surrounds this process, as far as it can see.
///
/// Plain data that tests can forge ([`Kernel::amid`](crate::Kernel::amid)):
///
/// ```
/// use cellwall::{Kernel, Manager, Surroundings};
///
/// let mut docker = Surroundings::default();
/// docker.seccomp_filters = 1;
/// docker.manager = Some(Manager::Docker);
/// let kernel = Kernel::with_everything("6.1").amid(docker);
/// assert_eq!(kernel.surroundings().to_string(), "1 seccomp filter; managed by Docker");
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Surroundings {
    /// How many seccomp filters are in force. At most 1 before Linux 5.9, which does not count.
    pub seccomp_filters: u32,
    /// Whether no exec gives privileges any more.
    pub no_new_privs: bool,
    /// The active security modules, if this process may read which.
    pub security_modules: Vec<String>,
    /// How one of them has labelled this process: AppArmor's profile, or SELinux' context.
    pub label: Option<String>,
    /// The value of `kernel.yama.ptrace_scope`, if there is one.
    pub ptrace_scope: Option<u32>,
    /// Whether it is in a chroot into a plain folder, as the root, which is no mount, shows. One
    /// into a mount point, as of `arch-chroot`, cannot be told from any other root.
    pub in_chroot: bool,
    /// Whether this process is dumpable, if it may ask.
    pub dumpable: Option<bool>,
    /// The limits that are no more than a number, as `RLIMIT_NOFILE` and that number.
    pub limits: Vec<(&'static str, u64)>,
    /// Who has started this process, if whoever did so has left a trace.
    pub manager: Option<Manager>,
}

/// What starts processes, and can put filters around them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Manager {
    /// It leaves `/.dockerenv`.
    Docker,
    /// It leaves `/run/.containerenv`.
    Podman,
    /// It sets `$KUBERNETES_SERVICE_HOST`.
    Kubernetes,
    /// It sets `$INVOCATION_ID`.
    Systemd,
    /// It sets `$container`.
    Container,
}

impl Manager {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Docker => "Docker",
            Self::Podman => "Podman",
            Self::Kubernetes => "Kubernetes",
            Self::Systemd => "systemd",
            Self::Container => "a container engine",
        }
    }

    /// Where its seccomp filter is set.
    pub(super) const fn filter_knob(self) -> &'static str {
        match self {
            Self::Docker => "the profile of docker run --security-opt seccomp=FILE",
            Self::Podman => "the profile of podman run --security-opt seccomp=FILE",
            Self::Kubernetes => "the profile of the pod's securityContext.seccompProfile",
            Self::Systemd => "SystemCallFilter= and RestrictNamespaces= of the systemd unit",
            Self::Container => "the container's seccomp profile",
        }
    }

    /// Where its AppArmor profile or SELinux context is set.
    pub(super) const fn label_knob(self) -> &'static str {
        match self {
            Self::Docker => "docker run --security-opt apparmor=PROFILE or label=...",
            Self::Podman => "podman run --security-opt apparmor=PROFILE or label=...",
            Self::Kubernetes => "the pod's securityContext.appArmorProfile or seLinuxOptions",
            Self::Systemd => "AppArmorProfile= or SELinuxContext= of the systemd unit",
            Self::Container => "the container's configuration",
        }
    }

    /// By the traces: which files are there, and which variables are set. The one that is told most
    /// surely comes first; Kubernetes' containers have others' files too.
    fn by(has_file: impl Fn(&str) -> bool, has_variable: impl Fn(&str) -> bool) -> Option<Self> {
        if has_variable("KUBERNETES_SERVICE_HOST") {
            Some(Self::Kubernetes)
        } else if has_file("/run/.containerenv") {
            Some(Self::Podman)
        } else if has_file("/.dockerenv") {
            Some(Self::Docker)
        } else if has_variable("container") {
            Some(Self::Container)
        } else if has_variable("INVOCATION_ID") {
            Some(Self::Systemd)
        } else {
            None
        }
    }
}

/// The kernel's release, without `uname`: a filter that kills for it would kill this process.
pub(super) fn release() -> String {
    let text = fs::read_to_string("/proc/sys/kernel/osrelease");
    text.unwrap_or_default().trim().to_owned()
}

impl Surroundings {
    /// Reads `/proc` and `/sys`, as far as they are there: of this thread, whose filters and label
    /// its children inherit.
    pub(super) fn look() -> Self {
        // Not all of it is text: a thread's name and a mount's place are any bytes.
        let read = |path: &str| {
            let bytes = fs::read(path).unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let status = read("/proc/thread-self/status");
        let modules = read("/sys/kernel/security/lsm");
        let modules = modules.trim().split(',').filter(|name| !name.is_empty());
        let has_file = |path: &str| fs::exists(path).unwrap_or(false);
        let has_variable = |name: &str| env::var_os(name).is_some();
        Self {
            seccomp_filters: filters(&status),
            no_new_privs: field(&status, "NoNewPrivs:") == Some("1"),
            security_modules: modules.map(str::to_owned).collect(),
            label: label(&read("/proc/thread-self/attr/apparmor/current"))
                .or_else(|| label(&read("/proc/thread-self/attr/current"))),
            ptrace_scope: read("/proc/sys/kernel/yama/ptrace_scope")
                .trim()
                .parse()
                .ok(),
            in_chroot: is_chroot(&read("/proc/self/mountinfo")),
            dumpable: is_dumpable(),
            limits: limits(&read("/proc/self/limits")),
            manager: Manager::by(has_file, has_variable),
        }
    }

    /// The security module that confines this process by its label, if one does.
    pub(super) fn confining(&self) -> Option<(&'static str, &str)> {
        let label = self.label.as_deref()?;
        // AppArmor: a profile's name and its mode; without one it is "unconfined".
        if let Some((_, mode)) = label.rsplit_once(" (") {
            return matches!(mode, "enforce)" | "kill)").then_some(("AppArmor", label));
        }
        // SELinux: user, role, type, level.
        let kind = label.split(':').nth(2)?;
        let is_free = ["unconfined_t", "initrc_t", "kernel_t", "init_t", "spc_t"].contains(&kind);
        (!is_free).then_some(("SELinux", label))
    }

    /// The limit of this name, if it is a number.
    pub(super) fn limit(&self, name: &'static str) -> Option<u64> {
        let (_, value) = self.limits.iter().find(|(known, _)| *known == name)?;
        Some(*value)
    }
}

impl fmt::Display for Surroundings {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.seccomp_filters {
            0 => out.write_str("no seccomp filter")?,
            1 => out.write_str("1 seccomp filter")?,
            many => write!(out, "{many} seccomp filters")?,
        }
        if self.no_new_privs {
            out.write_str("; no_new_privs")?;
        }
        if !self.security_modules.is_empty() {
            write!(
                out,
                "; security modules {}",
                self.security_modules.join(", ")
            )?;
        }
        if let Some(label) = &self.label {
            write!(out, "; labelled {label}")?;
        }
        if let Some(scope) = self.ptrace_scope {
            write!(out, "; ptrace scope {scope}")?;
        }
        if self.in_chroot {
            out.write_str("; in a chroot")?;
        }
        if self.dumpable == Some(false) {
            out.write_str("; not dumpable")?;
        }
        if let Some(manager) = self.manager {
            write!(out, "; managed by {}", manager.name())?;
        }
        Ok(())
    }
}

/// A line of `/proc/thread-self/status`.
fn field<'status>(status: &'status str, key: &str) -> Option<&'status str> {
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    Some(line.trim())
}

fn filters(status: &str) -> u32 {
    let counted = field(status, "Seccomp_filters:").and_then(|count| count.parse().ok());
    let is_filtered = field(status, "Seccomp:").is_some_and(|mode| mode != "0");
    counted.unwrap_or(u32::from(is_filtered))
}

/// A label, which may end with a line's end or, of SELinux, a zero.
fn label(text: &str) -> Option<String> {
    let label = text.trim_end_matches(['\0', '\n']);
    (!label.is_empty()).then(|| label.to_owned())
}

/// The fifth field is where something is mounted (`proc_pid_mountinfo(5)`), as this process sees
/// it: in a chroot, usually nothing at its root.
fn is_chroot(mounts: &str) -> bool {
    let is_root = |line: &str| line.split(' ').nth(4) == Some("/");
    !mounts.is_empty() && !mounts.lines().any(is_root)
}

/// As a child has it from its parent: a filter that kills for the question kills only that.
fn is_dumpable() -> Option<bool> {
    let asked = attempt(&|| Ok(Some(prctl::get_dumpable()?.into())));
    asked.ok().flatten().map(|dumpable| dumpable != 0)
}

/// The limits that trials meet, by what `/proc/self/limits` calls them.
const LIMITS: [(&str, &str); 5] = [
    ("RLIMIT_FSIZE", "Max file size"),
    ("RLIMIT_NPROC", "Max processes"),
    ("RLIMIT_NOFILE", "Max open files"),
    ("RLIMIT_AS", "Max address space"),
    ("RLIMIT_MEMLOCK", "Max locked memory"),
];

fn limits(text: &str) -> Vec<(&'static str, u64)> {
    let soft = |title: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(title))?;
        line.split_whitespace().next()?.parse().ok()
    };
    let limit = |(name, title): (&'static str, &str)| Some((name, soft(title)?));
    LIMITS.into_iter().filter_map(limit).collect()
}

#[cfg(test)]
mod tests {
    use super::{Manager, Surroundings, filters, is_chroot, label, limits};

    #[test]
    fn filters_are_counted_where_the_kernel_counts() {
        assert_eq!(filters("Seccomp:\t2\nSeccomp_filters:\t3\n"), 3);
        assert_eq!(filters("Seccomp:\t2\n"), 1);
        assert_eq!(filters("Seccomp:\t0\nSeccomp_filters:\t0\n"), 0);
        assert_eq!(filters(""), 0);
    }

    #[test]
    fn labels_that_confine_are_told_from_those_that_do_not() {
        let confining = |text: &str| {
            let around = Surroundings {
                label: label(text),
                ..Surroundings::default()
            };
            around.confining().map(|(module, _)| module)
        };
        assert_eq!(confining("docker-default (enforce)\n"), Some("AppArmor"));
        assert_eq!(confining("mine (complain)\n"), None);
        assert_eq!(confining("chrome (unconfined)\n"), None);
        assert_eq!(confining("unconfined\n"), None);
        let container = "system_u:system_r:container_t:s0:c1,c2\0";
        assert_eq!(confining(container), Some("SELinux"));
        let free = "unconfined_u:unconfined_r:unconfined_t:s0-s0:c0.c1023\0";
        assert_eq!(confining(free), None);
        assert_eq!(confining("kernel\0"), None);
        assert_eq!(confining(""), None);
    }

    #[test]
    fn a_root_that_is_no_mount_is_a_chroot() {
        assert!(!is_chroot("27 1 254:0 / / rw - ext4 /dev/vda rw\n"));
        assert!(is_chroot("22 27 0:21 / /proc rw - proc proc rw\n"));
        assert!(!is_chroot(""), "nothing is known without /proc");
    }

    #[test]
    fn limits_that_are_none_are_left_out() {
        let text = "Limit                     Soft Limit           Hard Limit           Units     \n\
                    Max processes             unlimited            unlimited            processes \n\
                    Max open files            4                    1024                 files     \n";
        assert_eq!(limits(text), [("RLIMIT_NOFILE", 4)]);
    }

    #[test]
    fn managers_leave_traces() {
        let by = |traces: &[&str]| {
            let has = |name: &str| traces.contains(&name);
            Manager::by(has, has)
        };
        assert_eq!(by(&[]), None);
        assert_eq!(by(&["/.dockerenv"]), Some(Manager::Docker));
        let pod = ["/.dockerenv", "KUBERNETES_SERVICE_HOST", "INVOCATION_ID"];
        assert_eq!(by(&pod), Some(Manager::Kubernetes));
        let podman = ["container", "/run/.containerenv"];
        assert_eq!(by(&podman), Some(Manager::Podman));
        assert_eq!(by(&["container"]), Some(Manager::Container));
        assert_eq!(by(&["INVOCATION_ID"]), Some(Manager::Systemd));
    }

    #[test]
    fn this_process_is_looked_at() {
        let around = Surroundings::look();
        assert!(!around.in_chroot);
        assert_eq!(around.dumpable, Some(true));
        assert!(around.limit("RLIMIT_NOFILE").is_some_and(|files| files > 3));
    }
}
