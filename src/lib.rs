//! twin86: one i440FX PC, two engines. The program's library: [`machine::Machine`] joins the board
//! of [`devices`] to an engine of [`accel`].

pub mod cli;
pub mod exits;
pub mod machine;
pub mod properties;
pub mod time;
pub mod trace;
