//! An instruction of a given code with random operands of the kinds it takes.

use iced_x86::{Code, Instruction, OpCodeOperandKind as Kind, OpKind, Register};

use crate::layout::{CODE, DATA};
use crate::random::Random;
use crate::run::Mode;

/// What an operand is made with.
struct Maker<'a> {
    random: &'a mut Random,
    mode: Mode,
    at: u64,
    /// Bits of an address: 64, 32 or 16.
    address: u32,
    instruction: Instruction,
}

/// A random instruction of `code` at address `at`; `None` for kinds of operands that no covered
/// instruction has.
pub fn instruction(random: &mut Random, code: Code, mode: Mode, at: u64) -> Option<Instruction> {
    let mut instruction = Instruction::default();
    instruction.set_code(code);
    let short = random.chance(10);
    let address = match mode {
        Mode::Long64 => {
            if short {
                32
            } else {
                64
            }
        }
        Mode::Compat32 => {
            if short {
                16
            } else {
                32
            }
        }
    };
    let mut maker = Maker {
        random,
        mode,
        at,
        address,
        instruction,
    };
    let op = code.op_code();
    for (i, kind) in op.op_kinds().iter().enumerate() {
        maker.operand(i as u32, *kind)?;
    }
    let Maker {
        random,
        mut instruction,
        ..
    } = maker;
    let in_memory = instruction.op0_kind() == OpKind::Memory;
    if op.can_use_lock_prefix() && random.chance(if in_memory { 30 } else { 2 }) {
        instruction.set_has_lock_prefix(true);
    }
    if op.can_use_rep_prefix() && random.chance(50) {
        instruction.set_has_rep_prefix(true);
    } else if op.can_use_repne_prefix() && random.chance(30) {
        instruction.set_has_repne_prefix(true);
    }
    Some(instruction)
}

