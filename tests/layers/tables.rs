//! Every layer has an attack, and every attack is tried.

use cellwall::Layer;

use crate::attack::{ALWAYS, Attack, run};
use crate::{cpu, fences, files, memory, namespaces, privileges, processes, sockets};

const TABLES: [&[Attack]; 8] = [
    cpu::ATTACKS,
    fences::ATTACKS,
    files::ATTACKS,
    memory::ATTACKS,
    namespaces::ATTACKS,
    privileges::ATTACKS,
    processes::ATTACKS,
    sockets::ATTACKS,
];

/// Layers with tests of their own, and why they are in no table.
const OTHERWISE: [(Layer, &str); 3] = [
    (
        Layer::WriteXorExecute,
        "no worker can be without: `fences::code_stays_as_it_is`",
    ),
    (
        Layer::SharedWords,
        "no worker can be without: `fences::orders_stay_the_host_s`",
    ),
    (
        Layer::HostDeath,
        "takes a host that dies: `life::no_worker_outlives_its_host`",
    ),
];

#[test]
fn every_layer_is_attacked() {
    for layer in Layer::ALL {
        let in_tables = TABLES.iter().flat_map(|table| table.iter());
        let attacks = in_tables.filter(|attack| attack.layer == *layer).count();
        let otherwise = OTHERWISE.iter().any(|(other, _why)| other == layer);
        assert!((attacks > 0) != otherwise, "{}", layer.name());
    }
    assert!(
        ALWAYS
            .iter()
            .all(|layer| OTHERWISE.iter().any(|(other, _)| other == layer))
    );
}

#[test]
fn cpu() {
    run(cpu::ATTACKS);
}

#[test]
fn fences() {
    run(fences::ATTACKS);
}

#[test]
fn files() {
    run(files::ATTACKS);
}

#[test]
fn memory() {
    run(memory::ATTACKS);
}

#[test]
fn namespaces() {
    run(namespaces::ATTACKS);
}

#[test]
fn privileges() {
    run(privileges::ATTACKS);
}

#[test]
fn processes() {
    run(processes::ATTACKS);
}

#[test]
fn sockets() {
    run(sockets::ATTACKS);
}
