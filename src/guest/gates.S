# Call gates, far returns and conforming code: prot-callgate, prot-conform.
#
# QEMU's TCG raises #TS where a gate's inner stack is not present and #NP where a return's is not, has
# no limits, and lets a call gate to conforming code change CPL: it fails both parts.

.set CODE1, 0xa8                    # ring 1's code and data, where a part makes them
.set DATA1, 0xb0

# A call gate in the GDT: `access` 8C + DPL for 32 bits, 84 + DPL for 16.
.macro call_gate selector, code, offset, access, count=0
    movl $(((\code) << 16) | ((\offset) & 0xffff)), GDT + \selector
    movl $(((\offset) & 0xffff0000) | ((\access) << 8) | (\count)), GDT + \selector + 4
.endm
# To `cs`:`offset` in an outer ring, with this stack and these flags.
.macro outer32 cs, offset, ss=UDATA, sp=USER_STACK, flags=2
    pushl $\ss
    pushl $\sp
    pushl $\flags
    pushl $\cs
    pushl $(\offset)
    iretl
.endm
# A far return to ring 3 that must fault.
.macro far_return_faults cs, ss, vector, error, text
    try32 1f
    pushl $\ss
    pushl $USER_STACK
    pushl $\cs
    pushl $0
    lretl
1:  trapped32 \vector, \error, "\text"
.endm
.macro gate_faults selector, vector, error, text
    faults32
2:  lcalll $\selector, $0
1:  trapped32 \vector, \error, "\text"
.endm

.code32
part_prot_callgate:
    movb $0xee, IDT32 + 0x31 * 8 + 5
    # 31 parameters, as many as there can be.
    call_gate 0x90, KCODE32, (gate_copy - R), 0xec, 31
    try32 1f
    user32 gate_user31
1:  trapped32 0x31, 0, "a call gate with 31 parameters"
    movl %ebx, %eax
    check32 $USER_STACK, "RETF 124 drops them on both stacks"
    movl 0x20000 + 35 * 4, %eax
    check32 $RING0_STACK, "the inner stack began at the TSS's ESP0"
    movl 0x20000, %eax
    check32 $(gate_user31_back - R), "the gate pushes EIP"
    movl 0x20004, %eax
    check32 $UCODE32, "the gate pushes CS"
    movl $31, %ecx
    xorl %edx, %edx
2:  movl $32, %eax
    subl %ecx, %eax
    xorl 0x20004(, %ecx, 4), %eax   # the last one pushed lies lowest
    orl %eax, %edx
    loop 2b
    movl %edx, %eax
    check32 $0, "all parameters, in their order"
    movl 0x20000 + 33 * 4, %eax
    check32 $(USER_STACK - 124), "the gate pushes the outer ESP"
    movl 0x20000 + 34 * 4, %eax
    check32 $UDATA, "the gate pushes the outer SS"

    # A 16-bit gate: words, of a caller with a 16-bit IP.
    descriptor 0x98, 0xf0000, 0xffff, 0xfa
    call_gate 0x90, KCODE16, (gate_copy16 - guest_rom), 0xe4, 3
    try32 1f
    outer32 0x9b, (gate_user16 - guest_rom)
1:  trapped32 0x31, 0, "a 16-bit call gate"
    movl %ebx, %eax
    check32 $USER_STACK, "RETF 6 in 16 bits"
    movl 0x20010, %eax
    check32 $(RING0_STACK - 14), "seven words on the inner stack"
    movl 0x20000, %eax
    check32 $(0x9b0000 + gate_user16_back - guest_rom), "the 16-bit gate pushes CS and IP"
    movl 0x20004, %eax
    check32 $0x22223333, "the 16-bit gate copies words: the last two"
    movl 0x20008, %eax
    check32 $(0x1111 | (USER_STACK - 6) << 16), "the first word, and SP"
    movzwl 0x2000c, %eax
    check32 $UDATA, "the 16-bit gate pushes SS"

    # To ring 1, and what can be wrong with its stack. The fault's own handler has ring 0's.
    descriptor CODE1, 0, 0xfffff, 0xbb, 0xc
    descriptor DATA1, 0, 0xfffff, 0xb3, 0xc
    call_gate 0x90, CODE1, (gate_ring1 - R), 0xec, 1
    movl $0x7800, TSS32 + 0x0c
    movl $(DATA1 | 1), TSS32 + 0x10
    faults32
