//! Kernel versions: for people, and to tell an old kernel from a filter that plays one.

use std::fmt;

/// A version of Linux.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    major: u16,
    minor: u16,
    patch: u16,
}

impl Version {
    /// `major.minor`.
    #[must_use]
    pub const fn new(major: u16, minor: u16) -> Self {
        Self::with_patch(major, minor, 0)
    }

    /// `major.minor.patch`, which mattered before 3.0.
    #[must_use]
    pub const fn with_patch(major: u16, minor: u16, patch: u16) -> Self {
        Self {
            major,
            minor,
            patch,
        }
    }

    /// The version that a release such as `6.18.0-1-amd64` begins with.
    #[must_use]
    pub fn of_release(release: &str) -> Option<Self> {
        // What a distributor appends begins with another character, as in `7.3-rc1`.
        let end = release.find(|c: char| c != '.' && !c.is_ascii_digit());
        let mut numbers = release.get(..end.unwrap_or(release.len()))?.split('.');
        let mut next = || numbers.next()?.parse().ok();
        Some(Self::with_patch(next()?, next()?, next().unwrap_or(0)))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}.{}", self.major, self.minor)?;
        match self.patch {
            0 => Ok(()),
            patch => write!(out, ".{patch}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Version;

    #[test]
    fn releases_are_read_up_to_where_they_are_versions() {
        let read = |release| Version::of_release(release).map(|version| version.to_string());
        assert_eq!(read("6.18.44-1-amd64").as_deref(), Some("6.18.44"));
        assert_eq!(read("6.1.0").as_deref(), Some("6.1"));
        assert_eq!(read("7.3-rc7").as_deref(), Some("7.3"));
        assert_eq!(read("5.10").as_deref(), Some("5.10"));
        let debian = "6.12.117+deb13-cloud-amd64";
        assert_eq!(read(debian).as_deref(), Some("6.12.117"));
        assert_eq!(read("6.18-1-x").as_deref(), Some("6.18"));
        assert_eq!(read("unknown"), None);
        assert_eq!(read(""), None);
    }

    #[test]
    fn versions_have_the_order_of_time() {
        assert!(Version::new(5, 9) < Version::new(5, 10));
        assert!(Version::with_patch(2, 6, 24) < Version::new(3, 8));
    }
}
