//! The test harness of twin86, written once.
//!
//! - [`layout`]: the pages a case sees, at the same linear addresses everywhere
//! - [`run`]: what goes into a case and what comes out
//! - [`host`]: the host's own processor as an oracle for unprivileged code

pub mod host;
pub mod layout;
pub mod random;
pub mod run;
mod window;
