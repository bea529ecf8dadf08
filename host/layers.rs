//! Which layers of the wall are in force, as a worker reported before a guest ran in it.

use std::sync::atomic::Ordering::{Acquire, Relaxed};

use linux_raw::Errno;
use vmctx::{GuestPage, Layer, LayerNeed, LayerSet};

use crate::ways::Ways;
use crate::wishes::Wishes;

/// The layers around one worker, or around all workers of an engine.
///
/// ```
/// use cellwall::{Config, Engine, Layer, Standing};
///
/// let engine = Engine::new(&Config::default())?;
/// let layers = engine.layers()?;
/// assert_eq!(layers.standing(Layer::SystemCalls), Standing::InForce);
/// for (layer, standing) in layers.iter() {
///     println!("{}: {standing}", layer.name());
/// }
/// # Ok::<(), cellwall::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct Layers {
    in_force: LayerSet,
    absences: [Option<Errno>; Layer::ALL.len()],
}

/// Whether a layer is in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It is.
    InForce,
    /// The kernel or the CPU lacks it, which it said by this errno, or which
    /// [`Config::kernel`](crate::Config::kernel) says. For speculation: `ENXIO`, the
    /// CPU does not do it; `EPERM`, the kernel does not let a process settle it; `ENODEV`, the
    /// kernel does not know it.
    Absent(Errno),
    /// It is not a part of the tier, was not asked for, or was asked to be left out.
    Off,
}

impl Default for Layers {
    /// None of them.
    fn default() -> Self {
        Self {
            in_force: LayerSet::NONE,
            absences: [None; Layer::ALL.len()],
        }
    }
}

impl Layers {
    /// Reads the worker's report, to which the host adds the layers that it put up itself, and why
    /// it does without others.
    ///
    /// To be read before a guest runs: until then the words are the zygote's own.
    pub(crate) fn read(page: &GuestPage, by_host: LayerSet, ways: &Ways) -> Self {
        // Acquire pairs with the zygote's Release in `last_words::report_layers`.
        let reported = page.layers.load(Acquire);
        let mut absences = [None; Layer::ALL.len()];
        for (absence, word) in absences.iter_mut().zip(&page.absences) {
            *absence = Errno::from_raw(word.load(Relaxed));
        }
        for (layer, errno) in ways.left_out() {
            if let Some(absence) = absences.get_mut(layer as usize) {
                *absence = Some(errno);
            }
        }
        Self {
            in_force: LayerSet::from_raw(reported | by_host.raw()),
            absences,
        }
    }

    /// The first must of the wished tier, or the first that was asked for, that is not in force.
    pub(crate) fn first_missing(&self, wishes: &Wishes) -> Option<Layer> {
        let is_needed = |layer: Layer| match layer.need() {
            LayerNeed::Must => layer.is_in(wishes.tier()),
            LayerNeed::OnRequest => wishes.asks_for(layer),
            LayerNeed::May => false,
        };
        let mut layers = Layer::ALL.iter().copied();
        layers.find(|layer| is_needed(*layer) && !self.in_force.has(*layer))
    }

    /// What became of a layer.
    #[must_use]
    pub fn standing(&self, layer: Layer) -> Standing {
        if self.in_force.has(layer) {
            return Standing::InForce;
        }
        let absence = self.absences.get(layer as usize).copied().flatten();
        absence.map_or(Standing::Off, Standing::Absent)
    }

    /// Every layer of the wall, in the order of `docs/threat-model.md`.
    pub fn iter(&self) -> impl Iterator<Item = (Layer, Standing)> + '_ {
        Layer::ALL
            .iter()
            .map(|layer| (*layer, self.standing(*layer)))
    }

    /// Those that the kernel or the CPU lacks.
    pub fn absent(&self) -> impl Iterator<Item = (Layer, Errno)> + '_ {
        self.iter().filter_map(|(layer, standing)| match standing {
            Standing::Absent(errno) => Some((layer, errno)),
            Standing::InForce | Standing::Off => None,
        })
    }
}

impl std::fmt::Display for Standing {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::InForce => out.write_str("in force"),
            Self::Absent(errno) => write!(out, "absent ({errno})"),
            Self::Off => out.write_str("off"),
        }
    }
}
