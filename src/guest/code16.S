# 16-bit protected mode: prot16. QEMU's TCG keeps the outer ESP's upper half on a 16-bit inner stack.

.set NOTES, 0x4800                  # what 16-bit code saw: dwords, checked when it is over

.macro note16 slot, register
    movl \register, NOTES + 4 * \slot
.endm
.macro noted slot, expected, text
    movl NOTES + 4 * \slot, %eax
    check32 $\expected, "\text"
.endm
# A gate of the IDT.
.macro vector_gate vector, code, offset, access
    movl $(((\code) << 16) | ((\offset) & 0xffff)), IDT32 + \vector * 8
    movl $(((\offset) & 0xffff0000) | ((\access) << 8)), IDT32 + \vector * 8 + 4
.endm

.code32
# 90: a 16-bit stack of 64 KiB at 20000.
part_prot16:
    movb $0xee, IDT32 + 0x31 * 8 + 5
    descriptor 0x90, 0x20000, 0xffff, 0x93
    call_gate 0xa0, KCODE16, (prot16_far - guest_rom), 0x84
    call_gate 0xa8, KCODE32, (prot16_far32 - R), 0x8c
    vector_gate 0x32, KCODE16, (prot16_int - guest_rom), 0x86
    vector_gate 0x33, KCODE16, (prot16_int - guest_rom), 0x87
    vector_gate 0x34, KCODE32, (prot16_int32 - R), 0x8e
    movl %esp, V_D
    pushw $2
    pushw $KCODE16
    pushw $(prot16_code - guest_rom)
    iretw
prot16_back:
    movl $KDATA, %eax
    movl %eax, %ss
    movl V_D, %esp
    noted 0, 0xabcdfffe, "PUSH of a word at SP 0"
    noted 1, 0xabcdfffa, "PUSH of a dword"
    noted 2, 0xabcd0000, "POP of both: SP wraps, the upper half of ESP stays"
    noted 3, 0x22223333, "the dword"
    noted 4, 0xabcdfffe, "a near CALL at SP 0"
    noted 5, 0xabcd0008, "its RET 8"
    noted 6, 0xabcd00f4, "ENTER 8, 1: ESP"
    noted 7, 0x777700fe, "ENTER 8, 1: EBP"
    noted 8, 0xabcd0100, "LEAVE: ESP"
    noted 9, 0x77771234, "LEAVE: EBP"
    noted 10, 0xabcd00f4, "32-bit ENTER 8, 0: ESP"
    noted 11, 0xabcd0100, "32-bit LEAVE: ESP"
    noted 12, 0x77771234, "32-bit LEAVE: EBP"
    noted 13, 0xabcd0202, "LEAVE takes BP, not EBP"
    noted 14, 0xabcd01f0, "PUSHA"
    noted 15, 0x02000200, "SP in its frame, and POPA leaves SP"
    noted 26, 0x123400fe, "ENTER's frame: BP, then the frame pointer"
    noted 16, 0xabcd00fa, "a 16-bit interrupt gate pushes words"
    noted 17, 0x00000002, "it clears IF"
    noted 18, 0x00000202, "a 16-bit trap gate keeps IF"
    noted 19, 0xabcd00f4, "a 32-bit gate pushes dwords"
    noted 20, 0xabcd00fc, "a 16-bit call gate pushes words, whatever CALL's size"
    noted 21, 0xabcd00f8, "a 32-bit call gate pushes dwords, whatever CALL's size"
    noted 22, 0xabcd0100, "SP after all of these"
    noted 23, 0x40202, "16-bit POPF and IRET keep EFLAGS' upper half"
    noted 24, 0xabcd0104, "far CALL in 16 bits and RETF 4"
    noted 25, 0x0000fffe, "an offset wraps at 64 KiB"

    # 16-bit ring 3, 16-bit gate, IRET in 16 bits to the outer ring.
    descriptor 0x98, 0xf0000, 0xffff, 0xfa
    movb $0xe6, IDT32 + 0x32 * 8 + 5
    movl $0, NOTES + 64
    try32 1f
    outer32 0x9b, (prot16_user - guest_rom), UDATA, USER_STACK, 0x202
