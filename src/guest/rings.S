# Ring 3 of protected mode and the ways back: prot-ring3.

# To ring 3 at `label`, with the ring 3 stack and these flags.
.macro user32 label, flags=2
    pushl $UDATA
    pushl $USER_STACK
    pushl $\flags
    pushl $UCODE32
    pushl $(\label - R)
    iretl
.endm
# What follows is run in ring 3 and raises an exception, which goes on at 1 in ring 0.
.macro faults32 flags=2
    pushl $\flags
    pushl $(1f - R)
    call faults_32
.endm

.code32
part_prot_ring3:
    movl $(RING0_STACK - 0x40), %edi
    movl $16, %ecx
    xorl %eax, %eax
    rep stosl
    movb $0xee, IDT32 + 0x31 * 8 + 5            # vector 31h may be raised from ring 3
    faults32
2:  int $0x31
1:  trapped32 0x31, 0, "INT 31h in ring 3"
    # The stack switch by the TSS: SS, ESP, EFLAGS, CS, EIP of ring 3.
    movl RING0_STACK - 4, %eax
    check32 $UDATA, "the frame's SS"
    movl RING0_STACK - 8, %eax
    check32 $USER_STACK, "the frame's ESP"
    movl RING0_STACK - 12, %eax
    check32 $2, "the frame's EFLAGS"
    movl RING0_STACK - 16, %eax
    check32 $UCODE32, "the frame's CS"
    # Data segments of ring 0 are made null on the way out.
    movl $KDATA, %eax
    movl %eax, %fs
    faults32
2:  movl %fs, %ebx
    int $0x31
1:  movl %ebx, %eax
    check32 $0, "IRET to ring 3 clears FS of ring 0"
    # What ring 3 may not do.
    faults32
2:  int $0x30
1:  trapped32 13, 0x182, "#GP: INT 30h from ring 3"
    faults32
2:  cli
1:  trapped32 13, 0, "#GP: CLI in ring 3"
    faults32
2:  hlt
1:  trapped32 13, 0, "#GP: HLT in ring 3"
    faults32
2:  movl %cr0, %eax
1:  trapped32 13, 0, "#GP: MOV from CR0 in ring 3"
    faults32
2:  inb $0x21, %al
1:  trapped32 13, 0, "#GP: IN in ring 3 without a bitmap"
    faults32
2:  movl $KDATA, %eax
    movl %eax, %ds
1:  trapped32 13, KDATA, "#GP: ring 0 data in ring 3"
    faults32
2:  movl $KDATA, %eax
    movl %eax, %ss
1:  trapped32 13, KDATA, "#GP: SS with ring 0 data in ring 3"
    faults32
2:  ljmpl $KCODE32, $0
1:  trapped32 13, KCODE32, "#GP: far JMP to ring 0"
    faults32
2:  pushl $2
    pushl $KCODE32
    pushl $(2b - R)
    iretl
1:  trapped32 13, KCODE32, "#GP: IRET to an inner ring"
    # POPF in ring 3 with IOPL 0 leaves IF and IOPL.
    faults32
2:  pushl $0x3202
    popfl
    int $0x31
1:  movl V_FLAGS, %eax
    check32 $2, "POPF in ring 3 keeps IF and IOPL"
    faults32 0x3002
2:  sti
    cli
    inb $0x61, %al
    int $0x31
1:  trapped32 0x31, 0, "CLI and IN with IOPL 3"
    movl V_FLAGS, %eax
    andl $0x3200, %eax
    check32 $0x3000, "IOPL in the frame"
    # The I/O bitmap, of the 128 ports and one byte of ones after it.
    descriptor SEL_TSS32, TSS32, 0x78, 0x89
    movl $SEL_TSS32, %eax
    ltr %ax
    movw $0x68, TSS32 + 0x66
    movl $0, TSS32 + 0x68
    movl $0, TSS32 + 0x6c
    movl $0, TSS32 + 0x70
    movl $0x80000000, TSS32 + 0x74  # port 7F
    movb $0xff, TSS32 + 0x78
    faults32
2:  inb $0x61, %al
    int $0x31
1:  trapped32 0x31, 0, "IN of a port the bitmap allows"
    faults32
