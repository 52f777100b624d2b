//! The seeded faults.
//!
//! Each is text of one source file and what stands there instead while the fault is on. Where `was`
//! has `[[ ]]`, only what is between them is replaced; the rest tells which of several places is meant.
//! The text must occur exactly once, so that a fault whose place has changed is noticed.

use super::Detector::{self, Devices, Emu, Guest, Host};

/// What kind of mistake a fault is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    /// Status flags.
    Flags,
    /// Operand, address and count widths.
    Widths,
    /// Exceptions, their conditions and codes.
    Faults,
    /// Descriptors and privileges.
    Segments,
    /// Translation, rights, accessed and dirty bits.
    Paging,
    /// What is delivered when, and how.
    Events,
    /// x87 and SSE arithmetic.
    Float,
    /// Device registers.
    Devices,
}

/// One seeded fault.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// Its name on the command line.
    pub name: &'static str,
    /// Its kind.
    pub group: Group,
    /// The file, from the workspace's root.
    pub file: &'static str,
    /// Text of the file.
    pub was: &'static str,
    /// What replaces it, or what is between `[[ ]]`.
    pub becomes: &'static str,
    /// Who is asked first; the others follow.
    pub by: Detector,
    /// It is tried in CI.
    pub ci: bool,
}

const fn fault(
    name: &'static str,
    (group, by): (Group, Detector),
    file: &'static str,
    was: &'static str,
    becomes: &'static str,
) -> Fault {
    Fault {
        name,
        group,
        file,
        was,
        becomes,
        by,
        ci: false,
    }
}

impl Fault {
    const fn in_ci(self) -> Self {
        Self { ci: true, ..self }
    }
}

const FLAGS: (Group, Detector) = (Group::Flags, Host);
const WIDTHS: (Group, Detector) = (Group::Widths, Host);
const FAULTS: (Group, Detector) = (Group::Faults, Host);
const SEGMENTS: (Group, Detector) = (Group::Segments, Guest);
const PAGING: (Group, Detector) = (Group::Paging, Emu);
const EVENTS: (Group, Detector) = (Group::Events, Guest);
const FLOAT: (Group, Detector) = (Group::Float, Host);
const DEVICES: (Group, Detector) = (Group::Devices, Devices);

