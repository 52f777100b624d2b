# Virtual-8086 mode in full: vm86-flags, vm86-limit, vm86-irq, vm86-vme.
#
# QEMU's TCG goes on into a handler that is not in ring 0, and has no limits and no CR4.VME.

# One instruction in virtual-8086 mode that faults; what is behind it faults in another way.
.macro vm86_one flags, vector, error, text, insn:vararg
    vm86_faults \flags
    \insn
    .if \vector == 6
    hlt
    .else
    ud2
    .endif
.code32
1:  trapped32 \vector, \error, "\text"
.endm
# After code in virtual-8086 mode that ends with INT 31h: the flags there.
.macro vm86_there expected, text
.code32
1:  flags_there (0x20000 | \expected), "\text"
.endm

.code32
part_vm86_flags:
    movb $0xee, IDT32 + 0x31 * 8 + 5
    vm86_faults 0x3000
    sti
    pushfw
    popw %bx
    cli
    pushfl
    popl %ecx
    int $0x31
    vm86_there 0x3002, "STI and CLI with IOPL 3"
    movzwl %bx, %eax
    check32 $0x3202, "PUSHF shows IF and IOPL"
    movl %ecx, %eax
    check32 $0x3002, "32-bit PUSHF hides VM"
    vm86_faults 0x3000
    pushl $0x000002d5
    popfl
    int $0x31
    vm86_there 0x32d7, "32-bit POPF loads IF and keeps IOPL and VM"
    vm86_faults 0x3200
    pushl $0
    pushl $0xf000
    pushl $(2f - guest_rom)
    iretl
2:  int $0x31
    vm86_there 0x3002, "32-bit IRET the same"
    vm86_one 0, 13, 0, "#GP: STI with IOPL 0", sti
    vm86_one 0x2000, 13, 0, "#GP: POPF with IOPL 2", popfw
    vm86_one 0, 13, 0, "#GP: 32-bit PUSHF with IOPL 0", pushfl
    vm86_one 0, 13, 0, "#GP: 32-bit IRET with IOPL 0", iretl
    vm86_one 0x3000, 13, 0x182, "#GP: INT to a gate of DPL 0", int $0x30
    # INT3 and INTO do not look at IOPL.
    vm86_one 0, 13, 0x1a, "#GP: INT3 to a gate of DPL 0", int3
    movb $0xee, IDT32 + 3 * 8 + 5
    vm86_one 0, 3, 0, "INT3 with IOPL 0", int3
    # What the mode has not.
    vm86_one 0x3000, 6, 0, "#UD: LAR", lar %ax, %ax
    vm86_one 0x3000, 6, 0, "#UD: STR", str %ax
    vm86_one 0x3000, 6, 0, "#UD: ARPL", .byte 0x63, 0xc0
    vm86_one 0x3000, 13, 0, "#GP: CLTS", clts
    vm86_one 0x3000, 13, 0, "#GP: MOV from CR0", .byte 0x0f, 0x20, 0xc0
    # A handler must be in ring 0.
    descriptor CODE1, 0, 0xfffff, 0xbb, 0xc
    descriptor 0x90, 0, 0xfffff, 0x9f, 0xc
    movw $CODE1, IDT32 + 3 * 8 + 2
    vm86_one 0, 13, CODE1, "#GP: a handler in ring 1", int3
    movw $0x90, IDT32 + 3 * 8 + 2
    vm86_one 0, 13, 0x90, "#GP: a handler in conforming code", int3
    # I/O by the map, whatever IOPL is.
    movb $0xff, TSS32 + 0x75
    io_map 0x68, 0x75
    vm86_faults 0
    inb $0x61, %al
    int3
.code32
1:  trapped32 13, 0x90, "IN of a port the map allows, with IOPL 0"
    vm86_one 0x3000, 13, 0, "#GP: IN over the end of the map", inw $0x67, %ax
    # A 16-bit gate pushes nine words.
    movl $(KCODE16 << 16 | ((vm86_gate16 - guest_rom) & 0xffff)), IDT32 + 3 * 8
    movl $0xe600, IDT32 + 3 * 8 + 4
    movl $-1, RING0_STACK - 4
    vm86_faults 0
    int3
