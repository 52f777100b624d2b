# Mode switches: from the home loop into a part and back, and the descriptor tables.

.set KCODE32, 0x08
.set KCODE64, 0x10
.set KDATA,   0x18
.set UCODE32, 0x23
.set UDATA,   0x2b
.set UCODE64, 0x33
.set KCODE32_SYSENTER, 0x40
.set KCODE16, 0x60
.set KDATA16, 0x68
.set SEL_TSS32, 0x70
.set SEL_TSS64, 0x78
.set SEL_TSS32B, 0x88
.set SEL_FREE, 0x90                 # 90, 98, A0, A8, B0, B8 are a part's own

# The accessed bits are set, so that loading from the copy in ROM writes nothing.
.p2align 3
gdt:
    .quad 0
    .quad 0x00cf9b000000ffff        # 08 ring 0 code, 32-bit
    .quad 0x00af9b000000ffff        # 10 ring 0 code, 64-bit (SYSCALL wants the data after it)
    .quad 0x00cf93000000ffff        # 18 ring 0 data
    .quad 0x00cffb000000ffff        # 20 ring 3 code, 32-bit (SYSRET wants this order)
    .quad 0x00cff3000000ffff        # 28 ring 3 data
    .quad 0x00affb000000ffff        # 30 ring 3 code, 64-bit
    .quad 0x00cff3000000ffff        # 38
    .quad 0x00cf9b000000ffff        # 40 SYSENTER's four
    .quad 0x00cf93000000ffff        # 48
    .quad 0x00cffb000000ffff        # 50
    .quad 0x00cff3000000ffff        # 58
    .quad 0x00009b0f0000ffff        # 60 ring 0 code, 16-bit, over the ROM
    .quad 0x000093000000ffff        # 68 ring 0 data, 16-bit
    .quad 0x0000890022000067        # 70 TSS32
    .quad 0x0000890026000067        # 78 TSS64
    .quad 0
    .quad 0x0000890024000067        # 88 TSS32B
    .fill 6, 8, 0
gdt_end:
gdt_pointer:
    .short gdt_end - gdt - 1
    .quad GDT
gdt_rom_pointer:
    .short gdt_end - gdt - 1
    .quad gdt - R
idt32_pointer:
    .short 64 * 8 - 1
    .quad IDT32
idt64_pointer:
    .short 64 * 16 - 1
    .quad IDT64
ivt_pointer:
    .short 0x3ff
    .quad 0

.code16
run_real:
    # All exceptions, and the software interrupts the parts use, go to the stubs in traps.S.
    xorw %di, %di
    movw $(trap16_stubs - guest_rom), %ax
    movw $32, %cx
1:  stosw
    movw $0xf000, (%di)
    addw $2, %di
    addw $8, %ax
    loop 1b
    call *%bp
leave16:
    jmp home

enter64:
    movl $(enter64_tables - R), %esi
    jmp 1f
enter32:
    movl $(enter32_call - R), %esi
1:  movzwl %bp, %ebp
    addl $0xf0000, %ebp             # the part's entry, linear
    lgdtl %cs:(gdt_pointer - guest_rom)
    movl $0x11, %eax
    movl %eax, %cr0
    ljmpl $KCODE32, $(enter_flat - R)

.code32
enter_flat:
    movl $KDATA, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    movl %eax, %fs
    movl %eax, %gs
    movl $STACK, %esp
    jmp *%esi
enter32_call:
    movl $IDT32, %edi
    movl $(trap32_stubs - R), %eax
    movl $64, %ecx
1:  movw %ax, (%edi)
    movw $KCODE32, 2(%edi)
    movl $(0xf0000 | 0x8e00), 4(%edi)
    addl $8, %edi
    addl $16, %eax
    loop 1b
    lidtl idt32_pointer - R
    movl $RING0_STACK, TSS32 + 4
    movl $KDATA, TSS32 + 8
    movw $0x68, TSS32 + 0x66        # no I/O bitmap: it would begin past the limit
    movl $SEL_TSS32, %eax
    ltr %ax
    call *%ebp
    # Also where a failed part comes, from any 32-bit context of ring 0.
leave32:
    cli
    cld
    movl $KDATA, %eax
    movl %eax, %ss
    movl %eax, %ds                  # null where ring 3 was left last
    movl $STACK, %esp
    movl $0x11, %eax                # paging off first: all pages here are mapped one to one
    movl %eax, %cr0
    xorl %eax, %eax
    movl %eax, %cr3
    movl $0xc0000080, %ecx          # EFER
    xorl %edx, %edx
    wrmsr
    movl %eax, %cr4
    movl $0x400, %eax
    movl %eax, %dr7
    lgdtl gdt_rom_pointer - R
    pushl $2
    popfl
    ljmpl $KCODE16, $(leave_prot16 - guest_rom)
.code16
leave_prot16:
    # Limits and attributes of real mode stay with the segment registers.
    movw $KDATA16, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    movw %ax, %fs
    movw %ax, %gs
    lidtl %cs:(ivt_pointer - guest_rom)
    movl $0x10, %eax
    movl %eax, %cr0
    ljmpw $0xf000, $(home - guest_rom)

.code32
enter64_tables:
    # In 2 MiB pages: 16 MiB from 0 and the ROM below 4 GiB one to one, the two APICs above the RAM,
    # where a 32-bit displacement reaches them.
    movl $0x10000, %edi
    movl $0x1000, %ecx
    xorl %eax, %eax
    rep stosl
    movl $0x11007, 0x10000
    movl $0x12007, 0x11000
    movl $0x13007, 0x11000 + 3 * 8
    movl $0x87, %eax
    movl $0x12000, %edi
    movl $8, %ecx
1:  movl %eax, (%edi)
    addl $0x200000, %eax
    addl $8, %edi
    loop 1b
    movl $(0xfec00000 | 0x9b), 0x12000 + (IOAPIC >> 21) * 8
    movl $(0xfee00000 | 0x9b), 0x12000 + (LAPIC >> 21) * 8
    movl $0xffe00087, 0x13000 + 0x1ff * 8
    movl $0x20, %eax                # PAE
    movl %eax, %cr4
    movl $0x10000, %eax
    movl %eax, %cr3
    movl $0xc0000080, %ecx
    movl $0x901, %eax               # NXE, LME, SCE
    xorl %edx, %edx
    wrmsr
    movl $0x80000011, %eax
    movl %eax, %cr0
    ljmpl $KCODE64, $(enter64_flat - R)
.code64
enter64_flat:
    movl $STACK, %esp
    movl $IDT64, %edi
    movl $(trap64_stubs - R), %eax
    movl $64, %ecx
1:  movw %ax, (%rdi)
    movw $KCODE64, 2(%rdi)
    movl $(0xf0000 | 0x8e00), 4(%rdi)
    movq $0, 8(%rdi)
    addl $16, %edi
    addl $16, %eax
    decl %ecx
    jnz 1b
    lidtq idt64_pointer(%rip)
    movq $RING0_STACK, TSS64 + 4
    movq $IST1_TOP, TSS64 + 0x24
    movq $IST2_TOP, TSS64 + 0x2c
    movw $0x68, TSS64 + 0x66
    movl $SEL_TSS64, %eax
    ltr %ax
    movl %ebp, %ebp
    call *%rbp
    # Also where a failed part comes, from any context of ring 0.
leave64:
    cli
    movl $STACK, %esp
    lgdtq gdt_rom_pointer(%rip)
    pushq $KCODE32
    pushq $(leave32 - R)
    lretq
