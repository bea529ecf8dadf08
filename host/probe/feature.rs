//! What is asked of a feature; which there are is the table's.

/// Whether a sandbox can do without a feature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// No sandbox runs without it.
    Must,
    /// It is used where the kernel has it.
    May,
    /// It is used if the embedder asks for it.
    OnRequest,
    /// Nothing uses it: it is looked for to be shown.
    Unused,
}

impl Need {
    /// `must`, `may`, `on request` or `not used`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Must => "must",
            Self::May => "may",
            Self::OnRequest => "on request",
            Self::Unused => "not used",
        }
    }
}

/// Makes the type of a table.
macro_rules! features {
    ($($(#[$doc:meta])* $feature:ident: $need:ident, $since:expr,
       on [$($base:ident)?], layers [$($layer:ident),*];
       $name:literal; $for:literal; $advice:literal;)*) => {
        /// A feature of the kernel that Cellwall uses, or that it looks for to show it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Feature { $($(#[$doc])* $feature,)* }

        impl Feature {
            /// Every feature, musts first.
            pub const ALL: &[Self] = &[$(Self::$feature,)*];

            /// Its name, for people and as a key for machines.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$feature => $name,)* }
            }

            /// The feature of this name.
            #[must_use]
            pub fn named(name: &str) -> Option<Self> {
                match name { $($name => Some(Self::$feature),)* _ => None }
            }

            /// Whether a sandbox can do without.
            #[must_use]
            pub const fn need(self) -> Need {
                match self { $(Self::$feature => Need::$need,)* }
            }

            /// What it is needed for.
            #[must_use]
            pub const fn needed_for(self) -> &'static str {
                match self { $(Self::$feature => $for,)* }
            }

            /// The layers of the wall that stand on it: without the feature they do not stand.
            ///
            /// A layer that the kernel may lack has exactly one feature; one that is always there
            /// may need several, or none of which a kernel could lack.
            #[must_use]
            pub const fn layers(self) -> &'static [Layer] {
                match self { $(Self::$feature => &[$(Layer::$layer,)*],)* }
            }

            /// The first kernel that has it as we use it.
            #[must_use]
            pub const fn since(self) -> Version {
                match self { $(Self::$feature => $since,)* }
            }

            /// What it rests on: without that it need not be tried. That feature comes earlier in
            /// [`Self::ALL`].
            #[must_use]
            pub const fn rests_on(self) -> Option<Self> {
                match self { $(Self::$feature => features!(@base $($base)?),)* }
            }

            /// What to do where the kernel lacks it.
            #[must_use]
            pub const fn advice(self) -> &'static str {
                match self { $(Self::$feature => $advice,)* }
            }
        }
    };
    (@base) => { None };
    (@base $base:ident) => { Some(Self::$base) };
}

pub(super) use features;
