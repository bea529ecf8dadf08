//! What a subscriber of `tracing` is told.

use std::fmt::Debug;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::sleep;
use std::time::Duration;

use cellwall::{Engine, PoolConfig};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use super::{module, new, two_turns};
use crate::harness::{alone, config, eventually};

/// The names of spans, and the messages of events.
static TOLD: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Keeps what it is told, as far as it is ours.
struct Listener {
    spans: AtomicU64,
}

/// Finds the message among an event's fields.
struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}

impl Subscriber for Listener {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("cellwall")
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        TOLD.lock().unwrap().push(span.metadata().name().to_owned());
        Id::from_u64(1 + self.spans.fetch_add(1, Relaxed))
    }

    fn event(&self, event: &Event<'_>) {
        let mut message = Message(String::new());
        event.record(&mut message);
        TOLD.lock().unwrap().push(message.0);
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

/// How often this has been told.
fn told(what: &str) -> usize {
    let told = TOLD.lock().unwrap();
    told.iter().filter(|one| *one == what).count()
}

#[test]
fn a_subscriber_hears_of_what_is_not_a_turn() {
    const TEST: &str = "metrics::spans::a_subscriber_hears_of_what_is_not_a_turn";
    const SOON: Duration = Duration::from_secs(10);
    alone(TEST, || {
        let listener = Listener {
            spans: AtomicU64::new(0),
        };
        tracing::subscriber::set_global_default(listener).unwrap();
        let engine = Engine::new(&config().pool(PoolConfig::new().most(1))).unwrap();
        let modules = [module(&engine), module(&engine)];
        for _ in 0..3 {
            let mut instance = new(&engine, &modules[0]);
            two_turns(&mut instance);
            instance.reset().unwrap();
            instance.reset().unwrap();
        }
        let so_far = ["start", "reuse", "reset", "reaped"].map(told);
        assert_eq!(so_far, [1, 2, 6, 0]);
        eventually(SOON, "the pool's thread cleans", || told("clean") > 0);
        sleep(Duration::from_millis(20));
        drop(new(&engine, &modules[1]));
        // One had to go for it.
        assert_eq!(["start", "reaped"].map(told), [2, 1]);
        drop((modules, engine));
        assert!(told("reaped") >= 2);
        let told = TOLD.lock().unwrap();
        // What the kernel lacks is told once for each.
        let once = told
            .iter()
            .filter(|one| one.starts_with("the kernel lacks"));
        let others = told.len() - once.count();
        assert!(others < 20, "turns are not told: {told:?}");
    });
}
