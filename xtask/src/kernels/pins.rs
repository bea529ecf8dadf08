//! `xtask/kernels.txt`: which kernels are booted.

use std::fs;
use std::path::Path;

use crate::Failure;
use crate::apt::series_of;

const PINS: &str = "xtask/kernels.txt";

/// How a kernel's last word begins that no sandbox runs on; the features follow that it lacks.
const REFUSED: &str = "refused:";

/// A kernel that is pinned.
pub(super) struct Pin {
    /// A series, such as `6.12`, or `stable` or `rc` for the newest that there is.
    pub(super) name: String,
    pub(super) suite: String,
    /// A package and its version, as the package manager takes them.
    pub(super) package: String,
    /// What must be there and is not, if a refusal is what is expected.
    pub(super) refused: Option<Vec<String>>,
}

impl Pin {
    pub(super) fn parse(line: &str) -> Result<Self, Failure> {
        let mut words = line.split_whitespace().map(str::to_owned);
        let (Some(name), Some(suite), Some(package)) = (words.next(), words.next(), words.next())
        else {
            return Err(format!("{PINS}: not a series, a suite and a package: {line}").into());
        };
        let refused = words.next().map(|word| match word.strip_prefix(REFUSED) {
            Some(features) => Ok(features.split(',').map(str::to_owned).collect()),
            None => Err(format!("{PINS}: not \"{REFUSED}\" and features: {word}")),
        });
        Ok(Self {
            name,
            suite,
            package,
            refused: refused.transpose()?,
        })
    }

    /// As the file has it.
    pub(super) fn line(&self) -> String {
        let Self {
            name,
            suite,
            package,
            refused,
        } = self;
        let refused = refused.as_ref().map(|features| features.join(","));
        let refused = refused.map_or(String::new(), |list| format!("  {REFUSED}{list}"));
        format!("{name:<7} {suite:<18} {package}{refused}\n")
    }

    /// What `uname -r` says inside, which the package's name ends with.
    pub(super) fn release(&self) -> &str {
        let name = self
            .package
            .split_once('=')
            .map_or(self.package.as_str(), |(name, _)| name);
        let begun = ["linux-image-", "linux-binary-unsigned-", "linux-binary-"];
        let release = begun.iter().find_map(|begun| name.strip_prefix(begun));
        release.unwrap_or(name).trim_end_matches("-unsigned")
    }

    /// The series that it is of, whatever it is called.
    pub(super) fn series(&self) -> String {
        series_of(self.version())
    }

    /// The package's version, or nothing where none is pinned.
    pub(super) fn version(&self) -> &str {
        self.package
            .split_once('=')
            .map_or("", |(_, version)| version)
    }
}

pub(super) struct Pins {
    /// The lines above the first pin, which say what the file is.
    head: String,
    pub(super) all: Vec<Pin>,
}

impl Pins {
    pub(super) fn read(root: &Path) -> Result<Self, Failure> {
        let text = fs::read_to_string(root.join(PINS))?;
        let (head, lines): (Vec<&str>, Vec<&str>) =
            text.lines().partition(|line| line.starts_with('#'));
        let all: Result<Vec<Pin>, Failure> = lines.into_iter().map(Pin::parse).collect();
        Ok(Self {
            head: head.iter().map(|line| format!("{line}\n")).collect(),
            all: all?,
        })
    }

    pub(super) fn write(&self, root: &Path) -> Result<(), Failure> {
        let lines: String = self.all.iter().map(Pin::line).collect();
        Ok(fs::write(root.join(PINS), format!("{}{lines}", self.head))?)
    }

    /// Those of these names, or all.
    pub(super) fn named(&self, names: &[String]) -> Result<Vec<&Pin>, Failure> {
        for name in names {
            if !self.all.iter().any(|pin| pin.name == *name) {
                return Err(format!("{PINS} has no {name}").into());
            }
        }
        let is_wanted = |pin: &&Pin| names.is_empty() || names.contains(&pin.name);
        Ok(self.all.iter().filter(is_wanted).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::Pin;

    #[test]
    fn a_package_names_its_release() {
        for (package, release) in [
            (
                "linux-image-6.1.0-9-cloud-amd64=6.1.2-1",
                "6.1.0-9-cloud-amd64",
            ),
            (
                "linux-image-6.1.0-9-cloud-amd64-unsigned=6.1.2-1",
                "6.1.0-9-cloud-amd64",
            ),
            (
                "linux-binary-unsigned-7.3.4+deb13-cloud-amd64=7.3.4-1~bpo13+1",
                "7.3.4+deb13-cloud-amd64",
            ),
            (
                "linux-binary-7.3-cloud-amd64=7.3~rc7-1~exp1",
                "7.3-cloud-amd64",
            ),
        ] {
            let pin = Pin::parse(&format!("name suite {package}")).unwrap();
            assert_eq!(pin.release(), release);
        }
    }
}
