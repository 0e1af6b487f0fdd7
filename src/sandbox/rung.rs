//! The names of the isolation ladder.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// One way of isolating a RUN, in order of preference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rung {
    /// A user namespace with a range of ids; real owners, pivot_root.
    Namespaces,
    /// mount(2) without a user namespace.
    Mounts,
    /// A user namespace with one id; owners emulated.
    Single,
    /// chroot(2), with a supervisor for /proc and /dev.
    Chroot,
    /// No privilege at all: paths and owners emulated.
    Virtual,
    /// No RUN; everything else builds.
    None,
}

/// A name that is no rung.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("`{0}` is not an isolation (expected one of namespaces, mounts, single, chroot, virtual, none)")]
pub struct UnknownRung(pub String);

impl Rung {
    /// All of them, best first.
    pub const ALL: [Self; 6] =
        [Self::Namespaces, Self::Mounts, Self::Single, Self::Chroot, Self::Virtual, Self::None];

    /// Its name, as users write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Namespaces => "namespaces",
            Self::Mounts => "mounts",
            Self::Single => "single",
            Self::Chroot => "chroot",
            Self::Virtual => "virtual",
            Self::None => "none",
        }
    }

    /// Whether this program can do it yet.
    pub fn is_built(self) -> bool {
        self != Self::Virtual
    }
}

impl fmt::Display for Rung {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Rung {
    type Err = UnknownRung;

    fn from_str(text: &str) -> Result<Self, UnknownRung> {
        Self::ALL.into_iter().find(|rung| rung.name() == text).ok_or_else(|| UnknownRung(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_prints() {
        for rung in Rung::ALL {
            assert_eq!(rung.to_string().parse(), Ok(rung));
        }
        assert_eq!("Chroot".parse::<Rung>(), Err(UnknownRung("Chroot".to_owned())));
    }
}
