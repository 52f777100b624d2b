//! twin86: one i440FX PC, two engines. The program's library: [`machine::Machine`] joins the board
//! of [`devices`] to an engine of [`accel`].

pub mod accel_option;
pub mod backends;
pub mod boot;
mod by_hand;
pub mod calendar;
pub mod choose;
pub mod cli;
pub mod console;
pub mod control;
pub mod device_option;
pub mod drives;
pub mod embedded;
pub mod engines;
pub mod exits;
pub mod firmware;
pub mod firmware_options;
pub mod flow;
pub mod gdb;
pub mod guest;
pub mod inspect;
pub mod machine;
pub mod monitor;
pub mod pc;
pub mod properties;
pub mod qtest;
pub mod run;
pub mod signals;
pub mod socket;
pub mod stats;
pub mod subcommand;
pub mod switch_option;
pub mod time;
pub mod trace;
