//! What a worker lives in is used again: nothing of one tenant is there for the next, and an
//! instance whose worker is dead still has its own.

use std::time::Duration;

use cellwall::{Death, Engine, Instance, Interrupt, Module, Signal};
use linux_raw::process::{Resource, get_limit, set_limit};

use super::alone_with_one;
use crate::harness::{DATA, assemble, call, engine, eventually, kill, memories, parts, workers};

const SETTLED: Duration = Duration::from_secs(5);

fn module(engine: &Engine) -> Module {
    let module = parts(&assemble(|code| {
        let mut forever = code.create_label();
        code.set_label(&mut forever).unwrap();
        code.jmp(forever).unwrap();
    }));
    module.build(engine).unwrap()
}

/// Ends the worker, while the instance stays.
type End = fn(&mut Instance);

const ENDS: [(&str, End); 2] = [
    ("killed", |instance| {
        kill(instance.process_id(), "-KILL");
        call(instance, &[]);
        let died = Interrupt::Died(Death::Killed(Signal::KILL));
        assert_eq!(instance.run().unwrap(), died);
    }),
    ("killed in its loop", |instance| {
        instance.set_deadline(Duration::from_millis(10));
        call(instance, &[]);
        assert_eq!(instance.run().unwrap(), Interrupt::Deadline);
        kill(instance.process_id(), "-KILL");
        let died = Interrupt::Died(Death::Killed(Signal::KILL));
        assert_eq!(instance.run().unwrap(), died);
    }),
];

#[test]
fn an_instance_keeps_its_memory_when_its_worker_is_dead() {
    const TEST: &str = "nursery::reuse::an_instance_keeps_its_memory_when_its_worker_is_dead";
    alone_with_one(TEST, || {
        let engine = engine();
        let module = module(&engine);
        for (how, end) in ENDS {
            let mut dead = engine.instantiate(&module).unwrap();
            dead.write(DATA, b"of the dead").unwrap();
            end(&mut dead);
            eventually(SETTLED, "reaped", || workers().is_empty());
            let mut others: Vec<Instance> = (0..3)
                .map(|_| engine.instantiate(&module).unwrap())
                .collect();
            for other in &mut others {
                assert_eq!(other.read(DATA, 11).unwrap(), [0; 11], "{how}");
                other.write(DATA, b"of the next").unwrap();
            }
            assert_eq!(dead.read(DATA, 11).unwrap(), b"of the dead", "{how}");
            dead.write(DATA, b"of nobody's").unwrap();
            for other in &mut others {
                assert_eq!(other.read(DATA, 11).unwrap(), b"of the next", "{how}");
            }
            drop(dead);
            for other in &mut others {
                assert_eq!(other.read(DATA, 11).unwrap(), b"of the next", "{how}");
            }
        }
    });
}

/// What is kept for the next workers leaves most of what its limits allow to the host.
#[test]
fn few_files_are_kept_where_limits_are_low() {
    const TEST: &str = "nursery::reuse::few_files_are_kept_where_limits_are_low";
    const MANY: usize = 20;
    const FOUR_GIB: u64 = 1 << 32;
    alone_with_one(TEST, || {
        let limits = [
            (Resource::AddressSpace, 28 * FOUR_GIB, 3),
            (Resource::Files, 128, 16),
        ];
        for (resource, soft, kept) in limits {
            let limit = get_limit(resource).unwrap();
            set_limit(resource, soft, limit.hard).unwrap();
            let engine = engine();
            let module = module(&engine);
            drop([(); MANY].map(|()| engine.instantiate(&module).unwrap()));
            eventually(SETTLED, "so many are left", || memories().len() == kept);
            // As many as before can be had.
            drop([(); MANY].map(|()| engine.instantiate(&module).unwrap()));
            drop((module, engine));
            set_limit(resource, limit.soft, limit.hard).unwrap();
        }
    });
}
