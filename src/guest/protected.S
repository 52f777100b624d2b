# Protected mode without rings: prot, prot-query, prot-fault.

# A descriptor into one of the free slots of the GDT. Limit and base as the descriptor holds them.
.macro descriptor selector, base, limit, access, flags=0
    movl $(((\limit) & 0xffff) | (((\base) & 0xffff) << 16)), GDT + \selector
    movl $((((\base) >> 16) & 0xff) | ((\access) << 8) | ((\limit) & 0xf0000) | ((\flags) << 20) | ((\base) & 0xff000000)), GDT + \selector + 4
.endm

.code32
part_prot:
    movl %cs, %eax
    check32 $KCODE32, "CS"
    strl %eax
    check32 $SEL_TSS32, "STR"
    sgdtl V_A
    movzwl V_A, %eax
    check32 $(gdt_end - gdt - 1), "SGDT limit"
    movl V_A + 2, %eax
    check32 $GDT, "SGDT base"
    sidtl V_A
    movl V_A + 2, %eax
    check32 $IDT32, "SIDT base"
    movl GDT + SEL_TSS32 + 4, %eax
    check32 $0x00008b00, "LTR sets the busy bit"
    smsww %ax
    andl $0xf, %eax
    check32 $1, "SMSW"
    # A data segment with a base, at byte granularity; the accessed bit follows the load.
    descriptor 0x90, 0x20000, 0xfff, 0x92, 0x4
    movl $0xcafe0001, 0x20010
    movl $0x90, %eax
    movl %eax, %es
    movl %es:0x10, %eax
    check32 $0xcafe0001, "a segment with base 20000"
    movl GDT + 0x94, %eax
    check32 $0x00409302, "loading sets the accessed bit"
    movl $0x10, %edi
    movl $0x1f, %ecx
    movl $0x5a5a5a5a, %eax
    stosl                           # ES cannot be overridden
    movl 0x20010, %eax
    check32 $0x5a5a5a5a, "STOS uses ES"
    # Page granularity, and expand-down: offsets above the limit.
    descriptor 0x98, 0x20000, 0x0, 0x96, 0x4
    movl $0x98, %eax
    movl %eax, %fs
    movl %fs:0x10, %eax
    check32 $0x5a5a5a5a, "expand-down data above its limit"
    # A null selector may be loaded where it is not used.
    xorl %eax, %eax
    movl %eax, %gs
    movl %gs, %eax
    check32 $0, "a null selector in GS"
    # LDT.
    descriptor 0xa0, LDT, 0xf, 0x82
    movl $0x00000fff, LDT + 8
    movl $0x00409203, LDT + 12      # base 30000
    movl $0xa0, %eax
    lldt %ax
    movl $0x0c, %eax
    movl %eax, %gs
    movl $0x77777777, %gs:0x20
    movl 0x30020, %eax
    check32 $0x77777777, "a segment from the LDT"
    sldtl %eax
    check32 $0xa0, "SLDT"
    xorl %eax, %eax
    movl %eax, %gs
    lldt %ax
    # 16-bit code and a 16-bit stack: operands, addresses and SP have 16 bits.
    movl $KDATA, %eax
    movl %eax, %es
    movl %eax, %fs
    ljmpl $KCODE16, $(prot_code16 - guest_rom)
.code16
prot_code16:
    movw $KDATA16, %ax
    movw %ax, %ss
    movl $0x12347000, %esp          # the upper half is not looked at
    movl $0xaaaaaaaa, 0x6ffc
    pushw $0x1234
    movl %esp, %ebx
    movw $KDATA, %ax
    movw %ax, %ss
    ljmpl $KCODE32, $(prot_back32 - R)
.code32
prot_back32:
    movl $(STACK - 4), %esp         # the return address lies there
    movl %ebx, %eax
    check32 $0x12346ffe, "a 16-bit stack counts in SP"
    movl 0x6ffc, %eax
    check32 $0x1234aaaa, "a 16-bit PUSH"
    # Prefixes: the other operand and address size.
    movl $0x11112222, %eax
    .byte 0x66, 0x05, 0x34, 0x12    # add $0x1234, %ax
    check32 $0x11113456, "66h makes a 16-bit operand"
    movl $0x00012000, %ebx
    movl $0x13579bdf, 0x2900
    .byte 0x67, 0x8b, 0x87, 0x00, 0x09  # mov 0x900(%bx), %eax
    check32 $0x13579bdf, "67h makes a 16-bit address"
    # Scaled indexes.
    movl $0x1000, %ebx
    movl $0x10, %ecx
    leal 0x5(%ebx, %ecx, 8), %eax
    check32 $0x1085, "LEA with an index"
    # Far transfers at one level.
    movl $1, %eax
    pushl $40
    lcalll $KCODE32, $(prot_far - R)
    check32 $41, "far CALL and RETF 4"
    movl $(prot_far - R), V_A
    movw $KCODE32, V_A + 4
    pushl $9
    lcalll *V_A
    check32 $50, "far CALL through memory"
    movl $(1f - R), V_A
    ljmpl *V_A
    xorl %eax, %eax
