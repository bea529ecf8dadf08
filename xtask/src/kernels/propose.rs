//! Which newer kernels the suites have than those that are pinned.

use std::path::Path;

use super::pins::{Pin, Pins};
use crate::Failure;
use crate::apt::{Apt, Offer, is_newer, series_of};

/// Where kernels come from: the long-term series from releases and their backports, the newest from
/// what becomes the next release. One that the mirrors have no more is to be taken out here.
pub(super) const SUITES: [&str; 8] = [
    "bullseye-security",
    "bookworm",
    "bookworm-security",
    "trixie",
    "trixie-security",
    "trixie-backports",
    "sid",
    "experimental",
];

/// The names of the pins that stand for no series of their own.
const STABLE: &str = "stable";
const RC: &str = "rc";

/// What a version has that is not released.
const NOT_RELEASED: &str = "~rc";

/// Says for each pin what there is now, and prints the lines for the file, or writes them.
pub(super) fn propose(
    root: &Path,
    cache: &Path,
    mut pins: Pins,
    write: bool,
) -> Result<(), Failure> {
    let offers = asked(cache)?;
    let mut proposed = Vec::new();
    for pin in &pins.all {
        let newer = newest_for(&offers, pin)?;
        let (name, package) = (&pin.name, &newer.package);
        if *package == pin.package {
            println!("{name}: {package} is the newest");
        } else {
            println!(
                "{name}: {package} in {} instead of {}",
                newer.suite, pin.package
            );
        }
        proposed.push(newer);
    }
    tell_of_others(&offers, &proposed)?;
    pins.all = proposed;
    if write {
        return pins.write(root);
    }
    println!();
    pins.all.iter().for_each(|pin| print!("{}", pin.line()));
    Ok(())
}

/// The newest kernel that there is for a pin.
pub(super) fn newest_of(cache: &Path, pin: &Pin) -> Result<Pin, Failure> {
    newest_for(&asked(cache)?, pin)
}

fn asked(cache: &Path) -> Result<Vec<Offer>, Failure> {
    eprintln!("asking the mirrors what {} suites have ...", SUITES.len());
    Apt::new(&cache.join("apt/all"), &SUITES)?.kernels()
}

fn newest_for(offers: &[Offer], pin: &Pin) -> Result<Pin, Failure> {
    let newest = newest(offers, |offer| is_of(offer, &pin.name))?;
    let newest = newest.ok_or_else(|| format!("no suite has a kernel for {}", pin.name))?;
    Ok(Pin {
        name: pin.name.clone(),
        suite: newest.suite.clone(),
        package: format!("{}={}", newest.package, newest.version),
        refused: pin.refused.clone(),
    })
}

/// Whether an offer is one for a pin of this name.
fn is_of(offer: &Offer, name: &str) -> bool {
    match name {
        STABLE => !offer.version.contains(NOT_RELEASED),
        RC => offer.version.contains(NOT_RELEASED),
        series => !offer.version.contains(NOT_RELEASED) && series_of(&offer.version) == series,
    }
}

fn newest(offers: &[Offer], is_wanted: impl Fn(&Offer) -> bool) -> Result<Option<&Offer>, Failure> {
    let mut newest: Option<&Offer> = None;
    for offer in offers.iter().filter(|offer| is_wanted(offer)) {
        // Of packages with one version, that of the binary has the image; unsigned ones come last.
        let is_better = match newest {
            None => true,
            Some(best) if best.version == offer.version => offer.package < best.package,
            Some(best) => is_newer(&offer.version, &best.version)?,
        };
        if is_better {
            newest = Some(offer);
        }
    }
    Ok(newest)
}

/// What a person should know who decides: series without a pin, and a candidate that was released.
fn tell_of_others(offers: &[Offer], pins: &[Pin]) -> Result<(), Failure> {
    let pinned = |series: &String| pins.iter().any(|pin| pin.series() == *series);
    let mut others: Vec<String> = offers
        .iter()
        .map(|offer| series_of(&offer.version))
        .collect();
    others.sort();
    others.dedup();
    others.retain(|series| !pinned(series));
    if !others.is_empty() {
        println!("offered too, and not pinned: {}", others.join(" "));
    }
    let version = |name| pins.iter().find(|pin| pin.name == name).map(Pin::version);
    if let (Some(stable), Some(rc)) = (version(STABLE), version(RC))
        && is_newer(stable, rc)?
    {
        println!("{RC}: {rc} is older than the newest release, {stable}");
    }
    Ok(())
}

