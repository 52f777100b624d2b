# IOPL and the I/O permission map: prot-iopl, prot-iomap.

# The flags with which INT 31h was reached.
.macro flags_there expected, text
    call trapped_flags
    check32 $\expected, "\text"
.endm
.code32
# The flags of INT 31h; all ones if it was not that.
trapped_flags:
    movl V_FLAGS, %eax
    cmpl $0x31, V_VECTOR
    je 1f
    movl $-1, %eax
1:  ret
part_prot_iopl:
    movb $0xee, IDT32 + 0x31 * 8 + 5
    descriptor CODE1, 0, 0xfffff, 0xbb, 0xc
    descriptor DATA1, 0, 0xfffff, 0xb3, 0xc
    faults32 0x2002
2:  sti
1:  trapped32 13, 0, "#GP: STI in ring 3 with IOPL 2"
    faults32 0x2202
2:  cli
1:  trapped32 13, 0, "#GP: CLI in ring 3 with IOPL 2"
    faults32 0x3002
2:  sti
    int $0x31
1:  flags_there 0x3202, "STI in ring 3 with IOPL 3"
    faults32 0x2202
2:  pushl $0x3000
    popfl
    int $0x31
1:  flags_there 0x2202, "POPF in ring 3 with IOPL 2 keeps IF set, and IOPL"
    faults32 0x3202
2:  pushl $0x4d5
    popfl
    pushfl
    popl %ebx
    pushl $0
    popfl
    int $0x31
1:  flags_there 0x3002, "POPF in ring 3 with IOPL 3 clears IF and keeps IOPL"
    movl %ebx, %eax
    check32 $0x34d7, "PUSHF in ring 3"
    faults32 0x3002
2:  pushw $0x200
    popfw
    int $0x31
1:  flags_there 0x3202, "16-bit POPF in ring 3 with IOPL 3 sets IF"
    faults32
2:  pushl $0x1b3202                 # ID, VIP, VIF, VM too
    popfl
    int $0x31
1:  flags_there 2, "POPF does not touch VM, VIF and VIP"
    faults32 0x202
2:  pushl $0x3000
    pushl $UCODE32
    pushl $(3f - R)
    iretl
3:  int $0x31
1:  flags_there 0x202, "IRET in ring 3 keeps IF and IOPL"
    faults32 0x3202
2:  pushl $0
    pushl $UCODE32
    pushl $(3f - R)
    iretl
3:  int $0x31
1:  flags_there 0x3002, "IRET in ring 3 with IOPL 3 loads IF"
    # Ring 1: CPL counts, not 3.
    try32 1f
    outer32 (CODE1 | 1), (2f - R), (DATA1 | 1), USER_STACK, 0x1002
2:  sti
    pushl $0x3202
    popfl
    cli
    int $0x31
1:  flags_there 0x1002, "ring 1 with IOPL 1: CLI and STI, but not IOPL"
    try32 1f
    outer32 (CODE1 | 1), (2f - R), (DATA1 | 1)
2:  cli
1:  trapped32 13, 0, "#GP: CLI in ring 1 with IOPL 0"
    # Ring 0.
    pushl $0x33202
    popfl
    pushfl
    popl %eax
    check32 $0x3202, "POPF in ring 0: IF and IOPL, not VM and RF"
    pushw $0x1002
    popfw
    pushfl
    popl %eax
    check32 $0x1002, "16-bit POPF in ring 0"
    pushl $2
    popfl
    # CR4.PVI: CLI and STI of ring 3 below IOPL 3 are about VIF.
    movl $1, %eax
    cpuid
    testb $2, %dl
    jz 9f
    movl $2, %eax
    movl %eax, %cr4
    faults32 0x202
2:  sti
    int $0x31
1:  flags_there 0x80202, "STI with CR4.PVI sets VIF"
    faults32 0x80202
2:  cli
    int $0x31
1:  flags_there 0x202, "CLI with CR4.PVI clears VIF, not IF"
    faults32 0x80202
2:  pushl $0
    popfl
    int $0x31
