# Checks, and exceptions: those a part provokes and those nobody expected.
#
# A part checks a value in EAX/RAX with `checkNN expected, text`: a mismatch is noted and ends the
# part. An exception is awaited with `tryNN label` and judged at the label with `trappedNN`.

.macro check16 expected, text
    pushl \expected
    pushl $(.Ltext\@ - guest_rom)
    call check_16
    .subsection 1
.Ltext\@: .asciz "\text"
    .subsection 0
.endm
.macro check32 expected, text
    pushl \expected
    call check_32
    .short .Ltext\@ - guest_rom     # read, and stepped over, by what was called
    .subsection 1
.Ltext\@: .asciz "\text"
    .subsection 0
.endm
# Immediates are sign-extended to 64 bits.
.macro check64 expected, text
    pushq \expected
    call check_64
    .short .Ltext\@ - guest_rom
    .subsection 1
.Ltext\@: .asciz "\text"
    .subsection 0
.endm

# The next exception goes on at `label` in ring 0, with this stack. Clobbers no register.
.macro try16 label
    movl $-1, V_VECTOR
    movl $(\label - guest_rom), V_RESUME
    movl %esp, V_RESUME_SP
    movl $1, V_ARMED
.endm
.macro try32 label
    pushl $(\label - R)
    call try_32
.endm
.macro try64 label
    pushq $(\label - R)
    call try_64
.endm
# Checks the exception: vector, error code; the text names what should have raised it.
.macro trapped16 vector, text
    movl V_VECTOR, %eax
    check16 $\vector, "\text"
.endm
.macro trapped32 vector, error, text
    pushl $(\vector | ((\error) << 8))
    call trapped_32
    .short .Ltext\@ - guest_rom
    .subsection 1
.Ltext\@: .asciz "\text"
    .subsection 0
.endm
.macro trapped64 vector, error, text
    pushq $(\vector | ((\error) << 8))
    call trapped_64
    .short .Ltext\@ - guest_rom
    .subsection 1
.Ltext\@: .asciz "\text"
    .subsection 0
.endm

.code16
# DS is anything, SS must be 0.
check_16:
    pushw %bp
    movw %sp, %bp
    incl %ss:V_CHECKS
    cmpl %eax, 8(%bp)
    jne 1f
    popw %bp
    ret $8
1:  movl %eax, %ss:V_ACTUAL
    movl 8(%bp), %eax
    movl %eax, %ss:V_EXPECTED
    movl 4(%bp), %eax
    movl %eax, %ss:V_TEXT
    movl $1, %ss:V_RESULT
    jmp leave16

.code32
# An outer ring comes here if nothing stopped it: that is #GP with a code no check waits for.
trapped_32:
    movl %cs, %eax
    testb $3, %al
    jz 1f
    int $0x3f
1:  movl V_ERROR, %eax
    shll $8, %eax
    orl V_VECTOR, %eax
check_32:
    incl V_CHECKS
    cmpl %eax, 4(%esp)
    jne 1f
    addl $2, (%esp)
    ret $4
1:  movl %eax, V_ACTUAL
    popl %edx
    popl V_EXPECTED
    movzwl (%edx), %eax
    movl %eax, V_TEXT
    movl $1, V_RESULT
    jmp leave32
try_32:
    popl V_BACK
    popl V_RESUME
    call try_again
    jmp *V_BACK
# The stack to go on with is that behind the return address.
try_again:
    movl $-1, V_VECTOR
    movl $1, V_ARMED
    popl V_RETURN
    movl %esp, V_RESUME_SP
    jmp *V_RETURN

.code64
trapped_64:
    movl V_ERROR, %eax
    shll $8, %eax
    orl V_VECTOR, %eax
check_64:
    incl V_CHECKS
    cmpq %rax, 8(%rsp)
    jne 1f
    addq $2, (%rsp)
    ret $8
1:  movq %rax, V_ACTUAL
    popq %rdx
    popq V_EXPECTED
    movzwl (%rdx), %eax
    movl %eax, V_TEXT
    movl $1, V_RESULT
    jmp leave64