.code32
1:  movl %ebx, %eax
    check32 $(RING0_STACK - 18), "a 16-bit gate from virtual-8086 mode"
    movl RING0_STACK - 4, %eax
    check32 $0x44443333, "GS and FS in its frame"
    movl RING0_STACK - 16, %eax
    check32 $(0xf000 | 0x0002 << 16), "CS and FLAGS in its frame"
    ret
.code16
vm86_gate16:
    movl %esp, %ebx
    movw $KDATA, %ax
    movw %ax, %ds
    movl V_RESUME_SP, %esp
    pushl $2
    pushl $KCODE32
    pushl V_RESUME
    iretl

# QEMU's TCG has none of the checks in this part.
.code32
part_vm86_limit:
    movb $0xee, IDT32 + 0x31 * 8 + 5
    vm86_one 0, 13, 0, "#GP: a word at FFFF", movw (0xffff), %ax
    vm86_one 0, 13, 0, "#GP: a dword at FFFD", movl %eax, %fs:(0xfffd)
    vm86_one 0, 13, 0, "#GP: an offset beyond 64 KiB", .byte 0x67, 0xa0, 0, 0, 1, 0
    vm86_faults 0
    movw $1, %sp
    pushw %ax
    ud2
.code32
1:  trapped32 12, 0, "#SS: PUSH at SP 1"
    vm86_faults 0
    movw $0xfffe, %sp
    popl %eax
    ud2
.code32
1:  trapped32 12, 0, "#SS: POP of a dword at FFFE"
    vm86_faults 0x3000
    movw $0, %sp
    pushw %ax
    popw %ax
    int $0x31
.code32
1:  trapped32 0x31, 0, "PUSH and POP at SP 0"
    movl RING0_STACK - 24, %eax
    andl $0xffff, %eax
    check32 $0, "SP wrapped there and back"
    movl $0x90909090, 0x3fffc
    vm86_one 0, 13, 0, "#GP: code runs over FFFF", ljmpw $0x3000, $0xfffe
    movl V_RIP, %eax
    check32 $0x10000, "EIP behind FFFF"
    vm86_one 0, 13, 0, "#GP: a 32-bit jump beyond FFFF", ljmpl $0x3000, $0x10000
    movl V_CS, %eax
    check32 $0xf000, "it jumped nowhere"
    vm86_faults 0
    pushl $0x10000
    .byte 0x66
    ret
    ud2
.code32
1:  trapped32 13, 0, "#GP: a 32-bit RET beyond FFFF"
    ret

# Interrupts from outside: all segment registers are in the frame, IOPL does not count.
part_vm86_irq:
    movl $0x1ff, 0xfee000f0
    movl $0x700, 0xfee00350
    movl $0, 0xfee00080
    call pic_setup
    movb $0x30, %al                 # mode 0, 200 ticks
    outb %al, $0x43
    movb $200, %al
    outb %al, $0x40
    xorb %al, %al
    outb %al, $0x40
    movb $0xfe, %al
    outb %al, $0x21
    vm86_faults 0x200
2:  jmp 2b
.code32
1:  trapped32 0x20, 0, "the 8254's interrupt in virtual-8086 mode"
    movb $0x20, %al
    outb %al, $0x20
    movl V_FLAGS, %eax
    check32 $0x20202, "its frame's EFLAGS"
    movl V_RIP, %eax
    check32 $(2b - guest_rom), "its frame's EIP"
    movl RING0_STACK - 16, %eax
    check32 $0x2001, "its frame's ES"
    movl RING0_STACK - 12, %eax
    check32 $0x2000, "its frame's DS"
    movl RING0_STACK - 8, %eax
    check32 $0x3333, "its frame's FS"
    movl RING0_STACK - 4, %eax
    check32 $0x4444, "its frame's GS"
    call pic_setup
    # A self IPI waits for IF: IRET to virtual-8086 mode opens it, before the first instruction.
    movl $0x4003e, 0xfee00300
    vm86_faults 0x200
    ud2