1:  check32 $50, "far JMP through memory"
    lssl prot_stack - R, %esp
    pushl $7
    movl STACK - 0x84, %eax
    movl $(STACK - 4), %esp
    check32 $7, "LSS"
    # 32-bit PUSHA, string moves.
    movl $0xfeedface, %eax
    pushal
    xorl %eax, %eax
    popal
    check32 $0xfeedface, "PUSHAD and POPAD"
    movl $0x20000, %edi
    movl $64, %ecx
    movl $0x01010101, %eax
    rep stosl
    movl $0x20000, %esi
    movl $64, %ecx
    xorl %ebx, %ebx
2:  lodsl
    addl %eax, %ebx
    loop 2b
    movl %ebx, %eax
    check32 $0x40404040, "REP STOSD and LODSD"
    ret
prot_far:
    addl 8(%esp), %eax
    lretl $4
prot_stack:
    .long STACK - 0x80
    .short KDATA

# ZF and the result of LAR or LSL, for a selector.
.macro query insn, selector, result, text
    movl $\selector, %ecx
    movl $0xdddddddd, %eax
    \insn %ecx, %eax
    .ifnc \insn, lsll
    andl $0xfff0ffff, %eax          # LAR leaves four bits undefined
    .endif
    check32 $\result, "\text"
.endm
.macro verify insn, selector, zf, text
    movl $\selector, %ecx
    \insn %cx
    setz %al
    movzbl %al, %eax
    check32 $\zf, "\text"
.endm
part_prot_query:
    query larl, KDATA, 0x00c09300, "LAR of data"
    query larl, SEL_TSS32, 0x00008b00, "LAR of the busy TSS"
    query larl, 0, 0xddd0dddd, "LAR of null"
    query larl, 0x100, 0xddd0dddd, "LAR beyond the GDT"
    query lsll, KDATA, 0xffffffff, "LSL of 4 GiB"
    query lsll, SEL_TSS32, 0x67, "LSL of a TSS"
    query lsll, KDATA16, 0xffff, "LSL of 64 KiB"
    descriptor 0x90, 0, 0xfff, 0x8e
    query lsll, 0x90, 0xdddddddd, "LSL of a gate"
    query larl, 0x90, 0xddd0dddd, "LAR of an interrupt gate"
    descriptor 0x90, 0, 0, 0x8c
    query larl, 0x90, 0x00008c00, "LAR of a call gate"
    descriptor 0x98, 0, 0xfff, 0x90
    descriptor 0xa0, 0, 0xfff, 0x98
    descriptor 0xa8, 0, 0xfff, 0x92
    verify verr, 0x98, 1, "VERR of read-only data"
    verify verw, 0x98, 0, "VERW of read-only data"
    verify verr, 0xa0, 0, "VERR of execute-only code"
    verify verw, KCODE32, 0, "VERW of code"
    verify verr, 0xab, 0, "VERR with RPL 3 of ring 0 data"
    verify verw, 0xa8, 1, "VERW of data"
    verify verr, 0, 0, "VERR of null"
    movl $0x18, %eax
    movl $3, %ecx
    arpl %cx, %ax
    check32 $0x1b, "ARPL raises the RPL"
    setz %al
    movl $0x1b, %eax
    movl $1, %ecx
    arpl %cx, %ax
    setz %al
    movzbl %al, %eax
    check32 $0, "ARPL with nothing to raise"
    ret

part_prot_fault:
    descriptor 0x90, 0, 0xfff, 0x12, 0xc        # not present
    descriptor 0x98, 0, 0xfff, 0x98, 0xc        # execute-only
    descriptor 0xa0, 0, 0xfff, 0x90, 0xc        # read-only
    descriptor 0xa8, 0, 0xfff, 0x1a, 0xc        # code, not present
    movl $0x90, %eax
    try32 1f
    movl %eax, %es