1:  trapped32 0x31, 0, "16-bit IRET to ring 3"
    movl V_CS, %eax
    check32 $0x9b, "its CS"
    movl RING0_STACK - 8, %eax
    check32 $USER_STACK, "its SP"
    movl V_FLAGS, %eax
    check32 $0x202, "its flags"
    noted 16, (RING0_STACK - 10), "five words from ring 3"
    # An inner stack of 16 bits: the whole of ESP0 is loaded, SP counts.
    movl $KDATA16, TSS32 + 8
    movl $(0xabcd0000 | RING0_STACK), TSS32 + 4
    movb $0xee, IDT32 + 0x34 * 8 + 5
    movl $(1f - R), V_RESUME
    movl %esp, V_RESUME_SP
    vector_gate 0x34, KCODE32, (prot16_inner - R), 0xee
    user32 2f
2:  int $0x34
1:  noted 0, (0xabcd0000 | (RING0_STACK - 20)), "ESP on a 16-bit inner stack"
    noted 1, KDATA16, "SS on it"
    movl RING0_STACK - 8, %eax
    check32 $USER_STACK, "the frame on it"
    ret
prot16_inner:
    movl $KDATA, %eax
    movl %eax, %ds
    movl %esp, NOTES
    movl %ss, %ecx
    movl %ecx, NOTES + 4
    movl %eax, %ss
    movl V_RESUME_SP, %esp
    jmp *V_RESUME
prot16_int32:
    movl %esp, NOTES + 4 * 19
    iretl
prot16_far32:
    movl %esp, NOTES + 4 * 21
    lretl

.code16
prot16_code:
    movw $0x90, %ax
    movw %ax, %ss
    movl $0xabcd0000, %esp
    pushw $0x1111
    note16 0, %esp
    pushl $0x22223333
    note16 1, %esp
    popl %ecx
    popw %dx
    note16 2, %esp
    note16 3, %ecx
    callw prot16_near
    note16 5, %esp
    movl $0x77771234, %ebp
    movw $0x100, %sp
    enter $8, $1
    note16 6, %esp
    note16 7, %ebp
    movl -2(%bp), %eax
    note16 26, %eax
    leave
    note16 8, %esp
    note16 9, %ebp
    .byte 0x66
    enter $8, $0
    note16 10, %esp
    .byte 0x66
    leave
    note16 11, %esp
    note16 12, %ebp
    movl $0x99990200, %ebp
    leave
    note16 13, %esp
    movw $0x200, %sp
    pushaw
    note16 14, %esp
    movw %sp, %bp
    movw 6(%bp), %ax
    movw %ax, NOTES + 4 * 15
    movw $0x5555, 6(%bp)
    popaw
    movw %sp, NOTES + 4 * 15 + 2
    movw $0x100, %sp
    pushl $0x40202                  # AC, IF
    popfl
    int $0x32
    note16 17, %eax
    int $0x33
    note16 18, %eax
    int $0x34
    lcalll $0xa0, $0
    lcallw $0xa8, $0
    note16 22, %esp
    pushw $0x202
    popfw
    pushfl
    popl NOTES + 4 * 23
    pushl $2
    popfl
    lcallw $KCODE16, $(prot16_far4 - guest_rom)
    note16 24, %esp
    movl $0, NOTES + 4 * 25
    movw $0x8000, %bx
    leaw 0x7ffe(%bx), %ax
    movw %ax, NOTES + 4 * 25
    pushl $2
    pushl $KCODE32
    pushl $(prot16_back - R)
    iretl
prot16_near:
    note16 4, %esp
    retw $8
prot16_far:
    note16 20, %esp
    lretw
prot16_far4:
    lretw $4
# In EAX the flags.
prot16_int:
    movw $KDATA, %ax
    movw %ax, %ds
    note16 16, %esp
    pushfl
    popl %eax
    andl $0x202, %eax
    iretw
prot16_user:
    int $0x32
    int $0x31