.code32
1:  trapped32 0x3e, 0, "an IPI on the way into virtual-8086 mode"
    movl $0, 0xfee000b0
    # STI there: behind the next instruction.
    movl $0x4003e, 0xfee00300
    vm86_faults 0x3000
    movw $0, %bx
    sti
    incw %bx
    ud2
.code32
1:  trapped32 0x3e, 0, "an IPI behind STI in virtual-8086 mode"
    movzwl %bx, %eax
    check32 $1, "the instruction in STI's shadow"
    movl $0, 0xfee000b0
    movl $0x1b, %ecx
    rdmsr
    btrl $11, %eax
    wrmsr
    btsl $11, %eax
    wrmsr
    movl $0x10000, 0xfee00350
    ret

# The monitor's frame, without RF and the status flags.
vme_flags:
    movl V_FLAGS, %eax
    andl $~0x108d5, %eax
    ret
# CR4.VME, where CPUID has it. The redirection map is before the I/O map: 68 to 87.
part_vm86_vme:
    movl $1, %eax
    cpuid
    testb $2, %dl
    jz 9f
    movb $0xee, IDT32 + 0x31 * 8 + 5
    movl $1, %eax
    movl %eax, %cr4
    io_map 0x88, 0x89
    movb $0x02, TSS32 + 0x68 + 6    # INT 31h is not redirected
    movl $(0xf0000000 | ((vm86_handler - guest_rom) & 0xffff)), 0x21 * 4
    vm86_faults 0x80000
    int $0x21
.code32
1:  trapped32 13, 0, "INT 21h redirected below IOPL 3"
    movzwl %bx, %eax
    check32 $0x3202, "the FLAGS it pushed: VIF as IF, IOPL 3"
    movl %ecx, %eax
    check32 $0xf0000800, "SP after its frame of words, and CS in it"
    call vme_flags
    check32 $0x20002, "VIF is clear in the handler"
    vm86_faults 0x3200
    int $0x21
.code32
1:  trapped32 13, 0, "INT 21h redirected with IOPL 3"
    movzwl %bx, %eax
    check32 $0x3202, "the FLAGS it pushed with IOPL 3"
    call vme_flags
    check32 $0x23002, "IF is clear in the handler"
    vm86_one 0, 13, 0, "#GP: INT 31h not redirected, below IOPL 3", int $0x31
    vm86_faults 0x3000
    int $0x31
    vm86_there 0x3002, "INT 31h not redirected, with IOPL 3"
    vm86_one 0, 13, 0x1a, "INT3 is never redirected", int3
    vm86_faults 0
    sti
    pushfw
    popw %bx
    hlt
.code32
1:  call vme_flags
    check32 $0xa0002, "STI sets VIF"
    movzwl %bx, %eax
    check32 $0x3202, "PUSHF shows it as IF, and IOPL 3"
    vm86_faults 0x80000
    cli
    hlt
.code32
1:  call vme_flags
    check32 $0x20002, "CLI clears VIF"
    vm86_faults 0x200
    pushw $0x0
    popfw
    pushw $0x3201
    popfw
    hlt
.code32
1:  call vme_flags
    check32 $0xa0202, "POPF sets VIF, and keeps IF and IOPL"
    vm86_faults 0x80000
    pushw $0
    pushw $0xf000
    pushw $(2f - guest_rom)
    iretw
2:  hlt
.code32
1:  call vme_flags
    check32 $0x20002, "IRET clears VIF"
    vm86_one 0x100000, 13, 0, "#GP: STI with VIP", sti
    vm86_faults 0x100000
    pushw $0x200
    popfw
    pushw %ax
.code32
1:  movl RING0_STACK - 24, %eax
    check32 $0x7fe, "#GP: POPF of IF with VIP"
    vm86_faults 0
    pushw $0x100
    popfw
    pushw %ax
.code32
1:  movl RING0_STACK - 24, %eax
    check32 $0x7fe, "#GP: POPF of TF"
    vm86_one 0, 13, 0, "#GP: 32-bit PUSHF with CR4.VME", pushfl
9:  ret
.code16
vm86_handler:
    popw %dx
    popl %ebx
    movl %ebx, %ecx
    shll $16, %ecx
    movw %sp, %cx
    shrl $16, %ebx
    hlt
