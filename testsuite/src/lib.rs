//! The test harness of twin86, written once.
//!
//! - [`case`]: a test case as tests write it; [`undefined`]: flags nobody defines
//! - [`layout`]: the pages a case sees, at the same linear addresses everywhere
//! - [`run`]: what goes into a case and what comes out
//! - [`host`]: the host's own processor as an oracle for unprivileged code
//! - [`guest`]: the same world as a guest; [`subject`]: the engines that run it
//! - [`system`]: one instruction in any mode and ring, against KVM
//! - [`boot`]: whole guests in the program itself, and in QEMU beside it
//! - [`nested`]: a machine in QEMU whose kernel has a whole KVM, for the program to run in
//! - [`generate`]: random cases; [`campaign`]: many of them; [`skip`]: what was not run, by name
//! - [`mutation`]: whether the suite can fail: seeded faults

pub mod boot;
pub mod campaign;
pub mod case;
pub mod generate;
pub mod guest;
pub mod host;
pub mod kernel;
pub mod layout;
pub mod mutation;
pub mod nested;
pub mod random;
pub mod run;
pub mod skip;
pub mod subject;
pub mod system;
pub mod undefined;
mod window;