2:  pushl $0x5151
    lcalll $0x93, $0
1:  trapped32 0x31, 0, "a call gate to ring 1"
    movl V_CS, %eax
    check32 $(CODE1 | 1), "CS in ring 1"
    movl RING0_STACK - 4, %eax
    check32 $(DATA1 | 1), "SS in ring 1"
    movl RING0_STACK - 8, %eax
    check32 $(0x7800 - 20), "ESP in ring 1"
    movl %ebx, %eax
    check32 $0x5151, "the parameter in ring 1"
    movl $0, TSS32 + 0x10
    gate_faults 0x93, 10, 0, "#TS: an inner SS that is null"
    movl $DATA1, TSS32 + 0x10
    gate_faults 0x93, 10, DATA1, "#TS: an inner SS with another RPL"
    movl $0x29, TSS32 + 0x10
    gate_faults 0x93, 10, 0x28, "#TS: an inner SS with another DPL"
    movl $0x1001, TSS32 + 0x10
    gate_faults 0x93, 10, 0x1000, "#TS: an inner SS beyond the GDT"
    movl $(CODE1 | 1), TSS32 + 0x10
    gate_faults 0x93, 10, CODE1, "#TS: an inner SS with code"
    movl $(DATA1 | 1), TSS32 + 0x10
    movb $0xb1, GDT + DATA1 + 5
    gate_faults 0x93, 10, DATA1, "#TS: an inner SS that is read-only"
    movb $0x33, GDT + DATA1 + 5
    gate_faults 0x93, 12, DATA1, "#SS: an inner SS not present"
    movb $0xb3, GDT + DATA1 + 5
    descriptor SEL_TSS32, TSS32, 0x0b, 0x89
    movl $SEL_TSS32, %eax
    ltr %ax
    gate_faults 0x93, 10, SEL_TSS32, "#TS: a TSS that ends before ring 1's stack"
    descriptor SEL_TSS32, TSS32, 0x67, 0x89
    movl $SEL_TSS32, %eax
    ltr %ax

    # The gate itself and what it names.
    call_gate 0x90, KCODE32, 0, 0x8c
    try32 1f
    lcalll $0x93, $0
1:  trapped32 13, 0x90, "#GP: a gate's DPL below the RPL"
    call_gate 0x90, KCODE32, 0, 0x6c
    gate_faults 0x93, 11, 0x90, "#NP: a gate not present"
    call_gate 0x90, KCODE32, 0, 0x4c
    gate_faults 0x93, 13, 0x90, "#GP: the DPL comes before P"
    call_gate 0x90, 3, 0, 0xec
    gate_faults 0x93, 13, 0, "#GP: a gate to null"
    call_gate 0x90, KDATA, 0, 0xec
    gate_faults 0x93, 13, KDATA, "#GP: a gate to data"
    call_gate 0x90, 0x1000, 0, 0xec
    gate_faults 0x93, 13, 0x1000, "#GP: a gate to beyond the GDT"
    descriptor 0x98, 0, 0xfff, 0x1a, 0x4
    call_gate 0x90, 0x98, 0, 0xec
    gate_faults 0x93, 11, 0x98, "#NP: a gate to code not present"
    movb $0x9a, GDT + 0x98 + 5
    call_gate 0x90, 0x98, 0x1000, 0xec
    gate_faults 0x93, 13, 0, "#GP: a gate to beyond its code's limit"
    call_gate 0x90, UCODE32, 0, 0xec
    try32 1f
    lcalll $0x90, $0
1:  trapped32 13, (UCODE32 & ~3), "#GP: a gate from ring 0 to ring 3"
    call_gate 0x90, KCODE32, 0, 0xec
    faults32
