//! Instruction groups as a guest sees them: byte-code programs through the engine's public face.

mod data;
mod guest;
mod io;
mod stack;
mod strings;
