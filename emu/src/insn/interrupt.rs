//! INT n, INT3, INTO, INT1, BOUND, UD0, UD1, UD2. SDM Vol. 2, each mnemonic; Vol. 3A, "Software
//! Interrupt Handling in Virtual-8086 Mode". IRET is in `iret.rs`.

use super::form::row;
use super::{Row, undefined};
use crate::arch::Cr4;
use crate::arch::exception::{BP, BR, DB, Exception, OF};
use crate::arch::segment::Seg;
use crate::cpu::{Cpu, RIP, Raised};
use crate::decode::Insn;
use crate::event::Event;
use crate::mem::Access;
use crate::mem::raw::Raw;

fn interrupt(cpu: &mut Cpu, i: &Insn, vector: u8) -> Result<(), Raised> {
    let event = Event::software(cpu, vector, cpu.next_rip(i));
    cpu.take_software(&event)
}

/// INT n. In virtual-8086 mode it depends on IOPL, and with CR4.VME on the redirection bitmap;
/// INT3 and INTO do not.
fn int(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    let vector = i.imm as u8;
    if cpu.vm86() {
        if cpu.cr4.contains(Cr4::VME) && cpu.redirected(vector)? {
            let event = Event::software(cpu, vector, cpu.next_rip(i));
            cpu.interrupt_8086(&event)?;
            cpu.single_step = false;
            return Ok(());
        }
        if cpu.system_flags.iopl() < 3 {
            return cpu.gp(0);
        }
    }
    interrupt(cpu, i, vector)
}

fn int3(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    interrupt(cpu, i, BP)
}

fn into(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    if cpu.flags.of() {
        return interrupt(cpu, i, OF);
    }
    cpu.regs[RIP] = cpu.next_rip(i);
    Ok(())
}

/// INT1 (ICEBP): #DB without a look at the gate's DPL, and DR6 stays.
fn int1(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    let event = Event::software(cpu, DB, cpu.next_rip(i)).privileged();
    cpu.take_software(&event)
}

/// BOUND: #BR unless the signed index lies between the two bounds in memory.
fn bound<W: Raw>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    let stack = i.seg() == Seg::Ss as usize;
    let linear = cpu.linear_of(i, 2 * W::BYTES, Access::Read)?;
    let lower: W = cpu.read_linear(linear, stack)?;
    let after = linear.wrapping_add(W::BYTES as u64) & cpu.linear_mask;
    let upper: W = cpu.read_linear(after, stack)?;
    let index = cpu.reg::<W>(i.r[0]).to_i64();
    if index < lower.to_i64() || index > upper.to_i64() {
        return cpu.fault(Exception::new(BR));
    }
    Ok(())
}

#[rustfmt::skip]
pub(super) const ROWS: &[Row] = &[
    row!(plain: int,  [Int_imm8]),
    row!(plain: int3, [Int3]),
    row!(plain: into, [Into]),
    row!(plain: int1, [Int1]),
    row!(plain: bound::<u16>, [Bound_r16_m1616]),
    row!(plain: bound::<u32>, [Bound_r32_m3232]),
    row!(plain: undefined, [
        Ud0, Ud0_r16_rm16, Ud0_r32_rm32, Ud0_r64_rm64, Ud1_r16_rm16, Ud1_r32_rm32, Ud1_r64_rm64, Ud2,
    ]).ends(),
];

#[cfg(test)]
mod tests {
    use iced_x86::{Decoder, DecoderOptions, FlowControl};

    /// The loop advances RIP behind what iced does not call a branch: BOUND relies on it, INTO on
    /// the opposite.
    #[test]
    fn who_sets_rip() {
        let flow = |bytes: &[u8]| {
            let mut decoder = Decoder::new(32, bytes, DecoderOptions::NONE);
            decoder.decode().flow_control()
        };
        assert_eq!(flow(&[0x62, 0x00]), FlowControl::Next);
        assert_eq!(flow(&[0xCE]), FlowControl::Interrupt);
        assert_eq!(flow(&[0xF1]), FlowControl::Interrupt);
    }
}