2:  inb $0x7f, %al
1:  trapped32 13, 0, "#GP: a port the bitmap refuses"
    faults32
2:  inw $0x7e, %ax
1:  trapped32 13, 0, "#GP: a word with one byte refused"
    faults32
2:  movl $0x400, %edx
    inb %dx, %al
1:  trapped32 13, 0, "#GP: a port beyond the bitmap"

    # A call gate with two parameters.
    movl $((KCODE32 << 16) | ((gate_target - R) & 0xffff)), GDT + 0x90
    movl $(((gate_target - R) & 0xffff0000) | 0xec02), GDT + 0x94
    try32 1f
    user32 gate_caller
1:  trapped32 0x31, 0, "back from the call gate"
    movl V_A, %eax
    check32 $KCODE32, "the gate's code runs in ring 0"
    movl V_B, %eax
    check32 $0x1111, "the gate copies the first parameter"
    movl V_C, %eax
    check32 $0x2222, "the gate copies the second parameter"
    movl V_D, %eax
    check32 $(USER_STACK - 8), "the gate pushes ring 3's ESP"
    movl %ebx, %eax
    check32 $USER_STACK, "RETF 8 drops the parameters on both stacks"
    movb $0x8c, GDT + 0x95          # DPL 0
    faults32
2:  lcalll $0x93, $0
1:  trapped32 13, 0x90, "#GP: a gate of ring 0 from ring 3"

    # SYSENTER and SYSEXIT, where CPUID has them.
    movl $1, %eax
    cpuid
    btl $11, %edx
    jnc 9f
    xorl %edx, %edx
    movl $0x174, %ecx
    movl $KCODE32_SYSENTER, %eax
    wrmsr
    movl $0x175, %ecx
    movl $RING0_STACK, %eax
    wrmsr
    movl $0x176, %ecx
    movl $(sysenter_target - R), %eax
    wrmsr
    try32 1f
    user32 sysenter_caller
1:  trapped32 0x31, 0, "back from SYSENTER"
    movl V_A, %eax
    check32 $(KCODE32_SYSENTER | (KCODE32_SYSENTER + 8) << 16), "SYSENTER loads CS and SS"
    movl V_B, %eax
    check32 $RING0_STACK, "SYSENTER loads ESP"
    movl %ebx, %eax
    check32 $((KCODE32_SYSENTER + 19) | (KCODE32_SYSENTER + 27) << 16), "SYSEXIT loads CS and SS"
    movl %ebp, %eax
    check32 $(USER_STACK - 16), "SYSEXIT takes ESP from ECX"
    xorl %edx, %edx
    xorl %eax, %eax
    movl $0x174, %ecx
    wrmsr
    try32 1f
    user32 sysenter_caller
1:  trapped32 13, 0, "#GP: SYSENTER without its CS"
9:  ret

faults_32:
    popl V_BACK
    popl V_RESUME
    popl V_BACK_FLAGS
    call try_again
    pushl $UDATA
    pushl $USER_STACK
    pushl V_BACK_FLAGS
    pushl $UCODE32
    pushl V_BACK
    iretl
gate_caller:
    pushl $0x1111
    pushl $0x2222
    lcalll $0x93, $0xdeadbeef       # a gate's offset counts, not the call's
    movl %esp, %ebx
    int $0x31
gate_target:
    movl $KDATA, %eax
    movl %eax, %ds
    movl %cs, %eax
    movl %eax, V_A
    movl 12(%esp), %eax
    movl %eax, V_B
    movl 8(%esp), %eax
    movl %eax, V_C
    movl 16(%esp), %eax
    movl %eax, V_D
    movl $UDATA, %eax
    movl %eax, %ds
    lretl $8

sysenter_caller:
    sysenter
    ud2
sysenter_target:
    movl $KDATA, %eax
    movl %eax, %ds
    movl %ss, %eax
    shll $16, %eax
    movw %cs, %ax
    movl %eax, V_A
    movl %esp, V_B
    movl $(1f - R), %edx
    movl $(USER_STACK - 16), %ecx
    sysexit
1:  movl %ss, %ebx
    shll $16, %ebx
    movw %cs, %bx
    movl %esp, %ebp
    int $0x31
