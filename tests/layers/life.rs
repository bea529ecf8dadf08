//! No worker outlives its host: a host of its own is started and dies.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use cellwall::{Config, Layer};
use linux_raw::sys::{general as sys, prctl};

use crate::host::is_root;
use crate::worker::Worker;

/// Says to this program what kind of host to be.
const HOST: &str = "CELLWALL_TEST_HOST";
/// A death is noticed by the kernel at once.
const BOUND: Duration = Duration::from_secs(5);

/// The hosts: what is beside the layer, whether the layer is there, whether the guest takes back
/// the wish to die that the child before the exec has.
const HOSTS: [(&str, &[Layer], bool); 5] = [
    ("without", &[], true),
    // What the layer leaves: the wish is the process' own. The filter alone keeps it.
    ("taken-back-without", &[Layer::HostDeath], true),
    ("alone", &[Layer::HostDeath], false),
    ("root-without", &[Layer::UserId], false),
    ("root-alone", &[Layer::UserId, Layer::HostDeath], false),
];

/// The wish of the child outlives the exec and would hide that the zygote's is missing. A change of
/// the user takes it away, as a root host's workers do; of others the guest takes it back.
#[test]
fn no_worker_outlives_its_host() {
    if let Ok(kind) = std::env::var(HOST) {
        return be_a_host(&kind);
    }
    let kinds: &[&str] = match is_root() {
        true => &["root-without", "root-alone"],
        false => &[],
    };
    let kinds = ["without", "alone", "taken-back-without"]
        .iter()
        .chain(kinds);
    for kind in kinds {
        let outlives = outlives_its_host(kind);
        assert_eq!(outlives, kind.ends_with("without"), "{kind}");
        println!("{kind}: outlives its host: {outlives}");
    }
}

/// Prints its worker's number and waits to be killed.
fn be_a_host(kind: &str) {
    let (_, kept, takes_back) = HOSTS
        .iter()
        .find(|(name, _, _)| *name == kind)
        .expect("a kind");
    let mut worker = Worker::start(&Config::default(), kept).expect("a worker");
    if *takes_back {
        let args = [prctl::PR_SET_PDEATHSIG.into(), 0, 0, 0, 0];
        assert_eq!(worker.call(sys::__NR_prctl, &args), Ok(0));
    }
    println!("\nworker {}", worker.process_id());
    std::thread::sleep(10 * BOUND);
}

fn outlives_its_host(kind: &str) -> bool {
    let program = std::env::current_exe().expect("this program's path");
    let mut host = Command::new(program)
        .args([
            "--exact",
            "life::no_worker_outlives_its_host",
            "--nocapture",
        ])
        .env(HOST, kind)
        .stdout(Stdio::piped())
        .spawn()
        .expect("a host");
    let worker = worker_of(&mut host);
    assert!(is_alive(worker));
    host.kill().expect("a host to kill");
    host.wait().expect("a dead host");
    let begun = Instant::now();
    // One that is to live on is given less time: the kernel kills at once.
    let patience = if kind.ends_with("without") {
        BOUND / 20
    } else {
        BOUND
    };
    while is_alive(worker) {
        if begun.elapsed() > patience {
            end(worker);
            return true;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    false
}

fn worker_of(host: &mut Child) -> u32 {
    let output = BufReader::new(host.stdout.take().expect("its output"));
    let number = output
        .lines()
        .map_while(Result::ok)
        .find_map(|line| line.strip_prefix("worker ")?.parse().ok());
    number.expect("a worker")
}

/// Whether it is there and no zombie: who waits for orphans may be slow.
fn is_alive(process: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"));
    stat.is_ok_and(|stat| {
        let state = stat.rsplit_once(") ").map(|(_, rest)| &rest[..1]);
        !matches!(state, Some("Z" | "X") | None)
    })
}

fn end(process: u32) {
    let status = Command::new("kill")
        .args(["-KILL", &process.to_string()])
        .status()
        .expect("the kill command");
    assert!(status.success(), "worker {process}");
}
