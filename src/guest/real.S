# Real mode: the part real. SS stays 0 throughout (traps.S).

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
