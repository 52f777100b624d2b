//! Events and transfers of control as small guests see them, through the public engine: each guest
//! is run twice, instruction by instruction and in blocks, and must come out the same.

mod fuzz;
mod guest;
mod long;
mod protected;
mod real;
mod tasks;
mod translations;