impl Maker<'_> {
    fn operand(&mut self, i: u32, kind: Kind) -> Option<()> {
        match kind {
            Kind::mem | Kind::mem_mib => self.memory(i),
            Kind::mem_offs => self.absolute(i),
            Kind::r8_or_mem => self.either(i, |maker| maker.general(1)),
            Kind::r16_or_mem => self.either(i, |maker| maker.general(2)),
            Kind::r32_or_mem => self.either(i, |maker| maker.general(4)),
            Kind::r64_or_mem => self.either(i, |maker| maker.general(8)),
            Kind::mm_or_mem => self.either(i, Self::mmx),
            Kind::xmm_or_mem => self.either(i, Self::xmm),
            Kind::mm_reg | Kind::mm_rm => self.register(i, Self::mmx),
            Kind::xmm_reg | Kind::xmm_rm => self.register(i, Self::xmm),
            Kind::sti_opcode => self.numbered(i, Register::ST0, 8),
            Kind::r8_reg | Kind::r8_opcode => self.gpr(i, 1),
            Kind::r16_reg | Kind::r16_reg_mem | Kind::r16_rm | Kind::r16_opcode => self.gpr(i, 2),
            Kind::r32_reg
            | Kind::r32_reg_mem
            | Kind::r32_rm
            | Kind::r32_opcode
            | Kind::r32_vvvv => self.gpr(i, 4),
            Kind::r64_reg
            | Kind::r64_reg_mem
            | Kind::r64_rm
            | Kind::r64_opcode
            | Kind::r64_vvvv => self.gpr(i, 8),
            Kind::seg_reg => self.numbered(i, Register::ES, 6),
            Kind::cr_reg => self.numbered(i, Register::CR0, 9),
            Kind::dr_reg => self.numbered(i, Register::DR0, 8),
            _ => match fixed(kind) {
                Some(register) => self.instruction.set_op_register(i, register),
                None => return self.immediate(i, kind).or_else(|| self.implied(i, kind)),
            },
        }
        Some(())
    }

    fn numbered(&mut self, i: u32, first: Register, count: u64) {
        let register = first + self.random.below(count) as u32;
        self.instruction.set_op_register(i, register);
    }

    fn general(&mut self, size: u32) -> Register {
        let count = if self.mode == Mode::Long64 { 16 } else { 8 };
        let number = self.random.below(count) as u32;
        match size {
            // AL to BH without REX, SPL to R15L with it.
            1 if self.mode == Mode::Compat32 => Register::AL + number,
            1 => Register::AL + self.random.below(20) as u32,
            2 => Register::AX + number,
            4 => Register::EAX + number,
            _ => Register::RAX + number,
        }
    }

    fn mmx(&mut self) -> Register {
        Register::MM0 + self.random.below(8) as u32
    }

    fn xmm(&mut self) -> Register {
        let count = if self.mode == Mode::Long64 { 16 } else { 8 };
        Register::XMM0 + self.random.below(count) as u32
    }

    fn gpr(&mut self, i: u32, size: u32) {
        self.register(i, |maker| maker.general(size));
    }

    fn register(&mut self, i: u32, choose: impl Fn(&mut Self) -> Register) {
        let register = choose(self);
        self.instruction.set_op_register(i, register);
    }

    /// A register or memory.
    fn either(&mut self, i: u32, choose: impl Fn(&mut Self) -> Register) {
        if self.random.chance(50) {
            self.memory(i);
        } else {
            self.instruction.set_op_kind(i, OpKind::Register);
            self.register(i, choose);
        }
    }

    fn absolute(&mut self, i: u32) {
        self.instruction.set_op_kind(i, OpKind::Memory);
        self.instruction.set_memory_displ_size(self.address / 8);
        let place = DATA + self.random.below(0x2000);
        let place = if self.address == 16 {
            place & 0xFFFF
        } else {
            place
        };
        self.instruction.set_memory_displacement64(place);
    }

    fn memory(&mut self, i: u32) {
        self.instruction.set_op_kind(i, OpKind::Memory);
        if self.address == 16 {
            return self.memory16();
        }
        if self.mode == Mode::Long64 && self.address == 64 && self.random.chance(8) {
            self.instruction.set_memory_base(Register::RIP);
            self.instruction.set_memory_displ_size(8);
            let place = DATA + self.random.below(0x6000);
            return self.instruction.set_memory_displacement64(place);
        }
        let size = self.address / 8;
        let based = self.random.chance(92);
        if based {
            let base = self.general(size);
            self.instruction.set_memory_base(base);
        }
        if self.random.chance(45) {
            let index = self.general(size);
            if !matches!(index, Register::RSP | Register::ESP) {
                self.instruction.set_memory_index(index);
                let scale = 1 << self.random.below(4);
                self.instruction.set_memory_index_scale(scale);
            }
        }
        self.displacement(based);
        if self.mode == Mode::Long64 && self.random.chance(8) {
            let segment = self.random.pick(&[Register::FS, Register::GS]);
            self.instruction.set_segment_prefix(segment);
        }
    }

    fn displacement(&mut self, based: bool) {
        let wide = self.address / 8;
        if !based {
            self.instruction.set_memory_displ_size(wide);
            let place = DATA + self.random.below(0x6000);
            return self.instruction.set_memory_displacement64(place);
        }
        let (size, value) = match self.random.below(3) {
            0 => (0, 0),
            1 => (1, i64::from(self.random.draw() as i8)),
            _ => (
                wide,
                i64::from(self.random.draw() as i32 >> self.random.below(31)),
            ),
        };
        let value = value.cast_unsigned();
        let value = if wide == 4 {
            value & 0xFFFF_FFFF
        } else {
            value
        };
        self.instruction.set_memory_displ_size(size);
        self.instruction.set_memory_displacement64(value);
    }

    fn memory16(&mut self) {
        use Register::{BP, BX, DI, None, SI};
        let pairs = [
            (BX, SI),
            (BX, DI),
            (BP, SI),
            (BP, DI),
            (SI, None),
            (DI, None),
            (BX, None),
        ];
        let (base, index) = self.random.pick(&pairs);
        self.instruction.set_memory_base(base);
        self.instruction.set_memory_index(index);
        self.instruction.set_memory_displ_size(2);
        let displacement = self.random.draw() & 0xFFFF;
        self.instruction.set_memory_displacement64(displacement);
    }

    fn immediate(&mut self, i: u32, kind: Kind) -> Option<()> {
        let value = super::values::register(self.random);
        let second = i > 0 && self.instruction.op_kind(i - 1) == OpKind::Immediate16;
        let kind = match kind {
            Kind::imm8 if second => OpKind::Immediate8_2nd,
            Kind::imm8 | Kind::imm8_const_1 => OpKind::Immediate8,
            Kind::imm8sex16 => OpKind::Immediate8to16,
            Kind::imm8sex32 => OpKind::Immediate8to32,
            Kind::imm8sex64 => OpKind::Immediate8to64,
            Kind::imm16 => OpKind::Immediate16,
            Kind::imm32 => OpKind::Immediate32,
            Kind::imm32sex64 => OpKind::Immediate32to64,
            Kind::imm64 => OpKind::Immediate64,
            _ => return None,
        };
        self.instruction.set_op_kind(i, kind);
        let constant = self.instruction.code().op_code().op_kind(i) == Kind::imm8_const_1;
        match kind {
            OpKind::Immediate8 if constant => self.instruction.set_immediate8(1),
            OpKind::Immediate8 => self.instruction.set_immediate8(value as u8),
            OpKind::Immediate8_2nd => self.instruction.set_immediate8_2nd(value as u8 & 31),
            OpKind::Immediate8to16 => self.instruction.set_immediate8to16(i16::from(value as i8)),
            OpKind::Immediate8to32 => self.instruction.set_immediate8to32(i32::from(value as i8)),
            OpKind::Immediate8to64 => self.instruction.set_immediate8to64(i64::from(value as i8)),
            OpKind::Immediate16 => self.instruction.set_immediate16(value as u16),
            OpKind::Immediate32 => self.instruction.set_immediate32(value as u32),
            OpKind::Immediate32to64 => {
                self.instruction
                    .set_immediate32to64(i64::from(value as i32));
            }
            _ => self.instruction.set_immediate64(value),
        }
        Some(())
    }

    /// String operands, XLAT's table, and branch targets.
    fn implied(&mut self, i: u32, kind: Kind) -> Option<()> {
        let size = if self.address == 64 {
            0
        } else if self.address == 32 {
            1
        } else {
            2
        };
        let op = match kind {
            Kind::seg_rSI => [
                OpKind::MemorySegRSI,
                OpKind::MemorySegESI,
                OpKind::MemorySegSI,
            ][size],
            Kind::es_rDI => [OpKind::MemoryESRDI, OpKind::MemoryESEDI, OpKind::MemoryESDI][size],
            Kind::seg_rDI => [
                OpKind::MemorySegRDI,
                OpKind::MemorySegEDI,
                OpKind::MemorySegDI,
            ][size],
            Kind::seg_rBX_al => {
                self.instruction
                    .set_memory_base([Register::RBX, Register::EBX, Register::BX][size]);
                self.instruction.set_memory_index(Register::AL);
                OpKind::Memory
            }
            Kind::br16_1 | Kind::br16_2 => OpKind::NearBranch16,
            Kind::br32_1 | Kind::br32_4 => OpKind::NearBranch32,
            Kind::br64_1 | Kind::br64_4 => OpKind::NearBranch64,
            _ => return None,
        };
        self.instruction.set_op_kind(i, op);
        match op {
            OpKind::NearBranch16 => self
                .instruction
                .set_near_branch16(self.random.draw() as u16),
            OpKind::NearBranch32 => {
                let target = self.target(kind) as u32;
                self.instruction.set_near_branch32(target);
            }
            OpKind::NearBranch64 => {
                let target = self.target(kind);
                self.instruction.set_near_branch64(target);
            }
            _ => {}
        }
        Some(())
    }

    /// A branch target that is not inside the case's own code, so that nothing loops.
    fn target(&mut self, kind: Kind) -> u64 {
        let ahead = self.at + 40 + self.random.below(60);
        match kind {
            Kind::br32_1 | Kind::br64_1 if self.random.chance(50) => ahead,
            Kind::br32_1 | Kind::br64_1 => self.at - 1 - self.random.below(100),
            _ => CODE + self.random.below(0x300),
        }
    }
}

/// Operands that are one register.
fn fixed(kind: Kind) -> Option<Register> {
    Some(match kind {
        Kind::es => Register::ES,
        Kind::cs => Register::CS,
        Kind::ss => Register::SS,
        Kind::ds => Register::DS,
        Kind::fs => Register::FS,
        Kind::gs => Register::GS,
        Kind::al => Register::AL,
        Kind::cl => Register::CL,
        Kind::ax => Register::AX,
        Kind::dx => Register::DX,
        Kind::eax => Register::EAX,
        Kind::rax => Register::RAX,
        Kind::st0 => Register::ST0,
        _ => return None,
    })
}
