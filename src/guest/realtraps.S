# Real mode's adjustments, exceptions and limits: real-bcd, real-int, unreal. SS stays 0 (traps.S).

.code16
# AX in, AX and flags CF, AF out, as the SDM's own pseudo code gives them.
.macro bcd before, flags, insn, after, text
    pushw $\flags
    popfw
    movw $\before, %ax
    \insn
    pushfw
    popw %bx
    andl $0x11, %ebx
    shll $16, %ebx
    movzwl %ax, %eax
    orl %ebx, %eax
    check16 $\after, "\text"
.endm
part_real_bcd:
    bcd 0x00ae, 0x00, daa, 0x00110014, "DAA AE"
    bcd 0x0027, 0x00, daa, 0x00000027, "DAA 27"
    bcd 0x002a, 0x00, daa, 0x00100030, "DAA 2A"
    bcd 0x0020, 0x01, daa, 0x00010080, "DAA 20 with CF"
    bcd 0x009a, 0x00, daa, 0x00110000, "DAA 9A"
    bcd 0x00ee, 0x00, das, 0x00110088, "DAS EE"
    bcd 0x0003, 0x10, das, 0x001100fd, "DAS 03 with AF"
    bcd 0x0083, 0x01, das, 0x00010023, "DAS 83 with CF"
    bcd 0x000f, 0x00, aaa, 0x00110105, "AAA 000F"
    bcd 0x00fa, 0x00, aaa, 0x00110200, "AAA 00FA carries into AH twice"
    bcd 0x0105, 0x00, aaa, 0x00000105, "AAA 0105"
    bcd 0x020f, 0x00, aas, 0x00110109, "AAS 020F"
    bcd 0x0005, 0x10, aas, 0x0011fe0f, "AAS 0005 with AF"
    movb $0x7b, %al
    aam
    movzwl %ax, %eax
    check16 $0x0c03, "AAM"
    movb $0x7b, %al
    aam $16
    movzwl %ax, %eax
    check16 $0x070b, "AAM 16"
    movw $0x0307, %ax
    aad
    movzwl %ax, %eax
    check16 $37, "AAD"
    try16 1f
    aam $0
1:  trapped16 0, "AAM 0 divides by zero"
    movw $5, V_A
    movw $9, V_A + 2
    movw $9, %bx
    bound %bx, V_A
    try16 2f
    movw $10, %bx
    bound %bx, V_A
2:  trapped16 5, "BOUND of 10 in 5..9"
    try16 3f
    ud2
3:  trapped16 6, "UD2"
    # A nested frame: KVM's emulator has only level 0.
    movw %sp, %dx
    movw $0x7000, %bp
    movw $0x1234, 0x6ffe
    enter $8, $2
    movw %dx, %ax
    subw %sp, %ax
    movzwl %ax, %eax
    check16 $14, "ENTER 8, 2 pushes BP, one display pointer, itself"
    movzwl -2(%bp), %eax
    check16 $0x1234, "ENTER copies the display"
    leave
    ret

part_real_int:
    # Vector 60h: the frame, and what the processor clears.
    movw $(real_handler - guest_rom), 0x60 * 4
    movw $0xf000, 0x60 * 4 + 2
    movw %sp, V_B
    movw $(real_after - guest_rom), V_B + 2
    pushw $0x0ad5                   # IF with all arithmetic flags; nothing may interrupt
    popfw
    int $0x60
real_after:
    pushfw
    popw %ax
    cli
    movzwl %ax, %eax
    check16 $0x0ad7, "IRET restores the flags"
    movl V_A, %eax
    check16 $0x0ad70000, "INT pushes the flags, clears IF and TF"
    movzwl V_C, %eax
    check16 $6, "INT pushes three words"
    movzwl V_C + 2, %eax
    check16 $(real_after - guest_rom), "INT pushes the next IP"
    try16 1f
real_int3:
    int3
1:  trapped16 3, "INT3"
    movl V_RIP, %eax
    check16 $(real_int3 + 1 - guest_rom), "INT3 is a trap"
    movb $0x7f, %al
    addb $1, %al
    try16 2f
    into
2:  trapped16 4, "INTO with OF"
    try16 3f
    xorw %ax, %ax
    into
3:  movl V_VECTOR, %eax
    check16 $-1, "INTO without OF"
    xorw %bx, %bx
    try16 4f
real_divide:
    divw %bx
4:  trapped16 0, "DIV by 0"
    movl V_RIP, %eax
    check16 $(real_divide - guest_rom), "#DE is a fault"
    movw $0x8000, %ax
    cwtd
    movw $-1, %bx
    try16 5f
    idivw %bx
5:  trapped16 0, "IDIV 8000 / -1"
    # TF traps after one instruction.
    pushfw
    popw %ax
    orw $0x100, %ax
    try16 7f
    pushw %ax
    popfw
    nop
real_stepped:
    nop
7:  trapped16 1, "single-step"
    movl V_RIP, %eax
    check16 $(real_stepped - guest_rom), "single-step traps after one instruction"
    ret
real_handler:
    movw %sp, %bx
    movw %ss:4(%bx), %ax
    movw %ax, V_A + 2
    pushfw
    popw %ax
    andw $0x300, %ax
    movw %ax, V_A
    movw V_B, %ax
    subw %sp, %ax
    movw %ax, V_C
    movw %ss:(%bx), %ax
    movw %ax, V_C + 2
    iretw

part_unreal:
    lgdtl %cs:(gdt_pointer - guest_rom)
    movl %cr0, %eax
    orb $1, %al
    movl %eax, %cr0
    jmp 1f
1:  movw $KDATA, %bx
    movw %bx, %fs
    movw %bx, %es
    andb $0xfe, %al
    movl %eax, %cr0
    jmp 2f
2:  movl $0x100000, %ebx
    movl $0x0badcafe, %fs:(%ebx)
    movl %fs:(%ebx), %eax
    check16 $0x0badcafe, "a write beyond 1 MiB"
    # Loading a segment register in real mode sets its base and keeps the 4 GiB limit.
    movw $0xffff, %ax
    movw %ax, %es
    movl $0x10, %edi
    movl %es:(%edi), %eax
    check16 $0x0badcafe, "FFFF:0010 is 100000"
    movw $0, %ax
    movw %ax, %es
    movl %es:0x100000 - 0x10(%edi), %eax
    check16 $0x0badcafe, "the limit is kept over a load"
    movl $0x200000, %edi
    movl $0x20, %ecx
    movl $0x01020304, %eax
    .byte 0x67
    rep stosl                       # a 67h prefix: EDI and ECX
    movl %edi, %eax
    check16 $0x200080, "REP STOSD with 32-bit addresses"
    movl %es:-4(%edi), %eax
    check16 $0x01020304, "what REP STOSD wrote"
    # 64 KiB limits again.
    movl %cr0, %eax
    orb $1, %al
    movl %eax, %cr0
    jmp 3f
3:  movw $KDATA16, %bx
    movw %bx, %fs
    movw %bx, %es
    andb $0xfe, %al
    movl %eax, %cr0
    jmp 4f
4:  xorw %ax, %ax
    movw %ax, %fs
    movw %ax, %es
    movl %cr0, %eax
    andl $1, %eax
    check16 $0, "CR0.PE is clear again"
    ret