/// All of them.
#[rustfmt::skip]
pub const ALL: &[Fault] = &[
    fault("add-carry", FLAGS, "emu/src/flags.rs",
        "(a & b) | ((a | b) & !sum)", "a & b").in_ci(),
    fault("sub-borrow", FLAGS, "emu/src/flags.rs",
        "(!a & b) | ((!a | b) & difference)", "!a & b"),
    fault("logic-keeps-carry", FLAGS, "emu/src/flags.rs",
        "self.set_result(result);\n        [[self.carries = 0]]", "self.carries &= CARRY"),
    fault("parity-of-word", FLAGS, "emu/src/flags.rs",
        "(self.sign as u8).count_ones() & 1 == 0", "(self.sign as u16).count_ones() & 1 == 0"),
    fault("overflow-is-carry-in", FLAGS, "emu/src/flags.rs",
        "(self.carries ^ self.carries << 1) & CARRY != 0", "self.carries & CARRY_IN != 0"),
    fault("condition-l", FLAGS, "emu/src/flags.rs",
        "6 => [[self.sf() != self.of()]]", "self.sf()"),
    fault("inc-writes-carry", FLAGS, "emu/src/insn/arith.rs",
        "cpu.flags.after_add(a, one, sum);\n    [[cpu.flags.set_cf(cf)]]", "let _ = cf;"),
    fault("shl-carry", FLAGS, "emu/src/insn/shift.rs",
        "bit(a.to_u64(), W::BITS - count.min(W::BITS))", "a.msb()"),
    fault("rcr-overflow", FLAGS, "emu/src/insn/shift.rs",
        "let cf = rotated(a) >> W::BITS & 1 != 0;\n        cpu.flags.set_cf_of(cf, [[top_bits_differ(result)]])", "result.msb()"),
    fault("bsf-zero-flag", FLAGS, "emu/src/insn/bit.rs",
        "cpu.flags.set_zf(!found)", "cpu.flags.set_zf(index == 0)"),
    fault("das-carry", FLAGS, "emu/src/insn/bcd.rs",
        "high || low && al < 6", "high"),
    fault("imul-overflow", FLAGS, "emu/src/insn/muldiv.rs",
        "i128::from(low.to_i64()) != product", "product >> W::BITS != 0"),

    fault("adc-forgets-carry", WIDTHS, "emu/src/insn/arith.rs",
        "a.add(b).add(carry)", "a.add(b)").in_ci(),
    fault("shift-count-of-six-bits", WIDTHS, "emu/src/insn/shift.rs",
        "[[if W::BITS == 64 { 63 } else { 31 }]]", "63"),
    fault("rotate-through-carry-width", WIDTHS, "emu/src/insn/shift.rs",
        "let bits = [[W::BITS + 1]]", "W::BITS"),
    fault("bit-offset-unsigned", WIDTHS, "emu/src/insn/bit.rs",
        "cpu.reg::<W>(i.r[1]).to_i64()", "cpu.reg::<W>(i.r[1]).to_u64() as i64"),
    fault("movsx-zero-extends", WIDTHS, "emu/src/insn/data.rs",
        "cpu.set_reg(i.r[0], [[T::from_u64(value.to_i64() as u64)]]);\n    Ok(())\n}\n\n/// A condition", "T::from_u64(value.to_u64())"),
    fault("lods-keeps-width", WIDTHS, "emu/src/insn/string.rs",
        "cpu.set_reg(RAX, value)", "cpu.set_reg(RAX, value.to_u64())"),
    fault("stack-pointer-of-16-bits", (Group::Widths, Guest), "emu/src/mem/access.rs",
        "self.regs[4] = [[rsp & !self.stack_mask | rsp.wrapping_add(bytes) & self.stack_mask]]",
        "rsp.wrapping_add(bytes) & self.stack_mask"),

    fault("division-overflow", FAULTS, "emu/src/insn/muldiv.rs",
        "let low = W::from_u64(quotient);\n    ([[low.to_u64() == quotient]])", "true").in_ci(),
    fault("movs-advances-early", FAULTS, "emu/src/insn/string.rs",
        "let value: W = cpu.load_at(i.segment(), pointer(cpu, i, RSI))?;\n        [[cpu.store_at(Seg::Es, pointer(cpu, i, RDI), value)?]]",
        "let by = stride::<W>(cpu); advance(cpu, i, RSI, by); let done = cpu.store_at(Seg::Es, pointer(cpu, i, RDI), value); advance(cpu, i, RSI, if done.is_ok() { by.wrapping_neg() } else { 0 }); done?"),
    fault("stack-fault-is-gp", FAULTS, "emu/src/mem/access.rs",
        "if outside || beyond {\n            let vector = [[if stack { SS } else { GP }]]", "GP"),
    fault("alignment-unchecked", FAULTS, "emu/src/mem/access.rs",
        "privilege == Privilege::UserAligned && [[!linear.is_multiple_of(len as u64)]]", "false"),
    fault("page-fault-address-of-page", FAULTS, "emu/src/mem/paging.rs",
        "Exception::page_fault([[request.linear]], code)", "request.linear & !OFFSET"),
    fault("page-fault-not-user", FAULTS, "emu/src/mem/paging.rs",
        "code |= CODE_USER", "code |= 0"),
    fault("aam-of-ten", FAULTS, "emu/src/insn/bcd.rs",
        "let base = [[i.imm as u8]]", "10"),
    fault("io-map-one-byte", (Group::Faults, Guest), "emu/src/insn/io.rs",
        "bits >> (port % 8) & ((1 << width) - 1) == 0", "bits >> (port % 8) & 1 == 0"),
    fault("io-ignores-iopl", (Group::Faults, Guest), "emu/src/insn/io.rs",
        "cpu.vm86() || cpu.cpl > cpu.system_flags.iopl()", "cpu.vm86()"),

    fault("gate-dpl", SEGMENTS, "emu/src/event/gates.rs",
        "event.checked && dpl < self.cpl", "false").in_ci(),
    fault("gate-absent", SEGMENTS, "emu/src/event/gates.rs",
        "raw >> 47 & 1 == 0", "false"),
    fault("handler-conforming", SEGMENTS, "emu/src/event/gates.rs",
        "if d.conforming() { self.cpl } else { d.dpl() }", "d.dpl()"),
    fault("call-gate-rpl", SEGMENTS, "emu/src/insn/far.rs",
        "d.dpl() < cpu.cpl || d.dpl() < d.rpl()", "d.dpl() < cpu.cpl"),
    fault("call-gate-count", SEGMENTS, "emu/src/insn/far.rs",
        "count: [[d.raw >> 32 & 0x1F]]", "d.raw >> 32 & 0xF"),
    fault("expand-down-limit", SEGMENTS, "emu/src/mem/linear.rs",
        "offset > limit && last <= top", "offset >= limit && last <= top"),
    fault("segment-limit", SEGMENTS, "emu/src/mem/linear.rs",
        "} else {\n        [[last <= limit]]", "offset <= limit").in_ci(),
    fault("data-rpl", SEGMENTS, "emu/src/descriptor.rs",
        "d.rpl() > d.dpl() || self.cpl > d.dpl()", "self.cpl > d.dpl()"),
    fault("stack-rpl", SEGMENTS, "emu/src/descriptor.rs",
        "d.unfit_stack(cpl)", "!d.writable() || d.dpl() != cpl"),
    fault("return-keeps-inner-segments", SEGMENTS, "emu/src/insn/far_return.rs",
        "!segment.unusable() && !conforming && segment.dpl() < cpl", "false"),
    fault("code-offset", SEGMENTS, "emu/src/descriptor.rs",
        "rip <= u64::from(cs.limit)", "true"),

    fault("no-execute-of-leaf-only", PAGING, "emu/src/mem/paging.rs",
        "rights & value | (rights | value) & NO_EXECUTE", "rights & value | value & NO_EXECUTE"),
    fault("write-protect", PAGING, "emu/src/mem/paging.rs",
        "writable || !self.cr0.contains(Cr0::WP)", "true").in_ci(),
    fault("dirty-bit", PAGING, "emu/src/mem/paging.rs",
        "ACCESSED | dirty", "ACCESSED"),
    fault("accessed-tables", PAGING, "emu/src/mem/paging.rs",
        "self.mark::<E>(entry, ACCESSED)?", "()"),
    fault("reserved-no-execute", PAGING, "emu/src/mem/paging.rs",
        "reserved |= NO_EXECUTE", "reserved |= 0"),
    fault("pse36", PAGING, "emu/src/mem/paging.rs",
        "(entry.value >> 13 & 0xFF) << 32", "0"),
    fault("global-without-pge", PAGING, "emu/src/mem/paging.rs",
        "entry.value & GLOBAL != 0 && self.cr4.contains(Cr4::PGE)", "entry.value & GLOBAL != 0"),
    fault("smep", PAGING, "emu/src/mem/paging.rs",
        "user_page && self.cr4.contains(Cr4::SMEP)", "false"),
    fault("smap", PAGING, "emu/src/mem/paging.rs",
        "Access::Read => [[!(user_page && smap)]]", "true"),
    fault("pdpte-reserved", PAGING, "emu/src/mem/paging.rs",
        "*slot & PRESENT != 0 && *slot & PDPTE_RESERVED != 0", "false"),
    fault("invlpg-of-large-page", PAGING, "emu/src/mem/paging.rs",
        "self.tlb.note_large(request.linear, entry.shift)", "()"),

    fault("no-double-fault", EVENTS, "emu/src/event/mod.rs",
        "match ([[first]], class(second.vector))", "Class::Benign").in_ci(),
    fault("resume-flag", EVENTS, "emu/src/event/mod.rs",
        "if [[is_fault(exception.vector)]]", "false"),
    fault("gate-keeps-nested-task", EVENTS, "emu/src/event/gates.rs",
        "let mut cleared = [[RFlags::TF | RFlags::NT | RFlags::VM | RFlags::RF]]", "RFlags::TF | RFlags::VM | RFlags::RF"),
    fault("trap-gate-clears-if", EVENTS, "emu/src/event/gates.rs",
        "cleared.set(RFlags::IF, [[gate.clears_if]])", "true"),
    fault("stack-not-aligned", EVENTS, "emu/src/event/gates.rs",
        "stack.pointer & !0xF", "stack.pointer"),
    fault("external-bit", EVENTS, "emu/src/event/mod.rs",
        "fault.error_code.map(|code| code | EXT)", "fault.error_code"),
    fault("nmi-stays-masked", EVENTS, "emu/src/insn/iret.rs",
        "std::mem::take(&mut cpu.nmi_masked)", "false"),
    fault("iret-interrupt-flag", EVENTS, "emu/src/insn/iret.rs",
        "cpu.cpl <= cpu.system_flags.iopl()", "true"),
    fault("mov-ss-no-shadow", EVENTS, "emu/src/insn/segment.rs",
        "cpu.shadow = Shadow::MovSs", "()").in_ci(),
    fault("task-not-nested", EVENTS, "emu/src/event/task.rs",
        "nested || flags.contains(RFlags::NT)", "flags.contains(RFlags::NT)"),
    fault("task-stays-busy", EVENTS, "emu/src/event/task.rs",
        "self.set_busy(old_address, false)?", "()"),

    fault("round-half-up", FLOAT, "emu/src/fpu/round.rs",
        "rest == HALF && odd", "rest == HALF").in_ci(),
    fault("round-down", FLOAT, "emu/src/fpu/round.rs",
        "Rounding::Down => [[sign && rest != 0]]", "false"),
    fault("rounded-up-untold", FLOAT, "emu/src/fpu/round.rs",
        "[[env.up = true]];\n        let (sum", "env.up = false"),
    fault("tiny-before-rounding", FLOAT, "emu/src/fpu/round.rs",
        "let reaches = [[exp == shape.emin - 1]]", "false"),
    fault("unordered", FLOAT, "emu/src/insn/x87/compare.rs",
        "Order::Unordered => [[C0 | C2 | C3]]", "C0 | C3"),
    fault("square-root-sticky", FLOAT, "emu/src/fpu/arith.rs",
        "u64::from(rest > hi) << 63 | u64::from(rest != 0)", "u64::from(rest > hi) << 63"),
    fault("nan-of-smaller-significand", FLOAT, "emu/src/fpu/nan.rs",
        "_ => [[a.sig > b.sig]]", "a.sig < b.sig"),
    fault("paddsw-wraps", FLOAT, "emu/src/insn/sse/packed.rs",
        "(a as i16).saturating_add(b as i16) as u16", "a.wrapping_add(b)"),

    fault("pic-special-mask", DEVICES, "devices/src/i8259.rs",
        "self.isr & !self.imr", "self.isr"),
    fault("pic-rotation", DEVICES, "devices/src/i8259.rs",
        "self.highest = [[level.wrapping_add(1) & 7]]", "level & 7").in_ci(),
    fault("pit-latches-again", DEVICES, "devices/src/i8254/counter.rs",
        "self.count_latch.is_none()", "true").in_ci(),
    fault("pit-gate", DEVICES, "devices/src/i8254/counter.rs",
        "if mode.is_periodic() && !level {\n            [[self.out = true]]", "()"),
    fault("rtc-flags-stay", DEVICES, "devices/src/mc146818.rs",
        "std::mem::take(&mut self.ram[REG_C])", "self.ram[REG_C]").in_ci(),
    fault("ioapic-remote-irr", DEVICES, "devices/src/ioapic.rs",
        "accepted && entry.level()", "false"),
    fault("lapic-priority-class", DEVICES, "devices/src/lapic.rs",
        "self.tpr >> 4 >= serviced >> 4", "self.tpr >= serviced"),
    fault("lapic-timer-masked", DEVICES, "devices/src/lapic.rs",
        "self.timer.expire(now, entry & TIMER_PERIODIC != 0) && entry & word::MASKED == 0", "self.timer.expire(now, entry & TIMER_PERIODIC != 0)"),
    fault("hpet-disabled-timer", DEVICES, "devices/src/hpet.rs",
        "timer.advance(counter, tick) && timer.is(TimerConfig::ENABLE)", "timer.advance(counter, tick)"),
    fault("uart-divisor-latch", DEVICES, "devices/src/uart16550.rs",
        "IER if [[self.chip.has_divisor_latch()]] => high", "false"),
    fault("uart-loopback", DEVICES, "devices/src/uart16550.rs",
        "inputs.set(ModemStatus::CTS, out(ModemControl::RTS))", "inputs.set(ModemStatus::CTS, out(ModemControl::DTR))"),
    fault("bar-size", DEVICES, "devices/src/pci/bar.rs",
        "let mask = [[!(self.size - 1)]]", "!(self.size / 2 - 1)"),
    fault("bar-without-command", DEVICES, "devices/src/pci/bar.rs",
        "let enabled = [[command.contains(needs)]]", "true"),
    fault("dma-autoinit", DEVICES, "devices/src/i8237.rs",
        "over && self.mode().contains(Mode::AUTOINIT)", "false"),
    fault("chs-sector", DEVICES, "devices/src/ide/ata.rs",
        "head < self.heads && sector < self.sectors.into()", "head < self.heads"),
    fault("fw-cfg-skip", DEVICES, "devices/src/fw_cfg/mod.rs",
        "control & control::SKIP != 0 {\n                [[self.skip(length)]]", "()"),
    fault("vga-plane-order", DEVICES, "devices/src/vga/planar.rs",
        "u32::from_le_bytes([[[plane(0), plane(1), plane(2), plane(3)]]])\n}\n\n/// `byte`", "[plane(0), plane(1), plane(3), plane(2)]"),
];
