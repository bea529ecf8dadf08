//! Debian's packages, by the machine's package manager, which checks their signatures: from the
//! sources that it is configured with, in suites that it need not have, with lists of its own, so
//! that the system's are as they were. Nothing is installed: packages are unpacked where they are
//! wanted.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::Failure;

/// The keys of Debian's archive, as every Debian has them.
const KEYS: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// A folder that is filled once: one that is there is whole.
pub(crate) fn once(
    folder: &Path,
    fill: impl FnOnce(&Path) -> Result<(), Failure>,
) -> Result<PathBuf, Failure> {
    if !folder.exists() {
        let unfinished = folder.with_file_name("unfinished");
        if unfinished.exists() {
            fs::remove_dir_all(&unfinished)?;
        }
        fs::create_dir_all(&unfinished)?;
        fill(&unfinished)?;
        fs::rename(unfinished, folder)?;
    }
    Ok(folder.to_owned())
}

pub(crate) fn unpack(debs: &[PathBuf], folder: &Path) -> Result<(), Failure> {
    for deb in debs {
        runs(Command::new("dpkg-deb").arg("-x").arg(deb).arg(folder))?;
        // What is unpacked is all that is wanted of it.
        fs::remove_file(deb)?;
    }
    Ok(())
}

/// The package manager with some suites and a folder of its own.
pub(crate) struct Apt {
    folder: PathBuf,
}

impl Apt {
    /// Asks the mirrors what the suites have.
    pub(crate) fn new(folder: &Path, suites: &[&str]) -> Result<Self, Failure> {
        let apt = Self {
            folder: folder.to_owned(),
        };
        fs::create_dir_all(folder.join("lists/partial"))?;
        fs::create_dir_all(folder.join("archives/partial"))?;
        let lines: Result<Vec<String>, _> = suites.iter().map(|suite| source_of(suite)).collect();
        let lines = lines?.concat();
        fs::write(folder.join("sources.list"), lines)?;
        let mut update = apt.command("apt-get");
        // Else old lists do where a mirror is not to be had or a signature is wrong.
        update.args(["--quiet=2", "-o", "APT::Update::Error-Mode=any", "update"]);
        runs(&mut update).map_err(|failure| {
            let suites = suites.join(", ");
            format!("what Debian's mirrors have of {suites} is not known: {failure}")
        })?;
        Ok(apt)
    }

    fn command(&self, program: &str) -> Command {
        let at = |name: &str| self.folder.join(name).display().to_string();
        let mut command = Command::new(program);
        // Where packages are downloaded to, if they are not installed.
        command.current_dir(self.folder.join("archives"));
        for option in [
            format!("Dir::Etc::sourcelist={}", at("sources.list")),
            "Dir::Etc::sourceparts=-".into(),
            format!("Dir::State::Lists={}", at("lists")),
            format!("Dir::Cache::archives={}", at("archives")),
            "Dir::Cache::pkgcache=".into(),
            "Dir::Cache::srcpkgcache=".into(),
            // Nobody reads descriptions.
            "Acquire::Languages=none".into(),
            // Nothing is installed, so nobody's lock is needed.
            "Debug::NoLocking=1".into(),
        ] {
            command.arg("-o").arg(option);
        }
        command
    }

    /// One package.
    pub(crate) fn download(&self, package: &str) -> Result<Vec<PathBuf>, Failure> {
        self.clear()?;
        let mut command = self.command("apt-get");
        runs(command.args(["--quiet=2", "download", package]))?;
        Ok(self.debs())
    }

    /// A package, from a suite where that has it, and all that an installation here would add.
    pub(crate) fn download_with_needs(
        &self,
        package: &str,
        suite: &str,
    ) -> Result<Vec<PathBuf>, Failure> {
        self.clear()?;
        let mut command = self.command("apt-get");
        command.args(["--quiet=2", "--yes", "--no-install-recommends"]);
        command.args(["--download-only", "--target-release", suite]);
        runs(command.args(["install", package]))?;
        Ok(self.debs())
    }

    /// Removes what a run that was ended has left: it would be unpacked with what is wanted.
    fn clear(&self) -> Result<(), Failure> {
        for left in self.debs() {
            fs::remove_file(left)?;
        }
        Ok(())
    }

    fn debs(&self) -> Vec<PathBuf> {
        let mut debs = files(&self.folder.join("archives"));
        debs.retain(|file| file.extension() == Some(OsStr::new("deb")));
        debs
    }