1:  trapped32 11, 0x90, "#NP: ES with a segment not present"
    movl $0x90, %eax
    try32 1f
    movl %eax, %ss
1:  trapped32 12, 0x90, "#SS: SS with a segment not present"
    movl $0xa0, %eax
    try32 1f
    movl %eax, %ss
1:  trapped32 13, 0xa0, "#GP: SS with read-only data"
    movl $0x1b, %eax
    try32 1f
    movl %eax, %ss
1:  trapped32 13, 0x18, "#GP: SS with RPL 3 in ring 0"
    xorl %eax, %eax
    try32 1f
    movl %eax, %ss
1:  trapped32 13, 0, "#GP: SS with null"
    movl $0x98, %eax
    try32 1f
    movl %eax, %ds
1:  trapped32 13, 0x98, "#GP: DS with execute-only code"
    movl $SEL_TSS32, %eax
    try32 1f
    movl %eax, %ds
1:  trapped32 13, SEL_TSS32, "#GP: DS with a TSS"
    movl $0x1003, %eax
    try32 1f
    movl %eax, %es
1:  trapped32 13, 0x1000, "#GP: a selector beyond the GDT"
    movl $0x0c, %eax
    try32 1f
    movl %eax, %es
1:  trapped32 13, 0x0c, "#GP: a selector in an LDT that is null"
    try32 1f
    lcalll $KDATA, $0
1:  trapped32 13, KDATA, "#GP: far CALL to data"
    try32 1f
    ljmpl $0xa8, $0
1:  trapped32 11, 0xa8, "#NP: far JMP to code not present"
    try32 1f
    ljmpl $0, $0
1:  trapped32 13, 0, "#GP: far JMP to null"
    try32 1f
    ljmpl $UCODE32, $0
1:  trapped32 13, (UCODE32 & ~3), "#GP: far JMP to ring 3 code"
    movl $SEL_TSS32, %eax
    try32 1f
    ltr %ax
1:  trapped32 13, SEL_TSS32, "#GP: LTR with a busy TSS"
    movl $KDATA, %eax
    try32 1f
    lldt %ax
1:  trapped32 13, KDATA, "#GP: LLDT with data"
    # Gates of the IDT: error code 2 + 8 * vector.
    try32 1f
    int $0x50
1:  trapped32 13, 0x282, "#GP: a vector beyond the IDT"
    movb $0x0e, IDT32 + 0x31 * 8 + 5
    try32 1f
    int $0x31
1:  trapped32 11, 0x18a, "#NP: a gate not present"
    movb $0x92, IDT32 + 0x31 * 8 + 5
    try32 1f
    int $0x31
1:  trapped32 13, 0x18a, "#GP: no gate"
    try32 1f
prot_int:
    int $0x30
1:  trapped32 0x30, 0, "INT 30h"
    movl V_RIP, %eax
    check32 $(prot_int + 2 - R), "INT pushes the next EIP"
    # A trap gate keeps IF, an interrupt gate clears it: the flags here go through the handler below.
    movl $(prot_flags - R), %eax
    movw %ax, IDT32 + 0x32 * 8
    movw %ax, IDT32 + 0x33 * 8
    movb $0x8f, IDT32 + 0x33 * 8 + 5
    movb $0xff, %al                 # nothing may interrupt: both 8259 masked
    outb %al, $0x21
    outb %al, $0xa1
    sti
    int $0x32
    movl V_A, %eax
    check32 $0, "an interrupt gate clears IF"
    int $0x33
    cli
    movl V_A, %eax
    check32 $0x200, "a trap gate keeps IF"
    # Faults of instructions.
    try32 1f
prot_ud:
    ud2
1:  trapped32 6, 0, "UD2"
    movl V_RIP, %eax
    check32 $(prot_ud - R), "#UD is a fault"
    xorl %ecx, %ecx
    try32 1f
    divl %ecx
1:  trapped32 0, 0, "DIV by 0"
    try32 1f
    .byte 0x64, 0x8e, 0xc8          # mov %eax, %cs
1:  trapped32 6, 0, "#UD: MOV to CS"
    try32 1f
    .byte 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x90
1:  trapped32 13, 0, "#GP: an instruction of 16 bytes"
    ret
prot_flags:
    pushfl
    popl V_A
    andl $0x200, V_A
    iretl
