//! IN and OUT. SDM Vol. 2, each mnemonic; Vol. 1, "Input/Output".

use super::Row;
use super::form::row;
use crate::cpu::{Cpu, Raised};
use crate::decode::Insn;
use crate::mem::raw::Raw;

fn out_dx<W: Raw>(cpu: &mut Cpu, _: &Insn) -> Result<(), Raised> {
    if !cpu.alone {
        return cpu.retry();
    }
    let value: W = cpu.reg(0);
    cpu.io.port_write(
        cpu.regs[2] as u16,
        W::BYTES,
        &value.to_u64().to_le_bytes()[..W::BYTES],
    );
    Ok(())
}

#[rustfmt::skip]
pub(super) const ROWS: &[Row] = &[
    row!(plain: out_dx::<u8>, [Out_DX_AL]).ends(),
];