/// Whether what is pinned is offered.
pub(super) fn has(offers: &[Offer], pin: &Pin) -> bool {
    let package = |offer: &Offer| format!("{}={}", offer.package, offer.version);
    offers.iter().any(|offer| package(offer) == pin.package)
}

/// What the suites have for a pin, for whoever has met one that they have no more.
pub(super) fn offered(apt: &Apt, pin: &Pin) -> String {
    let of_pin = |offer: &Offer| is_of(offer, &pin.name);
    let offers = apt.kernels().unwrap_or_default();
    let names: Vec<String> = offers
        .into_iter()
        .filter(of_pin)
        .map(|offer| format!("{}={}", offer.package, offer.version))
        .collect();
    names.join(" ")
}

#[cfg(test)]
mod tests {
    use super::{Offer, Pin, has, is_of, newest};

    fn offers(text: &str) -> Vec<Offer> {
        text.lines().filter_map(Offer::parse).collect()
    }

    #[test]
    fn what_is_pinned_is_offered_or_gone() {
        let offers =
            offers("linux-image-6.1.0-9-amd64 | 6.1.20-1 | http://m old/main amd64 Packages");
        for (package, is_offered) in [
            ("linux-image-6.1.0-9-amd64=6.1.20-1", true),
            ("linux-image-6.1.0-9-amd64=6.1.2-1", false),
            ("linux-image-6.1.0-8-amd64=6.1.20-1", false),
        ] {
            let pin = Pin::parse(&format!("6.1 old {package}")).unwrap();
            assert_eq!(has(&offers, &pin), is_offered, "{package}");
        }
    }

    #[test]
    fn the_newest_of_a_series_is_found() {
        let offers = offers(
            "linux-image-6.12.9+deb12-cloud-amd64 | 6.12.9-1~deb12u1 | http://m old/main amd64 Packages
             linux-image-6.12.10+deb13-cloud-amd64 | 6.12.10-1 | http://m new/main amd64 Packages
             linux-image-6.1.0-9-cloud-amd64-unsigned | 6.1.20-1 | http://m old/main amd64 Packages
             linux-image-6.1.0-9-cloud-amd64 | 6.1.20-1 | http://m old/main amd64 Packages
             linux-binary-unsigned-7.1.3-cloud-amd64 | 7.1.3-1 | http://m sid/main amd64 Packages
             linux-image-7.1.3-cloud-amd64 | 7.1.3-1 | http://m sid/main amd64 Packages
             linux-image-7.2.1-cloud-amd64 | 7.2.1-1 | http://m sid/main amd64 Packages
             linux-binary-7.2.1-cloud-amd64 | 7.2.1-1 | http://m sid/main amd64 Packages
             linux-binary-7.3-cloud-amd64 | 7.3~rc7-1~exp1 | http://m experimental/main amd64 Packages",
        );
        for (name, package, suite) in [
            ("6.12", "linux-image-6.12.10+deb13-cloud-amd64", "new"),
            ("6.1", "linux-image-6.1.0-9-cloud-amd64", "old"),
            ("7.1", "linux-binary-unsigned-7.1.3-cloud-amd64", "sid"),
            ("stable", "linux-binary-7.2.1-cloud-amd64", "sid"),
            ("rc", "linux-binary-7.3-cloud-amd64", "experimental"),
        ] {
            let found = newest(&offers, |offer| is_of(offer, name))
                .unwrap()
                .unwrap();
            assert_eq!(
                (found.package.as_str(), found.suite.as_str()),
                (package, suite),
                "{name}"
            );
        }
        assert!(
            newest(&offers, |offer| is_of(offer, "5.10"))
                .unwrap()
                .is_none()
        );
    }
}
