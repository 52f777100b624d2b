# The chipset: pci, pam, a20.

.code64
# Configuration dword at EAX (bus, device, function, register), in EAX.
pci_read:
    movl $0xcf8, %edx
    outl %eax, %dx
    movl $0xcfc, %edx
    inl %dx, %eax
    ret
.macro pci function, register
    movl $(0x80000000 | (\function << 8) | \register), %eax
    call pci_read
.endm
# A character, and ECX hexadecimal digits of EAX's top, into the part's details.
detail_char:
    movq V_DETAIL, %rdi
    stosb
    movq %rdi, V_DETAIL
    ret
detail_hex:
    roll $4, %eax
    pushq %rax
    andb $15, %al
    cmpb $10, %al
    jb 1f
    addb $('a' - '0' - 10), %al
1:  addb $'0', %al
    call detail_char
    popq %rax
    decl %ecx
    jnz detail_hex
    ret
.macro detail digits, char
    movl $\digits, %ecx
    call detail_hex
    movb $\char, %al
    call detail_char
.endm

part_pci:
    movl $0xcf8, %edx
    movl $0x80000000, %eax
    outl %eax, %dx
    inl %dx, %eax
    movl %eax, %eax
    shrl $4, %eax
    check64 $0x08000000, "CONFIG_ADDRESS reads back"
    movl $0xcfe, %edx
    inw %dx, %ax
    movzwl %ax, %eax
    check64 $0x1237, "the 440FX's device ID, a word at CFE"
    movl $0xcfd, %edx
    inb %dx, %al
    movzbl %al, %eax
    check64 $0x80, "a byte at CFD"
    pci 0, 0
    check64 $0x12378086, "00:00.0"
    movl $0xcfc, %edx
    xorl %eax, %eax
    outl %eax, %dx
    pci 0, 0
    check64 $0x12378086, "IDs cannot be written"
    pci 8, 0
    check64 $0x70008086, "00:01.0"
    pci 8, 0xc
    shrl $16, %eax
    andl $0xff, %eax
    check64 $0x80, "00:01.0 has several functions"
    # A byte of configuration space.
    pci 8, 0x60
    movl %eax, %ebx
    movl $0xcfd, %edx
    movb $0x0b, %al
    outb %al, %dx
    pci 8, 0x60
    shrl $8, %eax
    andl $0xff, %eax
    check64 $0x0b, "PIRQB, written as a byte"
    movl $0xcfc, %edx
    movl %ebx, %eax
    outl %eax, %dx
    # Without the enable bit there is no configuration cycle.
    movl $0, %eax
    call pci_read
    notl %eax
    check64 $0, "CFC with CONFIG_ADDRESS disabled"
    # Bus 0, every function: "  00:dd.f vvvv:dddd class cccccc".
    xorl %ebx, %ebx
1:  movl %ebx, %eax
    shll $8, %eax
    orl $0x80000000, %eax
    call pci_read
    cmpw $-1, %ax
    jne 2f
    testl $7, %ebx
    jnz 4f
    addl $8, %ebx                   # no function 0: no device
    jmp 5f
2:  incl V_A
    movl %eax, %r8d
    movb $' ', %al
    call detail_char
    call detail_char
    xorl %eax, %eax
    detail 2, ':'
    # Bits 7-3 of EBX are the device, 2-0 the function.
    movl %ebx, %eax
    shrl $3, %eax
    shll $24, %eax
    detail 2, '.'
    movl %ebx, %eax
    shll $29, %eax
    shrl $1, %eax
    detail 1, ' '
    movl %r8d, %eax
    shll $16, %eax
    detail 4, ':'
    movl %r8d, %eax
    detail 4, ' '
    movl %ebx, %eax
    shll $8, %eax
    orl $0x80000008, %eax
    call pci_read
    detail 6, '\r'
    movb $'\n', %al
    call detail_char
    # Functions 1 to 7 only where the header says so.
    testl $7, %ebx
    jnz 4f
    movl %ebx, %eax
    shll $8, %eax
    orl $0x8000000c, %eax
    call pci_read
    btl $23, %eax
    jc 4f
    addl $8, %ebx
    jmp 5f