2:  ljmpl $0x93, $0
1:  trapped32 13, KCODE32, "#GP: JMP through a gate to an inner ring"
    call_gate 0x90, UCODE32, (1f - R), 0xec, 9
    try32 2f
    user32 3f
3:  lcalll $0x90, $0
1:  int $0x31
2:  trapped32 0x31, 0, "a gate from ring 3 to ring 3"
    movl RING0_STACK - 8, %eax
    check32 $(USER_STACK - 8), "it copies nothing"

    # Far returns to ring 3.
    far_return_faults 0, UDATA, 13, 0, "#GP: RETF to null"
    far_return_faults KDATA, UDATA, 13, KDATA, "#GP: RETF to data"
    far_return_faults (KCODE32 | 3), UDATA, 13, KCODE32, "#GP: RETF with RPL 3 to ring 0 code"
    far_return_faults UCODE32, 0, 13, 0, "#GP: RETF to ring 3 without a stack"
    far_return_faults UCODE32, KDATA, 13, KDATA, "#GP: RETF to ring 3 with ring 0's stack"
    far_return_faults UCODE32, (UDATA & ~3), 13, (UDATA & ~3), "#GP: RETF to ring 3 with RPL 0 in SS"
    descriptor 0x98, 0, 0xfffff, 0x73, 0xc
    far_return_faults UCODE32, 0x9b, 12, 0x98, "#SS: RETF to a stack not present"
    descriptor 0x98, 0, 0xfffff, 0x7a, 0xc
    far_return_faults 0x9b, UDATA, 11, 0x98, "#NP: RETF to code not present"
    faults32
2:  pushl $KCODE32
    pushl $0
    lretl
1:  trapped32 13, KCODE32, "#GP: RETF to an inner ring"
    ret

gate_user31:
    movl $1, %ecx
1:  pushl %ecx
    incl %ecx
    cmpl $32, %ecx
    jne 1b
    lcalll $0x93, $0
gate_user31_back:
    movl %esp, %ebx
    int $0x31
gate_copy:
    movl $KDATA, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %esp, %esi
    movl $0x20000, %edi
    movl $35, %ecx
    rep movsl
    movl %esi, (%edi)
    movl $UDATA, %eax
    movl %eax, %ds
    movl %eax, %es
    lretl $124
gate_ring1:
    movl 8(%esp), %ebx
    int $0x31
.code16
gate_user16:
    pushw $0x1111
    pushw $0x2222
    pushw $0x3333
    lcallw $0x93, $0
gate_user16_back:
    movl %esp, %ebx
    int $0x31
gate_copy16:
    movw $KDATA, %ax
    movw %ax, %ds
    movw %ax, %es
    movl %esp, %esi
    movl $0x20000, %edi
    movl %esp, 0x10(%edi)
    movl $7, %ecx
    .byte 0x67                      # 32-bit ESI, EDI, ECX
    rep movsw
    lretw $6

.code32
# 90 conforming code of ring 0; 98 the same, execute-only; A0 conforming code of ring 3.
part_prot_conform:
    movb $0xee, IDT32 + 0x31 * 8 + 5
    descriptor 0x90, 0, 0xfffff, 0x9f, 0xc
    descriptor 0x98, 0, 0xfffff, 0x9d, 0xc
    descriptor 0xa0, 0, 0xfffff, 0xff, 0xc
    movl $0xc0de0001, 0x20000
    try32 1f
    user32 2f
2:  ljmpl $0x90, $(3f - R)
3:  movl %esp, %ebx
    int $0x31
1:  trapped32 0x31, 0, "JMP to conforming code"
    movl V_CS, %eax
    check32 $0x93, "conforming code keeps CPL, RPL 0 or not"
    movl %ebx, %eax
    check32 $USER_STACK, "no stack switch"
    faults32
2:  ljmpl $0x93, $(3f - R)
3:  hlt
1:  trapped32 13, 0, "#GP: HLT in conforming code of ring 0"
    try32 1f
    user32 2f
2:  lcalll $0x91, $(conform_far - R)
    int $0x31
