# Real mode: the parts real, real-bcd, real-int and unreal. SS stays 0 throughout (traps.S).

.code16
# The arithmetic flags OF SF ZF AF PF CF after the instruction before, in EAX.
.macro flags16
    pushfw
    popw %ax
    movzwl %ax, %eax
    andw $0x8d5, %ax
.endm

part_real:
    # One byte, by three segment:offset pairs.
    movw $0x2000, %ax
    movw %ax, %ds
    movl $0xc0ffee11, (0x0010)
    movw $0x2001, %ax
    movw %ax, %es
    movl %es:(0), %eax
    check16 $0xc0ffee11, "2001:0000 is 2000:0010"
    movw $0x1001, %ax
    movw %ax, %es
    movw $0xffff, %bx
    movzbl %es:1(%bx), %eax         # effective address 0, not 10000
    movb %es:(0), %cl
    cmpb %cl, %al
    sete %al
    movzbl %al, %eax
    check16 $1, "a 16-bit effective address wraps at 64K"
    xorw %ax, %ax
    movw %ax, %ds
    movw %cs, %ax
    movzwl %ax, %eax
    check16 $0xf000, "CS"
    # Flags of the 8086.
    movb $0x7f, %al
    addb $1, %al
    flags16
    check16 $0x890, "flags of 7F + 1"
    xorw %ax, %ax
    subw $1, %ax
    flags16
    check16 $0x95, "flags of 0 - 1"
    stc
    movb $0xff, %al
    incb %al
    flags16
    check16 $0x55, "INC sets ZF and keeps CF"
    movb $0x80, %al
    negb %al
    flags16
    check16 $0x881, "flags of NEG 80"
    movw $0x8001, %bx
    shlw $1, %bx
    pushfw
    popw %ax
    andl $0x8c5, %eax               # AF is undefined
    check16 $0x801, "flags of SHL 8001, 1"
    stc
    movw $0x0001, %bx
    rcrw $1, %bx
    movzwl %bx, %eax
    check16 $0x8000, "RCR shifts CF in"
    movw $0x1234, %ax
    movw $0x5678, %bx
    mulw %bx
    shll $16, %edx
    movzwl %ax, %eax
    orl %edx, %eax
    check16 $0x06260060, "MUL 1234 * 5678"
    movb $-3, %al
    movb $7, %bl
    imulb %bl
    movzwl %ax, %eax
    check16 $0xffeb, "IMUL -3 * 7"
    movw $-100, %ax
    cwtd
    movw $7, %bx
    idivw %bx
    shll $16, %edx
    movzwl %ax, %eax
    orl %edx, %eax
    check16 $0xfffefff2, "IDIV -100 / 7"
    # PUSHF writes bits 15-12 clear but IOPL and NT, bit 1 set.
    pushw $0
    popfw
    pushfw
    popw %ax
    movzwl %ax, %eax
    check16 $2, "FLAGS after POPF of 0"
    movw %sp, %bx
    pushw %sp
    popw %ax
    subw %bx, %ax
    movzwl %ax, %eax
    check16 $0, "PUSH SP pushes the value before it"
    # Strings: forward, backward, overlapping, searching.
    movw $0x2000, %ax
    movw %ax, %ds
    movw %ax, %es
    movl $0x44332211, (0)
    movl $0x88776655, (4)
    xorw %si, %si
    movw $1, %di
    movw $7, %cx
    rep movsb                       # overlapping: the first byte spreads
    movl (4), %eax
    check16 $0x11111111, "REP MOVSB over itself"
    movl $0x44332211, (0)
    movl $0x88776655, (4)
    std
    movw $6, %si
    movw $7, %di
    movw $7, %cx
    rep movsb
    cld
    movl (4), %eax
    check16 $0x77665544, "REP MOVSB backwards"
    movw $0x55aa, %ax
    movw $0x100, %di
    movw $16, %cx
    rep stosw
    movb $0x12, (0x117)
    movw $0x100, %di
    movw $32, %cx
    movb $0x12, %al
    movw $0x100, %di
    repne scasb
    movzwl %di, %eax
    check16 $0x118, "REPNE SCASB stops after the match"
    movzwl %cx, %eax
    check16 $8, "REPNE SCASB leaves the count"
    movw $0x100, %si
    movw $0x110, %di
    movw $16, %cx
    repe cmpsb
    movzwl %si, %eax
    check16 $0x108, "REPE CMPSB stops after the difference"
    xorw %cx, %cx
    movw $0x100, %si
    rep lodsb
    movzwl %si, %eax
    check16 $0x100, "REP with CX = 0 does nothing"
    # Frames, far pointers, far calls.
    xorw %ax, %ax
    movw %ax, %ds
    movw %ax, %es
    movw $0x1111, %bp
    pushw %bp
    movw %sp, %bp
    movw %sp, %dx
    enter $8, $0
    movw %bp, %ax
    subw %sp, %ax
    movzwl %ax, %eax
    check16 $8, "ENTER 8, 0"
    leave
    subw %sp, %dx
    movzwl %dx, %eax
    check16 $0, "LEAVE restores SP"
    popw %bp
    movw $0x1234, (V_A)
    movw $0x5678, (V_A + 2)
    ldsw (V_A), %si
    movw %ds, %ax
    shll $16, %eax
    movw %si, %ax
    check16 $0x56781234, "LDS"
    xorw %ax, %ax
    movw %ax, %ds
    movw $(real_table - guest_rom), %bx
    movb $3, %al
    cs xlatb
    movzbl %al, %eax
    check16 $'D', "XLAT with a segment prefix"
    movw $5, %cx
    xorl %eax, %eax
