//! IN, OUT, INS, OUTS. SDM Vol. 2, each mnemonic; Vol. 1, "Input/Output", "I/O Permission Bit Map".
//!
//! Ports are reached only by an instruction that runs alone. A repeated INS or OUTS makes one call
//! to the board an execution: a slice of items where these lie in one page of plain memory and go
//! up, else one item.

use super::Row;
use super::form::{row, step};
use super::string::{RAX, RCX, RDI, RSI, advance, down, leave, pointer, portion, stretch, stride};
use crate::arch::Gpr;
use crate::arch::segment::{Seg, Segment};
use crate::cpu::{Cpu, Raised};
use crate::decode::Insn;
use crate::mem::Access;
use crate::mem::raw::Raw;

const RDX: usize = Gpr::Rdx as usize;
/// Type of a 32-bit (in long mode: 64-bit) TSS, available; [`BUSY`] may be set.
const TSS32: u8 = 9;
/// Bit of a TSS type: busy.
const BUSY: u8 = 1 << 1;
/// Offset of the I/O map base address in a 32- or 64-bit TSS.
const MAP_BASE: u64 = 0x66;
/// The most bytes one call to the board carries.
const MOST_BYTES: usize = 4096;

/// Where a port's number lies.
trait Port: 'static {
    /// The port's number.
    fn port(cpu: &Cpu, i: &Insn) -> u16;
}

/// The port is an immediate byte.
struct Imm8;
/// The port is DX.
struct Dx;

impl Port for Imm8 {
    fn port(_: &Cpu, i: &Insn) -> u16 {
        u16::from(i.imm as u8)
    }
}

impl Port for Dx {
    fn port(cpu: &Cpu, _: &Insn) -> u16 {
        cpu.regs[RDX] as u16
    }
}

/// What comes before an access of `width` bytes at `port`: permission, and a look at I/O breakpoints.
fn open(cpu: &mut Cpu, port: u16, width: usize) -> Result<(), Raised> {
    permit(cpu, port, width)?;
    cpu.watch_io(port, width);
    Ok(())
}

/// Lets an I/O instruction go on only alone and where the program may reach `width` ports from
/// `port`: #GP(0) else.
fn permit(cpu: &mut Cpu, port: u16, width: usize) -> Result<(), Raised> {
    if !cpu.alone {
        return cpu.retry();
    }
    let by_map = cpu.protected() && (cpu.vm86() || cpu.cpl > cpu.system_flags.iopl());
    if by_map && !allowed_by_map(cpu, port, width)? {
        return cpu.gp(0);
    }
    Ok(())
}

/// Looks into the I/O permission bit map of the TSS. It is read two bytes at a time, both of which
/// must lie inside the limit; a 16-bit TSS has none.
fn allowed_by_map(cpu: &mut Cpu, port: u16, width: usize) -> Result<bool, Raised> {
    let tr = *cpu.segment(Seg::Tr);
    let limit = u64::from(tr.limit);
    if tr.unusable() || !tr.has(Segment::P) || tr.kind() & !BUSY != TSS32 || limit <= MAP_BASE {
        return Ok(false);
    }
    let mask = if cpu.long_mode() {
        u64::MAX
    } else {
        u64::from(u32::MAX)
    };
    let base: u16 = cpu.system_read(tr.base.wrapping_add(MAP_BASE) & mask)?;
    let at = u64::from(base) + u64::from(port / 8);
    if at + 1 > limit {
        return Ok(false);
    }
    let bits: u16 = cpu.system_read(tr.base.wrapping_add(at) & mask)?;
    Ok(bits >> (port % 8) & ((1 << width) - 1) == 0)
}

/// Reads one item from a port.
#[inline(never)]
fn read_port<W: Raw>(cpu: &Cpu, port: u16) -> W {
    let mut data = [0xFF; 8];
    cpu.io.port_read(port, W::BYTES, &mut data[..W::BYTES]);
    W::from_u64(u64::from_le_bytes(data))
}

/// Writes one item to a port.
#[inline(never)]
fn write_port<W: Raw>(cpu: &Cpu, port: u16, value: W) {
    let data = value.to_u64().to_le_bytes();
    cpu.io.port_write(port, W::BYTES, &data[..W::BYTES]);
}

fn input<W: Raw, P: Port>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    let port = P::port(cpu, i);
    open(cpu, port, W::BYTES)?;
    let value: W = read_port(cpu, port);
    cpu.set_reg(RAX, value);
    Ok(())
}

fn output<W: Raw, P: Port>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    let port = P::port(cpu, i);
    open(cpu, port, W::BYTES)?;
    let value: W = cpu.reg(RAX);
    write_port(cpu, port, value);
    Ok(())
}

/// A string transfer between a port and memory.
trait Transfer: 'static {
    /// One item: the pointer advanced.
    fn item<W: Raw>(cpu: &mut Cpu, i: &Insn, port: u16) -> Result<(), Raised>;
    /// Up to `most` items by one call: the pointer advanced, their number returned. None where
    /// they must go one by one.
    fn slice<W: Raw>(cpu: &mut Cpu, i: &Insn, port: u16, most: u64) -> Result<u64, Raised>;
}

/// INS: to ES:RDI, whatever the prefixes. Faults come before the port is read.
struct Ins;