4:  incl %ebx
5:  cmpl $0x100, %ebx
    jb 1b
    movl V_A, %eax
    cmpl $2, %eax
    setae %al
    movzbl %al, %eax
    check64 $1, "the host bridge and the ISA bridge, at least"
    ret

# PAM3 (5Ch), low half: D0000-D3FFF. Bit 0 reads RAM, bit 1 writes RAM.
.set PAM_AT, 0xd0000
.macro pam_set value
    movl $0x80000000 | 0x5c, %eax
    movl $0xcf8, %edx
    outl %eax, %dx
    movl $0xcfc, %edx
    movb $\value, %al
    outb %al, %dx
.endm
part_pam:
    # The ROM this runs from takes no writes.
    movl 0xf0000, %ebx
    movl $0x600dbad0, 0xf0000
    movl 0xf0000, %eax
    subl %ebx, %eax
    check64 $0, "a write to ROM is dropped"
    pam_set 3
    movl $0x11112222, PAM_AT
    movl $0x33334444, PAM_AT + 0x3ffc
    movl PAM_AT, %eax
    check64 $0x11112222, "shadow RAM, read and write"
    pam_set 1
    movl $0x55556666, PAM_AT
    movl PAM_AT, %eax
    check64 $0x11112222, "shadow RAM, read only"
    # Code runs there, and a copy of the ROM reads as the ROM does.
    pam_set 3
    movl $0xf0000, %esi
    movl $PAM_AT, %edi
    movl $0x400, %ecx
    rep movsl
    movl $0xf0000, %esi
    movl $PAM_AT, %edi
    movl $0x400, %ecx
    repe cmpsl
    movl %ecx, %eax
    check64 $0, "1000 bytes of the ROM in shadow RAM"
    movw $0x2ab0, PAM_AT            # movb $42, %al; ret
    movb $0xc3, PAM_AT + 2
    pam_set 1
    xorl %eax, %eax
    movl $PAM_AT, %ecx
    call *%rcx
    check64 $42, "code in read-only shadow RAM"
    pam_set 0
    movl PAM_AT, %eax
    andl $0xffffff, %eax
    subl $0xc32ab0, %eax
    setz %al
    movzbl %al, %eax
    check64 $0, "shadow RAM hidden"
    pam_set 1
    movl PAM_AT + 0x3ffc, %eax
    check64 $0x33334444, "shadow RAM keeps what it holds"
    # Write-only: what a BIOS uses to copy itself.
    pam_set 2
    movl $0x77770000, PAM_AT
    pam_set 1
    movl PAM_AT, %eax
    movl %eax, %ebx
    pam_set 0
    movl %ebx, %eax
    check64 $0x77770000, "shadow RAM, write only"
    ret

# Port 92h, bit 1. The code, the tables and the stack lie below 1 MiB and feel nothing.
.macro a20 value
    inb $0x92, %al
    andb $0xfc, %al
    orb $\value, %al
    outb %al, $0x92
.endm
part_a20:
    movl $0x0a20, 0x20500
    movl $0x1a20, 0x120500
    movl 0x20500, %eax
    check64 $0x0a20, "A20 on: two places"
    inb $0x92, %al
    andl $2, %eax
    check64 $2, "port 92h reads back"
    a20 0
    movl 0x120500, %eax
    movl %eax, %ebx
    movl $0x2a20, 0x120504
    movl 0x220500, %ecx             # an even MiB is itself
    a20 2
    movl %ebx, %eax
    check64 $0x0a20, "A20 off: 120500 is 20500"
    movl 0x20504, %eax
    check64 $0x2a20, "a write to 120504 with A20 off"
    movl 0x120500, %eax
    check64 $0x1a20, "A20 on again"
    subl 0x220500, %ecx
    movl %ecx, %eax
    check64 $0, "220500 with A20 off"
    ret