    /// All kernels for machines in a cloud. The newest may not be signed yet for firmware that asks
    /// for that; the package itself is.
    pub(crate) fn kernels(&self) -> Result<Vec<Offer>, Failure> {
        const PATTERN: &str =
            "^linux-(image|binary)-(unsigned-)?[0-9][^ ]*cloud-amd64(-unsigned)?$";
        let found = runs(
            self.command("apt-cache")
                .args(["search", "--names-only", PATTERN]),
        )?;
        let found = String::from_utf8(found.stdout)?;
        // An empty package that needs the newest kernel says so.
        let is_real = |line: &&str| !line.contains("(meta-package)");
        let names = found.lines().filter(is_real);
        let names: Vec<&str> = names.filter_map(|line| line.split(' ').next()).collect();
        self.offers(&names)
    }

    /// Which versions of some packages there are, and where.
    pub(crate) fn offers(&self, packages: &[&str]) -> Result<Vec<Offer>, Failure> {
        let mut madison = self.command("apt-cache");
        let listed = runs(madison.arg("madison").args(packages))?;
        let listed = String::from_utf8(listed.stdout)?;
        Ok(listed.lines().filter_map(Offer::parse).collect())
    }
}

/// A package that a suite has.
pub(crate) struct Offer {
    pub(crate) package: String,
    pub(crate) version: String,
    pub(crate) suite: String,
}

impl Offer {
    /// From `package | version | mirror suite/component architecture Packages`.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        let mut columns = line.split('|').map(str::trim);
        let (package, version, source) = (columns.next()?, columns.next()?, columns.next()?);
        let (suite, _) = source.split(' ').nth(1)?.split_once('/')?;
        Some(Self {
            package: package.to_owned(),
            version: version.to_owned(),
            suite: suite.to_owned(),
        })
    }
}

/// Whether a version is newer, by the package manager's rules: a release candidate is older than
/// the release.
pub(crate) fn is_newer(version: &str, than: &str) -> Result<bool, Failure> {
    let mut command = Command::new("dpkg");
    command.args(["--compare-versions", version, "gt", than]);
    Ok(command.status()?.success())
}

/// A kernel's series: `6.12` of `6.12.117-1~deb12u1`.
pub(crate) fn series_of(version: &str) -> String {
    let mut numbers = version.split(['.', '-', '~', '+']);
    let number = |word: Option<&str>| word.unwrap_or_default().to_owned();
    format!("{}.{}", number(numbers.next()), number(numbers.next()))
}

/// The machine's own release: `bookworm`, say.
pub(crate) fn release() -> Result<String, Failure> {
    release_in(&fs::read_to_string("/etc/os-release")?)
}

fn release_in(text: &str) -> Result<String, Failure> {
    let value = |key: &str| {
        let mut lines = text.lines();
        let value = lines.find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        value.unwrap_or_default().trim_matches('"')
    };
    match (value("ID"), value("VERSION_CODENAME")) {
        ("debian", name) if !name.is_empty() => Ok(name.to_owned()),
        (id, name) => Err(format!(
            "the packages are Debian's, from the mirrors that this machine has its own from, and \
             /etc/os-release says \"{id}\" and \"{name}\": run this on Debian; a container will do"
        )
        .into()),
    }
}

/// The line for a suite: its mirror is the one that the machine has its own release from. Security
/// updates have mirrors of their own.
fn source_of(suite: &str) -> Result<String, Failure> {
    const SECURITY: &str = "-security";
    let mut own = release()?;
    if suite.ends_with(SECURITY) {
        own.push_str(SECURITY);
    }
    let mut command = Command::new("apt-get");
    command.args([
        "indextargets",
        "--format",
        "$(RELEASE) $(COMPONENT) $(REPO_URI)",
    ]);
    let listed = runs(command.arg("Created-By: Packages"))?;
    let listed = String::from_utf8(listed.stdout)?;
    let wanted = format!("{own} main ");
    let mut mirrors = listed.lines().filter_map(|line| line.strip_prefix(&wanted));
    let mirror = mirrors
        .next()
        .ok_or_else(|| format!("apt has no source of {own}, whose mirror could have {suite}"))?;
    Ok(format!("deb [signed-by={KEYS}] {mirror} {suite} main\n"))
}

/// What is in a folder, by name; nothing if there is none.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    files.sort();
    files
}

/// Runs a command, whose failure is told with what it has said.
pub(crate) fn runs(command: &mut Command) -> Result<Output, Failure> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("{name}: {error}"))?;
    if output.status.success() {
        return Ok(output);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{name} failed: {}", said.trim()).into())
}

#[cfg(test)]
mod tests {
    use super::release_in;

    #[test]
    fn only_debian_has_debians_packages() {
        let debian = "ID=debian\nVERSION_CODENAME=trixie\n";
        assert_eq!(release_in(debian).unwrap(), "trixie");
        for other in [
            "",
            "ID=arch\n",
            "ID=fedora\nVERSION_CODENAME=\"\"\n",
            "ID=ubuntu\nID_LIKE=debian\nVERSION_CODENAME=noble\n",
        ] {
            let told = release_in(other).unwrap_err().to_string();
            assert!(told.contains("run this on Debian"), "{told}");
        }
    }
}
