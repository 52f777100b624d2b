//! What can go wrong on the host side of an engine.

use std::io;

/// A host-side failure. Guest faults are never here.
#[derive(Debug, thiserror::Error)]
pub enum AccelError {
    /// The engine cannot be opened at all.
    #[error("{engine} is not available on this host")]
    Unavailable {
        /// The engine's name.
        engine: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A host call failed.
    #[error("{call} failed")]
    Host {
        /// The call, as its API names it.
        call: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
}
