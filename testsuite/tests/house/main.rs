//! The house rules that a program can check: every instruction has its row or its reason, and the
//! sources keep to what `house.md` asks of them.

mod coverage;
mod sources;
mod unimplemented;