1:  trapped32 0x31, 0, "CALL to conforming code, and back"
    movl V_CS, %eax
    check32 $UCODE32, "RETF from conforming code"
    movl %ebx, %eax
    check32 $0x93, "CS in conforming code"
    movl %ecx, %eax
    check32 $UCODE32, "the CS that CALL pushed"
    movl RING0_STACK - 8, %eax
    check32 $USER_STACK, "the stack after RETF"
    # Not outwards.
    try32 1f
    ljmpl $0xa0, $0
1:  trapped32 13, 0xa0, "#GP: JMP from ring 0 to conforming code of ring 3"
    try32 1f
    lcalll $0xa3, $0
1:  trapped32 13, 0xa0, "#GP: CALL from ring 0 to conforming code of ring 3"
    # A return may go to conforming code of an inner ring, at the outer CPL.
    try32 1f
    outer32 0x93, (2f - R)
2:  int $0x31
1:  trapped32 0x31, 0, "IRET to ring 3 in conforming code of ring 0"
    movl V_CS, %eax
    check32 $0x93, "IRET's RPL is the CPL"
    far_return_faults 0xa0, UDATA, 13, 0xa0, "#GP: RETF to ring 0 in conforming code of ring 3"
    # As data.
    try32 1f
    user32 2f
2:  movl $0x90, %eax
    movl %eax, %ds
    movl 0x20000, %ebx
    movl %ds, %ecx
    int $0x31
1:  movl %ebx, %eax
    check32 $0xc0de0001, "ring 3 reads conforming code of ring 0 through DS"
    movl %ecx, %eax
    check32 $0x90, "its selector keeps RPL 0"
    faults32
2:  movl $0x98, %eax
    movl %eax, %ds
1:  trapped32 13, 0x98, "#GP: DS with execute-only conforming code"
    faults32
2:  movl $KCODE32, %eax
    movl %eax, %ds
1:  trapped32 13, KCODE32, "#GP: DS with ring 0 code in ring 3"
    faults32
2:  movl $0x93, %eax
    movl %eax, %ss
1:  trapped32 13, 0x90, "#GP: SS with conforming code"
    # It survives the way to the outer ring, ring 0's data do not.
    movl $0x90, %eax
    movl %eax, %fs
    movl $KDATA, %eax
    movl %eax, %gs
    try32 1f
    user32 2f
2:  movl %fs, %ebx
    movl %gs, %ecx
    int $0x31
1:  movl %ebx, %eax
    check32 $0x90, "IRET to ring 3 keeps FS with conforming code"
    movl %ecx, %eax
    check32 $0, "IRET to ring 3 clears GS with ring 0's data"
    # Gates to conforming code: no inner ring, no stack switch, no parameters.
    call_gate 0xa8, 0x90, (1f - R), 0xec, 4
    try32 2f
    user32 3f
3:  lcalll $0xab, $0
1:  movl %esp, %ebx
    int $0x31
2:  movl V_CS, %eax
    check32 $0x93, "a call gate to conforming code keeps CPL"
    movl %ebx, %eax
    check32 $(USER_STACK - 8), "a call gate to conforming code keeps the stack"
    try32 2f
    call_gate 0xa8, 0x90, (1f - R), 0xec
    user32 3f
3:  ljmpl $0xab, $0
1:  int $0x31
2:  trapped32 0x31, 0, "JMP through a gate to conforming code"
    movl $(0x900000 | ((conform_int - R) & 0xffff)), IDT32 + 0x32 * 8
    movl $(0xf0000 | 0xee00), IDT32 + 0x32 * 8 + 4
    try32 1f
    user32 2f
2:  int $0x32
    int $0x31
1:  trapped32 0x31, 0, "an interrupt gate to conforming code"
    movl %ebx, %eax
    check32 $0x93, "its handler's CS"
    movl %ecx, %eax
    check32 $(USER_STACK - 12), "its frame, on ring 3's stack"
    movl RING0_STACK - 8, %eax
    check32 $USER_STACK, "IRET from it"
    ret
conform_far:
    movl %cs, %ebx
    movl 4(%esp), %ecx
    lretl
conform_int:
    movl %cs, %ebx
    movl %esp, %ecx
    iretl
