//! The FXSAVE image, as signal frames carry it, to and from [`Fpu`].
//! SDM Vol. 1, "FXSAVE Area".

use emu::state::Fpu;

/// The 512 bytes of FXSAVE.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(16))]
pub struct Fx(pub [u8; 512]);

/// Offset of MXCSR.
const MXCSR: usize = 24;
/// Offset of ST0; sixteen bytes a register.
const ST: usize = 32;
/// Offset of XMM0.
const XMM: usize = 160;

impl Fx {
    /// What a process starts with.
    pub fn initial() -> Self {
        let mut fx = Self([0; 512]);
        fx.put(0, &0x37Fu16.to_le_bytes());
        fx.put(MXCSR, &0x1F80u32.to_le_bytes());
        fx.put(MXCSR + 4, &0xFFFFu32.to_le_bytes());
        fx
    }

    /// The image of `fpu`. Registers of the stack are stored from its top on.
    pub fn of(fpu: &Fpu) -> Self {
        let mut fx = Self::initial();
        fx.put(0, &fpu.fcw.to_le_bytes());
        fx.put(2, &fpu.fsw.to_le_bytes());
        fx.put(4, &[fpu.ftw]);
        fx.put(6, &fpu.fop.to_le_bytes());
        fx.put(8, &fpu.fip.to_le_bytes());
        fx.put(16, &fpu.fdp.to_le_bytes());
        fx.put(MXCSR, &fpu.mxcsr.to_le_bytes());
        for i in 0..8 {
            let (significand, exponent) = fpu.regs[physical(fpu.fsw, i)];
            fx.put(ST + 16 * i, &significand.to_le_bytes());
            fx.put(ST + 16 * i + 8, &exponent.to_le_bytes());
        }
        for (i, xmm) in fpu.xmm.iter().enumerate() {
            fx.put(XMM + 16 * i, xmm);
        }
        fx
    }

    /// The state in the image.
    pub fn fpu(&self) -> Fpu {
        let fsw = u16::from_le_bytes(self.get(2));
        let mut fpu = Fpu {
            fcw: u16::from_le_bytes(self.get(0)),
            fsw,
            ftw: self.0[4],
            fop: u16::from_le_bytes(self.get(6)),
            fip: u64::from_le_bytes(self.get(8)),
            fdp: u64::from_le_bytes(self.get(16)),
            mxcsr: u32::from_le_bytes(self.get(MXCSR)),
            ..Fpu::default()
        };
        for i in 0..8 {
            fpu.regs[physical(fsw, i)] = (
                u64::from_le_bytes(self.get(ST + 16 * i)),
                u16::from_le_bytes(self.get(ST + 16 * i + 8)),
            );
        }
        for (i, xmm) in fpu.xmm.iter_mut().enumerate() {
            *xmm = self.get(XMM + 16 * i);
        }
        fpu
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn get<const N: usize>(&self, at: usize) -> [u8; N] {
        std::array::from_fn(|i| self.0[at + i])
    }
}

/// The physical register behind ST(i).
fn physical(fsw: u16, i: usize) -> usize {
    (usize::from(fsw >> 11 & 7) + i) & 7
}
