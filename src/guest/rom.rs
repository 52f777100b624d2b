//! The assembled image, where the compiler can assemble it.
// UNSAFETY: the image is a symbol of `global_asm!`, which Rust sees as a foreign static.

pub use assembled::image;

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
#[expect(unsafe_code, reason = "the image is a foreign static")]
mod assembled {
    use super::super::SIZE;

    // One block, so that labels of all files stand in one section of one object.
    core::arch::global_asm!(
        include_str!("boot.S"),
        include_str!("console.S"),
        include_str!("modes.S"),
        include_str!("traps.S"),
        include_str!("real.S"),
        include_str!("realtraps.S"),
        include_str!("protected.S"),
        include_str!("limits.S"),
        include_str!("rings.S"),
        include_str!("gates.S"),
        include_str!("expand.S"),
        include_str!("tasks.S"),
        include_str!("switch.S"),
        include_str!("iopl.S"),
        include_str!("code16.S"),
        include_str!("vm86.S"),
        include_str!("paging.S"),
        include_str!("long.S"),
        include_str!("user.S"),
        include_str!("code.S"),
        include_str!("events.S"),
        include_str!("timers.S"),
        include_str!("ports.S"),
        include_str!("chipset.S"),
        include_str!("end.S"),
        options(att_syntax, raw)
    );

    // SAFETY: end.S fills the symbol's section up to SIZE bytes; they are read-only, and any bytes
    // are valid `u8`s.
    unsafe extern "C" {
        safe static twin86_guest_rom: [u8; SIZE];
    }

    /// The image, as assembled: all parts chosen, none unavailable.
    pub fn image() -> Option<&'static [u8]> {
        Some(&twin86_guest_rom)
    }
}

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
mod assembled {
    /// No image: this compiler cannot assemble x86 code.
    pub fn image() -> Option<&'static [u8]> {
        None
    }
}