impl Transfer for Ins {
    fn item<W: Raw>(cpu: &mut Cpu, i: &Insn, port: u16) -> Result<(), Raised> {
        let linear = cpu.linear_at(Seg::Es, pointer(cpu, i, RDI), W::BYTES, Access::Write)?;
        cpu.probe_write(linear, W::BYTES, false)?;
        let value: W = read_port(cpu, port);
        cpu.write_linear(linear, value, false)?;
        advance(cpu, i, RDI, stride::<W>(cpu));
        Ok(())
    }

    #[inline(never)]
    fn slice<W: Raw>(cpu: &mut Cpu, i: &Insn, port: u16, most: u64) -> Result<u64, Raised> {
        let (to, count) = stretch::<W>(cpu, i, (Seg::Es, RDI), Access::Write, most);
        let bytes = count as usize * W::BYTES;
        if count < 2 || cpu.plain_bytes(to, Access::Write, false)? < bytes {
            return Ok(0);
        }
        let mut buffer = [0xFF; MOST_BYTES];
        let data = &mut buffer[..bytes];
        cpu.io.port_read(port, W::BYTES, data);
        cpu.write_plain(to, data)?;
        advance(cpu, i, RDI, bytes as u64);
        Ok(count)
    }
}

/// OUTS: from RSI in DS or the segment of a prefix.
struct Outs;

impl Transfer for Outs {
    fn item<W: Raw>(cpu: &mut Cpu, i: &Insn, port: u16) -> Result<(), Raised> {
        let value: W = cpu.load_at(i.segment(), pointer(cpu, i, RSI))?;
        write_port(cpu, port, value);
        advance(cpu, i, RSI, stride::<W>(cpu));
        Ok(())
    }

    #[inline(never)]
    fn slice<W: Raw>(cpu: &mut Cpu, i: &Insn, port: u16, most: u64) -> Result<u64, Raised> {
        let seg = i.segment();
        let (from, count) = stretch::<W>(cpu, i, (seg, RSI), Access::Read, most);
        let bytes = count as usize * W::BYTES;
        let mut buffer = [0; MOST_BYTES];
        if count < 2 || !cpu.read_plain(from, seg == Seg::Ss, &mut buffer[..bytes])? {
            return Ok(0);
        }
        cpu.io.port_write(port, W::BYTES, &buffer[..bytes]);
        advance(cpu, i, RSI, bytes as u64);
        Ok(count)
    }
}

fn once<W: Raw, T: Transfer>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    let port = Dx::port(cpu, i);
    open(cpu, port, W::BYTES)?;
    T::item::<W>(cpu, i, port)
}

/// One execution of a repeated transfer. The permission is checked even if the count is zero.
fn repeat<W: Raw, T: Transfer>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    let port = Dx::port(cpu, i);
    permit(cpu, port, W::BYTES)?;
    let most = portion(cpu, pointer(cpu, i, RCX));
    if most != 0 {
        cpu.watch_io(port, W::BYTES);
        // An I/O breakpoint traps behind each item.
        let by_slice = if down(cpu) || cpu.debug_hits != 0 {
            0
        } else {
            T::slice::<W>(cpu, i, port, most)?
        };
        let done = match by_slice {
            0 => T::item::<W>(cpu, i, port).map(|()| 1)?,
            done => done,
        };
        advance(cpu, i, RCX, done.wrapping_neg());
    }
    let over = pointer(cpu, i, RCX) == 0;
    leave(cpu, i, over);
    Ok(())
}

/// Rows of string transfers, each alone and repeated (by F2 or F3).
macro_rules! transfers {
    ($($transfer:ident<$w:ty>: $code:ident;)*) => {
        &[$(row!(@row [$code] |i| {
            if i.has_rep_prefix() || i.has_repne_prefix() {
                step!(repeat::<$w, $transfer>)
            } else {
                step!(once::<$w, $transfer>)
            }
        }).ends(),)*]
    };
}

#[rustfmt::skip]
pub(super) const STRINGS: &[Row] = transfers! {
    Ins<u8>: Insb_m8_DX;   Ins<u16>: Insw_m16_DX;   Ins<u32>: Insd_m32_DX;
    Outs<u8>: Outsb_DX_m8; Outs<u16>: Outsw_DX_m16; Outs<u32>: Outsd_DX_m32;
};

#[rustfmt::skip]
pub(super) const ROWS: &[Row] = &[
    row!(plain: input::<u8, Imm8>, [In_AL_imm8]).ends(),
    row!(plain: input::<u16, Imm8>, [In_AX_imm8]).ends(),
    row!(plain: input::<u32, Imm8>, [In_EAX_imm8]).ends(),
    row!(plain: input::<u8, Dx>, [In_AL_DX]).ends(),
    row!(plain: input::<u16, Dx>, [In_AX_DX]).ends(),
    row!(plain: input::<u32, Dx>, [In_EAX_DX]).ends(),
    row!(plain: output::<u8, Imm8>, [Out_imm8_AL]).ends(),
    row!(plain: output::<u16, Imm8>, [Out_imm8_AX]).ends(),
    row!(plain: output::<u32, Imm8>, [Out_imm8_EAX]).ends(),
    row!(plain: output::<u8, Dx>, [Out_DX_AL]).ends(),
    row!(plain: output::<u16, Dx>, [Out_DX_AX]).ends(),
    row!(plain: output::<u32, Dx>, [Out_DX_EAX]).ends(),
];
