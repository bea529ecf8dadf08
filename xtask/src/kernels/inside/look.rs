//! One look at a kernel as one user: nothing is judged here.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use serde_json::Value;

use super::super::facts::{Audited, Facts, Refusal, Tested};
use super::{CELLWALL, Inside, Part, QUICK_GROUPS, TESTS, names};
use crate::Failure;
use crate::suite::{ABSENCES, passed_in};

pub(super) fn look(inside: &Inside, user: u32) -> Result<Facts, Failure> {
    let mut facts = Facts {
        user,
        release: fs::read_to_string("/proc/sys/kernel/osrelease")?
            .trim()
            .to_owned(),
        probe: None,
        refusal: None,
        tested: Vec::new(),
        absences: Vec::new(),
        audit: None,
    };
    if inside.part != Part::Tests {
        facts.probe = Some(probe(user)?);
        facts.refusal = inside.refused.then(|| refusal(user)).transpose()?;
    }
    if inside.part != Part::Probe {
        (facts.tested, facts.absences) = test(names(inside.refused), user)?;
    }
    if inside.part == Part::All && !inside.refused {
        facts.audit = Some(audit(inside.quick, user)?);
    }
    Ok(facts)
}

/// A program that is started as this user, whose stage is told.
fn started(program: &Path, arguments: &[&str], user: u32) -> Command {
    println!(
        "== {} {} as user {user}",
        program.display(),
        arguments.join(" ")
    );
    let mut command = Command::new(program);
    // The groups of a user that is not root go with the change.
    command.args(arguments).uid(user).gid(user);
    command
}

fn probe(user: u32) -> Result<Value, Failure> {
    let said = started(Path::new(CELLWALL), &["probe", "--json"], user)
        .stderr(Stdio::inherit())
        .output()?;
    let mut probe: Value = serde_json::from_slice(&said.stdout)?;
    probe["status"] = said.status.code().into();
    Ok(probe)
}

/// What somebody is told who runs a guest all the same.
fn refusal(user: u32) -> Result<Refusal, Failure> {
    let ran = started(Path::new(CELLWALL), &["run", "hello"], user).output()?;
    let message = String::from_utf8_lossy(&ran.stderr).into_owned();
    print!("{message}");
    Ok(Refusal {
        status: ran.status.code(),
        message,
    })
}

fn audit(quick: bool, user: u32) -> Result<Audited, Failure> {
    let path = format!("/tmp/audit-{user}");
    let mut words = vec!["audit", "--json"];
    let groups = format!("--groups={}", QUICK_GROUPS.join(","));
    words.extend(quick.then_some(groups.as_str()));
    let mut running = started(Path::new(CELLWALL), &words, user)
        .stdout(File::create(&path)?)
        // Where no terminal is, progress has lines.
        .stderr(Stdio::piped())
        .spawn()?;
    let progress = running.stderr.take().ok_or("an audit without an output")?;
    for line in BufReader::new(progress).lines() {
        println!("{}", line?);
    }
    let status = running.wait()?;
    let report: Value = serde_json::from_slice(&fs::read(path)?)?;
    let rows = || report["rows"].as_array().into_iter().flatten();
    let name = |row: &Value| {
        let word = |key: &str| row[key].as_str().unwrap_or_default().to_owned();
        format!("{} | {}", word("group"), word("attempt"))
    };
    let is_good = |row: &Value| {
        let good = ["holds", "reported", "off", "absent"];
        row["verdict"]
            .as_str()
            .is_some_and(|verdict| good.contains(&verdict))
    };
    let bad = rows().filter(|row| !is_good(row));
    bad.clone().for_each(|row| println!("{row}"));
    Ok(Audited {
        status: status.code(),
        attempts: rows().map(name).collect(),
        bad: bad.map(name).collect(),
        is_whole: !quick,
    })
}

/// Runs all test programs that have such a list of tests; gives also what the tests have missed.
fn test(names: &str, user: u32) -> Result<(Vec<Tested>, Vec<String>), Failure> {
    let record = PathBuf::from(format!("/tmp/absences-{user}"));
    fs::write(&record, "")?;
    chown(&record, Some(user), Some(user))?;
    let mut tested = Vec::new();
    for entry in fs::read_dir(TESTS)? {
        let list = entry?.path();
        if list.extension().is_some_and(|extension| extension == names) {
            tested.push(test_program(&list, user, &record)?);
        }
    }
    let absences = fs::read_to_string(&record)?;
    let absences: BTreeSet<&str> = absences.lines().collect();
    absences.iter().for_each(|line| println!("{line}"));
    let absences = absences.into_iter().map(str::to_owned).collect();
    Ok((tested, absences))
}

/// Runs the program that a list is of.
fn test_program(list: &Path, user: u32, record: &Path) -> Result<Tested, Failure> {
    let names = fs::read_to_string(list)?;
    let program = list.with_extension("");
    let mut command = started(&program, &[], user);
    command
        .arg("--exact")
        .args(names.lines())
        .env(ABSENCES, record);
    command.process_group(0);
    let mut child = command.stdout(Stdio::piped()).spawn()?;
    let output = child.stdout.take().ok_or("a program without an output")?;
    // A test that failed may have left processes, which would keep the output open.
    let ended = thread::spawn(move || {
        let status = child.wait();
        // There may be none.
        let group = format!("-{}", child.id());
        let _ = Command::new("kill").args(["-KILL", "--", &group]).output();
        status
    });
    let (mut passed, mut failed) = (0, Vec::new());
    for line in BufReader::new(output).split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        println!("{line}");
        passed = passed_in(&line).unwrap_or(passed);
        let test = line.strip_prefix("test ");
        failed.extend(
            test.and_then(|test| test.strip_suffix(" ... FAILED"))
                .map(str::to_owned),
        );
    }
    // What a test's own child has said is said again when the test fails.
    failed.sort();
    failed.dedup();
    // One that dies has said nothing of the test that it died of.
    let status = ended.join().map_err(|_| "nobody has waited")??;
    if !status.success() && failed.is_empty() {
        failed.push(status.to_string());
    }
    let name = program.file_name().unwrap_or_default();
    Ok(Tested {
        program: name.to_string_lossy().into_owned(),
        chosen: names.lines().count(),
        passed,
        failed,
    })
}
