//! The command line.

use std::ffi::OsString;
use std::time::Duration;

use cellwall::Tier;
use clap::builder::PossibleValuesParser;
use clap::{Args, Parser, Subcommand, ValueEnum};

/// Runs programs that nobody trusts behind the wall: without files, network or privileges.
#[derive(Debug, Parser)]
#[command(name = "cellwall", version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Runs a guest, with the standard input and output connected to it
    #[command(after_long_help = STATUSES, after_help = "See --help for the exit statuses.")]
    Run(RunArgs),
    /// Lists the built-in guests
    Guests,
    /// Shows what this kernel offers and whether a sandbox can run; exits with 1 if not
    #[command(after_help = "Exit status: 0 when a sandbox can run, 1 when not.")]
    Probe {
        /// For machines
        #[arg(long)]
        json: bool,

        /// Starts a worker of this tier and prints what came of it: the probe's own means
        #[arg(long = "try", value_name = "TIER", value_enum, hide = true)]
        tries: Option<TierName>,
    },
    /// Tests the wall on this kernel: workers are attacked from inside, and each layer is looked at
    /// from outside; exits with 1 if anything got through or cannot be verified
    #[command(
        after_help = "Exit status: 0 when the wall is whole, 1 when it is not or not known to be, \
                      125 when Cellwall or the kernel failed."
    )]
    Audit(AuditArgs),
}

#[derive(Debug, Args)]
pub(crate) struct AuditArgs {
    /// For machines: every row
    #[arg(long)]
    pub(crate) json: bool,

    /// Every row, also of what holds
    #[arg(long, conflicts_with = "json")]
    pub(crate) all: bool,

    /// What the wall rests on. In without-namespaces an ordinary user cannot make all looks: the
    /// audit then says how many, and exits with 1; run it as root
    #[arg(long, value_name = "TIER", value_enum, default_value_t = TierName::Full)]
    pub(crate) tier: TierName,

    /// Each worker in namespaces of its own, instead of those of a nursery that it is cloned by
    #[arg(long)]
    pub(crate) direct: bool,

    /// Only these groups of attempts, for machines on which all take too long
    #[arg(long, value_name = "GROUP", value_delimiter = ',', hide = true,
        value_parser = PossibleValuesParser::new(audit::inside::groups().iter().copied()))]
    pub(crate) groups: Vec<String>,

    /// Starts a worker, tells its number and waits to be killed: the audit's own means
    #[arg(long, hide = true)]
    pub(crate) sacrifice: bool,
}

/// A tier, as the command line names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum TierName {
    /// Every layer
    Full,
    /// For containers that forbid user namespaces: no namespace and no root of its own
    WithoutNamespaces,
}

impl From<TierName> for Tier {
    fn from(name: TierName) -> Self {
        match name {
            TierName::Full => Self::Full,
            TierName::WithoutNamespaces => Self::WithoutNamespaces,
        }
    }
}

impl TierName {
    /// As the command line has it.
    pub(crate) fn name(self) -> &'static str {
        Tier::from(self).name()
    }
}

/// The contract for scripts.
const STATUSES: &str = "\
Exit status:
  0 to 255  the guest's own; 255 also stands for a value that is larger
  101       the guest panicked
  124       the deadline passed
  125       Cellwall or the kernel failed, or the command line makes no sense
  126       the file is not a valid guest, or cannot be read
  127       there is no such guest
  132       trap: illegal instruction
  133       trap: breakpoint
  134       the guest ended its process instead of finishing (exit_group)
  135       trap: alignment, or memory that the machine could not provide
  136       trap: arithmetic
  137       killed: from outside, or by Cellwall for forging what the wall rests on
  139       trap: memory
  159       trap: forbidden system call

Whatever ends a guest but itself is explained on the standard error, in a line that begins with
\"cellwall: \"; what it logs is there too, in lines that begin with \"guest: \". But a guest chooses
its own status and may write such lines itself: they are for people, not to decide on.";