1:  addw $3, %ax
    loop 1b
    check16 $15, "LOOP runs CX times"
    jcxz 2f
    movl $1, %eax
2:  check16 $15, "JCXZ"
    movl $7, %eax
    pushw $5
    lcallw $0xf000, $(real_far - guest_rom)
    check16 $12, "far CALL and RETF 2"
    movw $(real_near - guest_rom), (V_A)
    callw *(V_A)
    check16 $13, "CALL through memory"
    movw $(real_far - guest_rom), (V_A)
    movw $0xf000, (V_A + 2)
    pushw $100
    lcallw *(V_A)
    check16 $113, "far CALL through memory"
    # PUSHA and POPA, and that POPA skips SP.
    movl $0x11112222, %eax
    movw %sp, %si
    pushaw
    movw %sp, %bx
    subw %bx, %si
    movw %si, V_A
    movw %sp, %bp
    movw $0xdead, 6(%bp)            # SP's slot
    xorw %ax, %ax
    popaw
    check16 $0x11112222, "POPA restores AX"
    movzwl V_A, %eax
    check16 $16, "PUSHA pushes eight words"
    # Fields and bits (80386).
    movl $0x12345678, %eax
    movl $0x9abcdef0, %ebx
    shldl $12, %ebx, %eax
    check16 $0x456789ab, "SHLD"
    movl $0x00010000, %ebx
    bsfl %ebx, %eax
    check16 $16, "BSF"
    movw $0x2000, %ax
    movw %ax, %ds
    movl $0, (0x24)
    movw $0x29, %ax
    btsw %ax, (0x20)                # bit 41 lies two words on
    movl (0x24), %eax
    check16 $0x200, "BTS reaches beyond its word"
    xorw %ax, %ax
    movw %ax, %ds
    movl $0xfff80, %eax
    movsbl %al, %eax
    check16 $0xffffff80, "MOVSX"
    ret
real_far:
    pushw %bp
    movw %sp, %bp
    addw 6(%bp), %ax
    popw %bp
    lretw $2
real_near:
    incw %ax
    ret
real_table:
    .ascii "ABCDE"

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
    pushw $0x0ad5                   # IF with all arithmetic flags; nothing is wired to interrupt yet
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