1:  flags_there 0x80202, "POPF with CR4.PVI keeps IF and VIF"
    faults32 0x100002
2:  sti
1:  trapped32 13, 0, "#GP: STI with CR4.PVI and VIP"
    faults32 0x3002
2:  sti
    int $0x31
1:  flags_there 0x3202, "STI with CR4.PVI and IOPL 3 sets IF"
    try32 1f
    outer32 (CODE1 | 1), (2f - R), (DATA1 | 1)
2:  sti
1:  trapped32 13, 0, "#GP: STI with CR4.PVI in ring 1"
9:  ret

# A map at `base` in a TSS32 with limit `limit`.
.macro io_map base, limit
    movw $\base, TSS32 + 0x66
    movl $\limit, %eax
    call io_limit
.endm
.macro io_refused text, insn:vararg
    faults32
2:  \insn
1:  trapped32 13, 0, "#GP: \text"
.endm
.macro io_allowed text, insn:vararg
    faults32
2:  \insn
    int $0x31
1:  trapped32 0x31, 0, "\text"
.endm
# Ports 0 to 87 are in the map's bytes at 68 to 78; the byte of ones stands at 79.
part_prot_iomap:
    movb $0xee, IDT32 + 0x31 * 8 + 5
    movb $0xff, TSS32 + 0x79
    io_map 0x68, 0x79
    io_allowed "the map's first port", inb $0, %al
    io_allowed "the map's last byte", inb $0x87, %al
    io_allowed "a dword at the map's end", inl $0x84, %eax
    io_refused "a dword over the map's end", inl $0x85, %eax
    io_refused "a word over the map's end", inw $0x87, %ax
    io_refused "a port behind the map", inb $0x88, %al
    # A byte behind the last one is read, whatever is asked for.
    io_map 0x68, 0x78
    io_refused "the byte behind the map is not there", inb $0x80, %al
    io_allowed "the last byte but one is good", inb $0x7f, %al
    io_allowed "a word that ends with it", inw $0x7e, %ax
    movb $0x10, TSS32 + 0x78        # port 84
    io_allowed "a word over a byte's end", inw $0x7f, %ax
    movb $0x11, TSS32 + 0x78        # and 80
    io_refused "a word over a byte's end, its second half refused", inw $0x7f, %ax
    io_map 0x68, 0x79
    io_allowed "three ports between two refused", inw $0x81, %ax
    io_allowed "the last of these", inb $0x83, %al
    io_refused "a dword with its last port refused", inl $0x81, %eax
    io_refused "a word with its first port refused", outw %ax, $0x84
    io_refused "OUT", outb %al, $0x80
    movb $0x10, TSS32 + 0x78
    io_allowed "OUT to the delay port", outb %al, $0x80
    faults32
2:  movl $0x84, %edx
    movl $USER_STACK - 16, %edi
    insb
1:  trapped32 13, 0, "#GP: INS"
    faults32
2:  movl $0x84, %edx
    movl $2, %ecx
    rep outsb
1:  trapped32 13, 0, "#GP: REP OUTS"
    # Where the map begins.
    io_map 0x78, 0x79
    io_allowed "a map of one byte", inb $3, %al
    io_refused "its one refused port", inb $4, %al
    io_refused "a port behind a map of one byte", inb $8, %al
    io_map 0x78, 0x78
    io_refused "a map at the limit", inb $3, %al
    io_map 0x79, 0x78
    io_refused "a map beyond the limit", inb $3, %al
    io_map 0xffff, 0x78
    io_refused "a map at FFFF", inb $3, %al
    io_map 0x68, 0x65
    io_refused "a TSS that ends before the map's base", inb $3, %al
    io_map 0, 0x68
    io_allowed "a map in the TSS's own fields", inb $3, %al
    faults32 0x3002
2:  inb $0x88, %al
    int $0x31
1:  trapped32 0x31, 0, "IOPL 3 needs no map"
    ret
io_limit:
    movw %ax, GDT + SEL_TSS32
    movb $0x89, GDT + SEL_TSS32 + 5
    movl $SEL_TSS32, %eax
    ltr %ax
    ret