try_64:
    movl $-1, V_VECTOR
    popq V_BACK
    popq V_RESUME
    movq %rsp, V_RESUME_SP
    movl $1, V_ARMED
    jmp *V_BACK

# One stub a vector, of fixed size. Where the processor pushes no error code the stub pushes 0.
.code16
.p2align 4
trap16_stubs:
.set vector, 0
.rept 32
    pushw $vector
    jmp trap16
    .p2align 3
    .set vector, vector + 1
.endr
.code32
.p2align 4
trap32_stubs:
.set vector, 0
.rept 64
    .if !(vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21)
    pushl $0
    .endif
    pushl $vector
    jmp trap32
    .p2align 4
    .set vector, vector + 1
.endr
.code64
.p2align 4
trap64_stubs:
.set vector, 0
.rept 64
    .if !(vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21)
    pushq $0
    .endif
    pushq $vector
    jmp trap64
    .p2align 4
    .set vector, vector + 1
.endr

.code16
trap16:
    pushw %bp
    movw %sp, %bp
    pushw %ds
    pushl %eax
    xorl %eax, %eax
    movw %ax, %ds
    incl V_COUNT
    movw 2(%bp), %ax
    movl %eax, V_VECTOR
    movw 4(%bp), %ax
    movl %eax, V_RIP
    movw 6(%bp), %ax
    movl %eax, V_CS
    movw 8(%bp), %ax
    movl %eax, V_FLAGS
    movl %ebp, V_SP
    decl V_ARMED
    jnz 1f
    popl %eax
    popw %ds
    popw %bp
    movw %ss:V_RESUME_SP, %sp
    pushw $2
    pushw $0xf000
    pushw %ss:V_RESUME
    iretw
1:  movl $2, V_RESULT
    jmp leave16

.code32
trap32:
    cld
    pushl %eax
    movl $KDATA, %eax
    movl %eax, %ds
    movl %eax, %es
    incl V_COUNT
    movl 4(%esp), %eax
    movl %eax, V_VECTOR
    movl 8(%esp), %eax
    movl %eax, V_ERROR
    movl 12(%esp), %eax
    movl %eax, V_RIP
    movzwl 16(%esp), %eax
    movl %eax, V_CS
    movl 20(%esp), %eax
    movl %eax, V_FLAGS
    movl %esp, V_SP
    movl %cr2, %eax
    movl %eax, V_CR2
    decl V_ARMED
    jnz 1f
    popl %eax
    movl V_RESUME_SP, %esp
    pushl $2
    pushl $KCODE32
    pushl V_RESUME
    iretl
1:  movl $2, V_RESULT
    jmp leave32

.code64
trap64:
    cld
    pushq %rax
    incl V_COUNT
    movl 8(%rsp), %eax
    movl %eax, V_VECTOR
    movl 16(%rsp), %eax
    movl %eax, V_ERROR
    movq 24(%rsp), %rax
    movq %rax, V_RIP
    movzwl 32(%rsp), %eax
    movl %eax, V_CS
    movq 40(%rsp), %rax
    movq %rax, V_FLAGS
    movq 48(%rsp), %rax
    movq %rax, V_SP
    movq %cr2, %rax
    movq %rax, V_CR2
    # A hook takes RAX as its own; the code it interrupted goes on. Faults with an error code are
    # not its business: it would meet them for ever.
    movl V_VECTOR, %eax
    subl $8, %eax
    cmpl $0x18, %eax
    jb 3f
    movq V_HOOK, %rax
    testq %rax, %rax
    jnz 2f
3:  decl V_ARMED
    jnz 1f
    popq %rax
    movq V_RESUME_SP, %rsp
    pushq $KDATA
    pushq V_RESUME_SP
    pushq $2
    pushq $KCODE64
    pushq V_RESUME
    iretq
1:  movl $2, V_RESULT
    jmp leave64
2:  call *%rax
    popq %rax
    addq $16, %rsp
    iretq