#[derive(Debug, Args)]
#[command(override_usage = "cellwall run [OPTIONS] GUEST [ARGS]...")]
pub(crate) struct RunArgs {
    /// Stops the guest when it has taken this long, waiting for input and output included: 500ms,
    /// 1.5s, 2m
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) deadline: Option<Duration>,

    /// The guest's heap in bytes, or with K, M or G; taken from the machine as it is touched
    #[arg(long, value_name = "SIZE", default_value = "256M", value_parser = size)]
    pub(crate) heap: u64,

    /// The guest's stack, likewise
    #[arg(long, value_name = "SIZE", default_value = "1M", value_parser = size)]
    pub(crate) stack: u64,

    /// What the wall rests on
    #[arg(long, value_name = "TIER", value_enum, default_value_t = TierName::Full)]
    pub(crate) tier: TierName,

    /// A path, if it contains a slash or names a file, or the name of a built-in guest; everything
    /// after it is the guest's
    // One list: as two arguments, options of ours after the guest's name would be taken from it.
    #[arg(value_names = ["GUEST", "ARGS"], required = true, num_args = 1.., trailing_var_arg = true)]
    pub(crate) command: Vec<OsString>,
}

/// A number, whole or with decimals, and a unit.
fn duration(text: &str) -> Result<Duration, String> {
    const UNITS: [(&str, f64); 5] = [
        ("ms", 1e-3),
        ("us", 1e-6),
        ("s", 1.0),
        ("m", 60.0),
        ("h", 3600.0),
    ];
    let split = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let unit = UNITS.iter().find(|(name, _)| *name == unit);
    let (_, seconds) = unit.ok_or("give a number and ms, s, m or h, such as 500ms")?;
    let number: f64 = number
        .parse()
        .map_err(|_| "begin with a number, such as 1.5")?;
    Duration::try_from_secs_f64(number * seconds).map_err(|_| "this is too long".into())
}

/// A number of bytes.
fn size(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match text[digits.len()..].to_ascii_uppercase().as_str() {
        "" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        _ => return Err("give bytes, or a number and K, M or G, such as 256M".into()),
    };
    let number: u64 = digits
        .parse()
        .map_err(|_| "begin with a whole number, such as 256M")?;
    number
        .checked_mul(1 << shift)
        .ok_or_else(|| "this is too much".into())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use clap::{CommandFactory as _, Parser as _, ValueEnum as _};

    use super::{Cli, Command, RunArgs, TierName, duration, size};

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn durations() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(duration("250us"), Ok(Duration::from_micros(250)));
        for wrong in [
            "",
            "5",
            "s",
            "-1s",
            "1.2.3s",
            "5 s",
            "infs",
            "1e5s",
            "99999999999999999999h",
        ] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn sizes() {
        assert_eq!(size("4096"), Ok(4096));
        assert_eq!(size("64k"), Ok(64 << 10));
        assert_eq!(size("256M"), Ok(256 << 20));
        assert_eq!(size("3G"), Ok(3 << 30));
        for wrong in ["", "M", "1.5M", "-1", "1T", "18446744073709551615K"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn tiers_are_named_as_everywhere() {
        for tier in [TierName::Full, TierName::WithoutNamespaces] {
            let told = tier.to_possible_value().expect("a value");
            assert_eq!(told.get_name(), tier.name());
        }
    }

    fn run(args: &[&str]) -> RunArgs {
        match Cli::try_parse_from([&["cellwall", "run"], args].concat())
            .unwrap()
            .command
        {
            Command::Run(args) => args,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_follows_the_guest_is_the_guests() {
        let args = run(&[
            "--heap",
            "1M",
            "hello",
            "--deadline",
            "5s",
            "-h",
            "--",
            "--heap",
        ]);
        assert_eq!(
            args.command,
            ["hello", "--deadline", "5s", "-h", "--", "--heap"]
        );
        assert_eq!(
            (args.heap, args.stack, args.deadline),
            (1 << 20, 1 << 20, None)
        );
        assert_eq!(run(&["--", "-guest", "-x"]).command, ["-guest", "-x"]);
        assert!(Cli::try_parse_from(["cellwall", "run"]).is_err());
        assert!(Cli::try_parse_from(["cellwall", "run", "--unknown", "hello"]).is_err());
    }
}
